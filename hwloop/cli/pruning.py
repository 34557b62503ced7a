"""`hwloop pruning validate-proxy`: whether cheap error estimates rank a study's candidates as training does."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from hwloop.errors import UserError

if TYPE_CHECKING:
    from hwloop.pruning.proxy import Judged
    from hwloop.study.proxy_stage import ProxyReport

app = typer.Typer(help="Look into the pruning of a study.", no_args_is_help=True)


def register(parent: typer.Typer) -> None:
    """Add the commands of this group."""
    parent.add_typer(app, name="pruning")


@app.callback()
def _group() -> None:
    """Keep `validate-proxy` a command of its own though it is the only one."""


@app.command("validate-proxy")
def validate_proxy(
    study: Annotated[Path, typer.Argument(help="The study file.")] = Path("study.toml"),
    candidates: Annotated[int, typer.Option(min=4, help="How many candidates are compared.")] = 16,
    band: Annotated[str, typer.Option(help="Their cost, in shares of the base network's.")] = "0.35-0.5",
    by: Annotated[str, typer.Option(help="macs, or latency (predicted; known once the study has run).")] = "macs",
    fidelities: Annotated[
        str, typer.Option(help="To be compared with the full fine-tune, separated by commas.")
    ] = "recalibrated,shared-weights,short-fine-tune",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, and nothing else.")] = False,
) -> None:
    """Rank candidates of equal cost by cheap error estimates and by full fine-tuning, and print how far they agree."""
    from hwloop.cli.display import Display
    from hwloop.progress import Silent
    from hwloop.study.proxy_stage import Band
    from hwloop.study.proxy_stage import validate_proxy as validated

    console = Console()
    progress = Silent() if as_json else Display(console)
    names = [name.strip() for name in fidelities.split(",") if name.strip()]
    report = validated(study, candidates, Band(*_shares(band), by), names, progress)
    if as_json:
        typer.echo(json.dumps(report.to_dict(), indent=1, allow_nan=False))
    else:
        _show(report, console)


def _shares(text: str) -> tuple[float, float]:
    """A band from "0.35-0.5".

    Raises:
        UserError: it is none.
    """
    low, _, high = text.partition("-")
    try:
        return float(low), float(high)
    except ValueError:
        raise UserError(f"--band {text}: give two shares of the base's cost, such as 0.35-0.5") from None


def _show(report: ProxyReport, console: Console) -> None:
    band = report.band
    console.print(
        f"\n{len(report.candidates)} candidates of {band.low:.0%} to {band.high:.0%} of the base's {band.by}, "
        f"judged on {report.judged[0].estimates[0].n} held-out images",
        highlight=False,
    )
    table = Table("fidelity", "tau", "95 % interval", "median error", "each", "once", box=None, pad_edge=False)
    for one in report.judged:
        table.add_row(one.fidelity, *_agreement(one), f"{one.median_error:.3f}", _time(one.seconds), _time(one.once_s))
    console.print(table)
    console.print("[dim]tau: Kendall's, of the ranking by full fine-tuning; 1 is the same order, 0 is chance[/]")


def _agreement(one: Judged) -> tuple[str, str]:
    if one.agreement is None:
        return "the truth", ""
    if one.agreement.tau != one.agreement.tau:
        return "all equal", ""
    return f"{one.agreement.tau:+.2f}", f"{one.agreement.low:+.2f} to {one.agreement.high:+.2f}"


def _time(seconds: float) -> str:
    return f"{seconds:.2f} s" if seconds else "–"
