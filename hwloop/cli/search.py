"""`hwloop search compare`: several search algorithms on the problem of a study."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from hwloop.errors import UserError

if TYPE_CHECKING:
    from hwloop.study.comparing import Comparison

app = typer.Typer(help="Search algorithms.", no_args_is_help=True)


def register(parent: typer.Typer) -> None:
    """Add the commands of this group."""
    parent.add_typer(app, name="search")


@app.callback()
def _group() -> None:
    pass


@app.command("compare")
def compare(
    path: Annotated[Path, typer.Argument(help="A study that was carried out.")] = Path("study.toml"),
    algorithms: Annotated[str, typer.Option(help="Names, with commas between.")] = "hamp,nsga2",
    seeds: Annotated[int, typer.Option(help="Runs of each algorithm, with seeds 0, 1, …", min=1)] = 7,
    rival: Annotated[str, typer.Option("--against", help="The one that the others are compared with.")] = "nsga2",
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON, and nothing else.")] = False,
) -> None:
    """Run algorithms with the study's space, judge, predictor and budget, and compare what they find.

    Nothing is measured. Journals are kept in the study directory: a comparison goes on where it was interrupted.
    """
    # Imported here: the command line must answer at once, and these bring torch along.
    from hwloop.cli.display import Display
    from hwloop.progress import Silent
    from hwloop.report.comparison import write_comparison
    from hwloop.study.comparing import compare_algorithms

    names = list(dict.fromkeys(name.strip() for name in algorithms.split(",") if name.strip()))
    if not names:
        raise UserError("--algorithms names no algorithm")
    console = Console()
    progress = Silent() if as_json else Display(console)
    comparison, folder = compare_algorithms(path, names, range(seeds), rival, progress)
    page = folder / "compare.html"
    write_comparison(comparison, page)
    if as_json:
        typer.echo(json.dumps(as_data(comparison), indent=1))
    else:
        _show(comparison, console)
        console.print(f"\ncurves and attainment: {page}")


def as_data(comparison: Comparison) -> dict[str, Any]:
    """A comparison as JSON-able data."""
    return {
        "study": comparison.study,
        "objectives": list(comparison.objectives),
        "evaluations": comparison.evaluations,
        "reference": list(comparison.reference),
        "against": comparison.rival,
        "algorithms": [
            {
                "algorithm": each.algorithm,
                "seeds": list(each.seeds),
                "evaluations": each.evaluations,
                "hypervolume": dict(
                    zip(
                        ("lowest", "first_quartile", "median", "third_quartile", "highest"),
                        each.hypervolume,
                        strict=True,
                    )
                ),
                "p_value": each.p_value,
                "share_to_reach": _finite(each.share_to_reach),
                "curves": {
                    str(seed): [round(float(value), 6) for value in curve]
                    for seed, curve in comparison.curves[each.algorithm].items()
                },
            }
            for each in comparison.standings
        ],
    }


def _finite(share: float | None) -> float | None:
    """JSON has no infinity: never is None, like not compared."""
    return None if share is None or share == float("inf") else share


def _show(comparison: Comparison, console: Console) -> None:
    reference = ", ".join(
        f"{name} {value:.4g}" for name, value in zip(comparison.objectives, comparison.reference, strict=True)
    )
    title = f"{comparison.study}: {comparison.evaluations} evaluations, hypervolume up to {reference}"
    table = Table(title=title, title_justify="left")
    table.add_column("algorithm", no_wrap=True)
    for column in ("seeds", "evaluations", "median", "range", "p", f"to reach {comparison.rival}"):
        table.add_column(column, justify="right")
    for each in comparison.standings:
        share = each.share_to_reach
        reach = "" if share is None else "never" if share == float("inf") else f"{100 * share:.0f} %"
        table.add_row(
            each.algorithm,
            str(len(each.seeds)),
            str(each.evaluations),
            f"{each.median:.4f}",
            f"{each.hypervolume[0]:.4f}-{each.hypervolume[4]:.4f}",
            "" if each.p_value is None else f"{each.p_value:.4f}",
            reach,
        )
    console.print(table)
