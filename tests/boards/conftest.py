"""The x86 board as a fixture, and a check that no test leaves a thread, a descriptor or a process behind."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from hwloop.devices import AgentSession
from tests.boards import arm64
from tests.boards.debian_arm64 import missing
from tests.boards.x86 import SSHD, X86Board, wait_until
from tests.devices.conftest import Model, build_model
from tests.leaks import nothing_left


def threads() -> set[threading.Thread]:
    return set(threading.enumerate())


@pytest.fixture
def no_leaks() -> Iterator[None]:
    """Fails a test that leaves a thread, a file descriptor or a child process behind."""
    running = threads()
    with nothing_left():
        yield
        wait_until(lambda: not threads() - running, f"the end of the threads {threads() - running}", 5)


@pytest.fixture
def make_board(no_leaks: None, tmp_path: Path) -> Iterator[Callable[..., X86Board]]:
    """Starts boards, each by a name; stops them."""
    if SSHD is None:
        pytest.skip("no sshd on this machine (Debian: openssh-server)")
    with ExitStack() as started:

        def make(name: str = "board") -> X86Board:
            board = X86Board(tmp_path / name)
            board.start()
            started.callback(board.stop)
            started.callback(board.cut)
            return board

        yield make


@pytest.fixture
def board(make_board: Callable[..., X86Board]) -> X86Board:
    """A running board."""
    return make_board()


@pytest.fixture
def open_session(board: X86Board) -> Iterator[Callable[..., AgentSession]]:
    """Opens sessions with the board's agent; closes them."""
    with ExitStack() as opened:

        def open_(session_id: str = "s1", **more: Any) -> AgentSession:
            transport = more.pop("transport", None) or board.transport()
            return opened.enter_context(AgentSession.open(transport, session_id=session_id, **more))

        yield open_


@pytest.fixture(scope="session")
def model() -> Model:
    """One convolution as an ONNX model."""
    return build_model(16, 16)


@pytest.fixture(scope="session")
def arm64_board(tmp_path_factory: pytest.TempPathFactory) -> Iterator[arm64.Board]:
    """A running Debian arm64 board under emulation, with an empty home; gone after the last test."""
    reason = missing()
    if reason:
        pytest.skip(reason)
    with arm64.running(tmp_path_factory.mktemp("arm64") / "board") as board:
        yield board
