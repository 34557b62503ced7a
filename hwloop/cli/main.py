"""The command `hwloop`: one file per group of commands, errors of the user in one line with exit code 2."""

from __future__ import annotations

import os
import sys

import typer
from rich.console import Console

import hwloop
from hwloop.cli import (
    agent,
    compare,
    device,
    evaluate,
    export,
    ga_pruning,
    graphs,
    measure,
    predictor,
    prune,
    pruning,
    search,
    study,
    table,
    train,
)
from hwloop.errors import HwloopError, UserError
from hwloop_agent.heap import keep_freed_memory

app = typer.Typer(
    help="Measure neural networks on the device that will run them, and prune them for it.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
study.register(app)
ga_pruning.register(app)
measure.register(app)
compare.register(app)
device.register(app)
agent.register(app)
table.register(app)
predictor.register(app)
train.register(app)
evaluate.register(app)
prune.register(app)
export.register(app)
search.register(app)
pruning.register(app)
graphs.register(app)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"hwloop {hwloop.__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: bool = typer.Option(False, "--version", callback=_version, is_eager=True, help="Show the version."),
) -> None:
    pass


def main() -> None:
    """Entry point; exit codes: 0 done, 1 device or system failure, 2 bad input, 130 interrupted."""
    # A waiting OpenMP thread that spins takes the core from the one it waits for: with another busy process on two
    # cores, training took up to seven times as long. Read by torch when it is imported, so set before.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    # The predictor's matrices are small: a second BLAS thread costs more than it brings, and spins as well.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    # Training and judging allocate every result anew, as inference does on a device.
    keep_freed_memory()
    errors = Console(stderr=True)
    try:
        app()
    except UserError as error:
        errors.print(f"[red]error:[/] {_plain(error)}", highlight=False, soft_wrap=True)
        sys.exit(2)
    except HwloopError as error:
        errors.print(f"[red]failed:[/] {_plain(error)}", highlight=False, soft_wrap=True)
        sys.exit(1)
    except OSError as error:
        # A full disk, a vanished file system: what was journalled before is whole.
        errors.print(f"[red]failed:[/] {_plain(error)}; run the same command again to go on", soft_wrap=True)
        sys.exit(1)
    except KeyboardInterrupt:
        errors.print("interrupted; everything finished is kept, run the same command again to go on")
        sys.exit(130)


def _plain(error: BaseException) -> str:
    from rich.markup import escape

    return escape(" ".join(str(error).split()))


if __name__ == "__main__":
    main()
