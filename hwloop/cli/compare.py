"""`hwloop compare`: two results of `hwloop measure --json`, and which is faster."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape

from hwloop.errors import UserError

if TYPE_CHECKING:
    from hwloop.profiling import Comparison, NetworkResult

SHOWN_LAYERS = 10


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("compare")(compare_files)


def compare_files(
    a: Annotated[Path, typer.Argument(help="The reference: a file of `hwloop measure --json`.")],
    b: Annotated[Path, typer.Argument(help="What is judged.")],
    across: Annotated[
        str, typer.Option(help="What is meant to differ: runtime, threads, device, … separated by commas.")
    ] = "",
    as_data: Annotated[bool, typer.Option("--json", help="Print the verdict as JSON.")] = False,
) -> None:
    """Say whether B is faster or slower than A, or whether the difference is within the noise."""
    from hwloop.profiling import compare

    first, second = _load(a), _load(b)
    found = compare(first, second, across=[name.strip() for name in across.split(",") if name.strip()])
    if as_data:
        typer.echo(json.dumps(_data(found, first, second), indent=1))
        return
    console = Console()
    for name, one in (("A", first), ("B", second)):
        low, latency, high = one.end_to_end.numbers
        console.print(
            f"{name}  {one.model}, {one.runtime} {one.runtime_version}, threads {one.threads}, {one.device}: "
            f"{latency:.4f} ms ({low:.4f}–{high:.4f})",
            highlight=False,
            markup=False,
        )
    for difference in found.differences:
        console.print(f"[yellow]differs:[/] {escape(difference)}", highlight=False)
    floor = "not known: nothing was measured twice" if found.noise_floor is None else f"{100 * found.noise_floor:.1f} %"
    console.print(
        f"[bold]B is {found.verdict}[/]: B / A = {found.ratio:.3f} "
        f"({found.interval.low:.3f}–{found.interval.high:.3f}), noise floor {floor}",
        highlight=False,
    )
    changed = [one for one in found.layers if one[2] != "within noise"]
    if found.layers:
        console.print(f"layers in both: {len(found.layers)}, of which {len(changed)} differ", highlight=False)
    for key, ratio, verdict in changed[:SHOWN_LAYERS]:
        console.print(f"  {ratio:.3f} {verdict:>6}  {key}", highlight=False, markup=False)


def _load(path: Path) -> NetworkResult:
    from hwloop.profiling import load_results

    found = load_results(path)
    if len(found) != 1:
        raise UserError(f"{path}: holds {len(found)} results; compare files of `hwloop measure`, which hold one")
    return found[0]


def _data(found: Comparison, a: NetworkResult, b: NetworkResult) -> dict[str, Any]:
    return {
        "a": a.model,
        "b": b.model,
        "verdict": found.verdict,
        "ratio": found.ratio,
        "low": found.interval.low,
        "high": found.interval.high,
        "noise_floor": found.noise_floor,
        "differences": list(found.differences),
        "layers": [{"key": key, "ratio": ratio, "verdict": verdict} for key, ratio, verdict in found.layers],
    }
