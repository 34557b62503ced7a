"""What a test may leave open: nothing."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

CLOSING_S = 2.0


def children() -> set[int]:
    """Process ids of this process's children; a thread that ends meanwhile has handed its own to the others."""
    found: set[int] = set()
    for task in Path("/proc/self/task").iterdir():
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            found |= {int(pid) for pid in (task / "children").read_text().split()}
    return found


def open_files() -> set[str]:
    """Every open descriptor with what it points at, less the one that lists them."""
    found = set()
    for link in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):
            found.add(f"{link.name} -> {link.readlink()}")
    return {text for text in found if text.partition(" -> ")[2] != f"/proc/{os.getpid()}/fd"}


@contextmanager
def nothing_left() -> Iterator[None]:
    """Fails when a file descriptor or a child process is left behind; what a thread is just closing is not."""
    files, processes = open_files(), children()
    yield
    assert not children() - processes, "child processes left behind"
    until = time.monotonic() + CLOSING_S
    while (left := open_files() - files) and time.monotonic() < until:
        time.sleep(0.02)
    assert not left, f"file descriptors left open: {left}"
