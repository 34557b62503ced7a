"""A governor that is held over SSH, and a connection that breaks meanwhile."""

from __future__ import annotations

from dataclasses import replace

import pytest

from hwloop.devices import tuning
from hwloop.errors import TransportError
from tests.boards.x86 import wait_until
from tests.devices.tree_board import GOVERNOR, ORIN, Board

pytestmark = pytest.mark.board


@pytest.fixture
def tree(tmp_path, board):
    """The files of the board's `/sys`; all of it is readable by the board's user, who is the tester."""
    return Board(tmp_path / "tree", ORIN)


@pytest.fixture
def device(board, tree):
    return replace(board.device(), python=str(tree.python), worker_python=str(tree.python), root=str(tree.agent_root))


def test_a_governor_is_held_over_ssh_and_put_back(device, tree):
    seen = []

    def wait(seconds: float) -> bool:
        seen.append(tree.read(GOVERNOR))
        return len(seen) < 3

    tuning.hold(device, wait, lambda changes: seen.append(changes[0].after))
    assert seen == ["performance"] * 3
    assert tree.read(GOVERNOR) == "schedutil"


def test_a_board_puts_itself_back_when_the_connection_breaks(board, device, tree):
    def cut(seconds: float) -> bool:
        assert tree.read(GOVERNOR) == "performance"
        board.cut()
        return True

    with pytest.raises(TransportError):
        tuning.hold(device, cut, lambda changes: None)
    wait_until(lambda: tree.read(GOVERNOR) == "schedutil", "the governor of before", 20)
    wait_until(lambda: not (tree.agent_root / "tuned.json").exists(), "the end of the restore file", 20)
