"""Builds a table as a user does, in processes that are started fast enough to be killed a hundred times."""

from __future__ import annotations

import multiprocessing
import os
import random
import sys
import time
from collections.abc import Sequence
from pathlib import Path

#: Imported once by the server that forks the building processes.
PRELOADED = ["hwloop.cli.main", "hwloop.runtimes", "hwloop.profiling", "hwloop.measurement", "hwloop.tables"]


def _build(folder: str, arguments: Sequence[str]) -> None:
    """`hwloop table build …` in a process of its own."""
    from hwloop.cli.main import main

    os.chdir(folder)
    with Path(os.devnull).open("w") as nowhere:
        os.dup2(nowhere.fileno(), 1)
    sys.argv = ["hwloop", "table", "build", *arguments]
    main()


def build(folder: Path, arguments: Sequence[str], kill_after_s: float | None = None) -> int | None:
    """Build, or begin to and be killed.

    Args:
        folder: current one of the command.
        arguments: of `hwloop table build`.
        kill_after_s: SIGKILL then; None to let it end.

    Returns:
        The exit code; -9 when it was killed.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    process = context.Process(target=_build, args=(str(folder), tuple(arguments)))
    process.start()
    if kill_after_s is None:
        process.join()
    else:
        time.sleep(kill_after_s)
        process.kill()
        process.join()
    return process.exitcode


def moments(count: int, longest_s: float, seed: int = 0) -> list[float]:
    """When to kill: at random, up to `longest_s` after the start."""
    rng = random.Random(seed)
    return [longest_s * rng.random() for _ in range(count)]
