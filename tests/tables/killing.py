"""Builds a table as a user does, in processes that are started fast enough to be killed a hundred times."""

from __future__ import annotations

import multiprocessing
import os
import random
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

#: Imported once by the server that forks the building processes.
PRELOADED = ["hwloop.cli.main", "hwloop.runtimes", "hwloop.profiling", "hwloop.measurement", "hwloop.tables"]

POLL_S = 0.001
#: Of the kills that come at a time of their own, whatever the build is doing.
EARLY_SHARE = 0.2


def _build(folder: str, arguments: Sequence[str]) -> None:
    """`hwloop table build …` in a process of its own."""
    from hwloop.cli.main import main

    os.chdir(folder)
    with Path(os.devnull).open("w") as nowhere:
        os.dup2(nowhere.fileno(), 1)
    sys.argv = ["hwloop", "table", "build", *arguments]
    main()


def build(folder: Path, arguments: Sequence[str], kill_when: Callable[[], bool] | None = None) -> int | None:
    """Build, or begin to and be killed.

    Args:
        folder: current one of the command.
        arguments: of `hwloop table build`.
        kill_when: asked again and again; SIGKILL once it says so. None to let the build end.

    Returns:
        The exit code; -9 when it was killed.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    process = context.Process(target=_build, args=(str(folder), tuple(arguments)))
    process.start()
    while kill_when is not None and process.is_alive() and not kill_when():
        time.sleep(POLL_S)
    if kill_when is not None:
        process.kill()
    process.join()
    return process.exitcode


def moment(rng: random.Random, journal: Path, longest_s: float, most_bytes: int) -> Callable[[], bool]:
    """Return a random moment: some time after now, or after the journal has grown, as chance has it.

    The clock alone would kill every build before its first trial on a slow machine and none on a fast one; the journal
    alone would kill none before it begins to measure.
    """
    if rng.random() < EARLY_SHARE:
        until = time.monotonic() + longest_s * rng.random()
        return lambda: time.monotonic() >= until
    wanted = _size(journal) + int(most_bytes * rng.random())
    return lambda: _size(journal) > wanted


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0
