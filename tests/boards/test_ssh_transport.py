"""The SSH transport, on a real sshd: what every transport promises, and what only this one does."""

from __future__ import annotations

import pytest

from tests.devices.test_transports import (  # noqa: F401  (each is collected here once more, with this fixture)
    test_a_flood_on_stderr_blocks_nobody_and_only_its_end_is_kept,
    test_a_peer_that_died_is_an_end_or_an_error_and_never_a_hang,
    test_a_peer_that_does_not_read_cannot_hold_a_write,
    test_a_program_that_is_not_there_is_an_error,
    test_a_read_returns_what_there_is_and_keeps_its_deadline,
    test_bytes_go_there_and_back_unchanged,
    test_closing_can_end_a_program_and_what_it_started,
    test_closing_can_leave_a_program_to_finish,
    test_free_space_is_told_of_what_exists,
    test_put_is_whole_private_and_replaces,
    test_what_was_closed_can_be_used_again,
)

pytestmark = pytest.mark.board


@pytest.fixture
def transport(board):
    way = board.transport()
    yield way
    way.close()
