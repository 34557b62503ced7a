"""`hwloop ga-pruning`: zero the weights of a network by evolution."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("ga-pruning")(ga_pruning)


def ga_pruning(
    path: Annotated[Path, typer.Argument(help="The study file; its model, data and training are used.")],
    emphasis: Annotated[str, typer.Option(help="sparsity (few parameters) or computation.")] = "sparsity",
    granularity: Annotated[str | None, typer.Option(help="Of convolutions: unstructured or coarse.")] = None,
    rounds: Annotated[int | None, typer.Option(help="Of evolution and retraining.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON, and nothing else.")] = False,
) -> None:
    """Zero weights by a genetic algorithm (Yang et al. 2019); run again, it goes on where it stopped."""
    # Imported here: the command line must answer at once, and these bring torch along.
    from hwloop.cli.display import Display
    from hwloop.progress import Silent
    from hwloop.study.ga_pruning import prune_weights

    console = Console()
    progress = Silent() if as_json else Display(console)
    pruned = prune_weights(path, emphasis, progress, rounds=rounds, granularity=granularity)
    if as_json:
        typer.echo(json.dumps(pruned.to_dict(), indent=1))
        return
    census = pruned.result.census
    lost = 100 * (pruned.base_accuracy - pruned.test_accuracy)
    console.print(
        f"round {pruned.result.chosen} of {len(pruned.result.rounds)}, chosen on the held-out images:"
        f" {1 - census.parameters_left:.2%} of {census.all_parameters} parameters removed",
        highlight=False,
    )
    if census.all_computation:
        # What is counted: a sparse kernel is worth nothing to most runtimes, a zero kernel can be left out by all.
        fine = census.all_computation / max(census.fine_computation, 1)
        coarse = census.all_computation / max(census.computation, 1)
        console.print(
            f"convolutions: {coarse:.1f}x fewer multiply-accumulates without zero kernels, {fine:.1f}x without zero"
            " weights",
            highlight=False,
        )
    console.print(
        f"test accuracy {pruned.test_accuracy:.2%} against {pruned.base_accuracy:.2%} ({lost:+.2f} points lost,"
        f" {pruned.test_images} images)",
        highlight=False,
    )
    console.print(f"weights: {pruned.folder / 'pruned.pt'}   rounds: {pruned.folder / 'rounds.ndjson'}")
