"""`hwloop table compare`: two tables of the same layers, and which is faster where."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

if TYPE_CHECKING:
    from hwloop.tables import TableComparison

SHOWN_LAYERS = 20
VERDICTS = ("faster", "slower", "within noise", "unknown")


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("compare")(compare)


def compare(
    a: Annotated[Path, typer.Argument(help="The reference: a latency table.")],
    b: Annotated[Path, typer.Argument(help="What is judged.")],
    across: Annotated[
        str, typer.Option(help="What is meant to differ: runtime, threads, device, … separated by commas.")
    ] = "",
    everything: Annotated[bool, typer.Option("--all", help="Every layer, not the largest changes only.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, and nothing else.")] = False,
) -> None:
    """Say for each layer whether it is faster or slower in B, or whether the difference is within the noise."""
    from hwloop.tables import LatencyTable, compare_tables

    names = [name.strip() for name in across.split(",") if name.strip()]
    found = compare_tables(LatencyTable.load(a), LatencyTable.load(b), across=names)
    if as_json:
        typer.echo(_as_json(found))
    else:
        _show(found, Console(), None if everything else SHOWN_LAYERS)


def _as_json(found: TableComparison) -> str:
    told = asdict(found)
    if not found.layers:
        told["ratio"] = None
    return json.dumps(told, indent=1)


def _show(found: TableComparison, console: Console, most: int | None) -> None:
    def say(text: str) -> None:
        console.print(text, highlight=False, markup=False, soft_wrap=True)

    for difference in found.differences:
        say(f"differs: {difference}")
    floor = "not known: nothing was measured twice" if found.noise_floor is None else f"{100 * found.noise_floor:.1f} %"
    if not found.layers:
        say("no layer has a latency in both tables")
    else:
        counts = {verdict: sum(one.verdict == verdict for one in found.layers) for verdict in VERDICTS}
        told = ", ".join(f"{count} {verdict}" for verdict, count in counts.items() if count)
        say(f"{len(found.layers)} layers in both: in B {told}; B / A = {found.ratio:.3f} (geometric mean)")
        say(f"noise floor {floor}")
    for keys, name in ((found.only_a, "A"), (found.only_b, "B")):
        if keys:
            say(f"{len(keys)} layers have a latency in {name} alone")
    changed = [one for one in found.layers if most is None or one.verdict in ("faster", "slower")]
    for one in changed[:most]:
        interval = f"({one.interval.low:.3f}–{one.interval.high:.3f})"
        say(f"  {one.ratio:.3f} {interval} {one.verdict:>12}  {one.key}")
    if most is not None and len(changed) > most:
        say(f"  … and {len(changed) - most} more: --all")
