"""Over SSH on loopback: from nothing to a session that is ready, with and without the agent there already."""

from __future__ import annotations

import shutil
import tempfile
import time
from pathlib import Path

from hwloop.devices import AgentSession
from tests.benchmarks.timing import milliseconds, spread
from tests.boards.x86 import SSHD, X86Board


def main() -> None:
    """Print connect-and-ready, its steps, and the time of one small request."""
    if SSHD is None:
        print("no sshd on this machine (Debian: openssh-server); nothing measured")
        return
    with tempfile.TemporaryDirectory() as folder:
        board = X86Board(Path(folder) / "board")
        board.start()
        try:
            _measure(board)
        finally:
            board.cut()
            board.stop()


def _measure(board: X86Board) -> None:
    def login() -> None:
        transport = board.transport()
        transport.connect()
        transport.close()

    def ready(fresh: bool) -> float:
        if fresh:
            shutil.rmtree(board.root, ignore_errors=True)
        began = time.perf_counter()
        with AgentSession.open(board.transport(), session_id="bench"):
            return 1e3 * (time.perf_counter() - began)

    print("connect, check the host key, log in, close:", spread(milliseconds(login, 7)))
    ready(False)
    print("connect and ready, agent there already (limit 1000 ms):", spread([ready(False) for _ in range(7)]))
    print("connect and ready, agent deployed anew:", spread([ready(True) for _ in range(7)]))
    with AgentSession.open(board.transport(), session_id="bench") as session:
        print("one request and its answer:", spread(milliseconds(session.finished, 50)))
