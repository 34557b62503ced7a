"""A peer that vanishes without a word: nothing is reset, nothing is closed, nothing comes any more."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from hwloop.devices import AgentSession, Deadline
from hwloop.devices.ssh.connection import Limits
from hwloop.devices.ssh.route import Address
from hwloop.errors import DeviceBusyError, TransportError
from hwloop_agent import protocol
from tests.boards.wire import Wire

pytestmark = pytest.mark.board
SHORT = Limits(banner_s=1.0, auth_s=1.0, login_s=2.0, request_s=1.0)


@pytest.fixture
def wire(board):
    with Wire(board.port) as one:
        yield one


@pytest.fixture
def transport(board, wire):
    way = board.transport(address=Address("127.0.0.1", wire.port, board.user), limits=SHORT)
    yield way
    way.close()


def test_a_session_notices_by_itself_and_another_one_goes_on(board, wire, transport, null_spec):
    session = AgentSession.open(transport, session_id="s")
    spec = null_spec()
    session.run_trial(protocol.trial_id(spec), spec)
    wire.freeze()
    with pytest.raises(TransportError, match="lost the agent on board: silent for 10 s"):
        session.finished()
    session.close()
    # The board has not noticed yet: its agent holds the lease until the wire is gone.
    wire.__exit__(None, None, None)
    with AgentSession.open(board.transport(), session_id="s", wait_s=30) as again:
        assert [record["trial_id"] for record in again.finished()] == [protocol.trial_id(spec)]


def test_after_a_silent_loss_the_same_host_goes_on_at_once(board, wire, transport, null_spec):
    """The wire stays dead: the board believes in the old connection as long as its TCP does, a quarter of an hour."""
    session = AgentSession.open(transport, session_id="s", instance="one")
    spec = null_spec(timing={"min_s": 1.0, "max_s": 1.5, "target_relative_interval": 0.0})

    class DroppedError(Exception):
        pass

    def drop(phase: str) -> None:
        if phase == "measuring":
            wire.freeze()
            raise DroppedError

    with pytest.raises(DroppedError):
        session.run_trial(protocol.trial_id(spec), spec, on_phase=drop)
    assert session.in_flight is not None
    said: list[str] = []
    with pytest.raises(DeviceBusyError, match=f"agent process {session.hello.pid}, session s"):
        AgentSession.open(board.transport(), session_id="s", instance="two", wait_s=0.5)
    began = time.monotonic()
    with AgentSession.open(board.transport(), session_id="s", instance="one", on_wait=said.append) as again:
        assert time.monotonic() - began < 30
        assert [record["trial_id"] for record in again.finished()] == [protocol.trial_id(spec)]
        assert again.hello.interrupted is None
    assert "it finishes its trial and leaves" in said[0]
    session.close()


def test_every_step_ends_in_time_on_a_dead_wire(wire, transport):
    channel = transport.start([transport.python, "-c", "import sys; sys.stdin.read()"])
    transport.put(b"warm", f"{transport.default_root()}/file")
    wire.freeze()
    with pytest.raises(TimeoutError):
        channel.read(1, Deadline(0.2))
    # Far more than any buffer on the way holds.
    with pytest.raises((TimeoutError, TransportError)):
        channel.write(os.urandom(40_000_000), Deadline(0.5))
    with pytest.raises(TransportError, match=r"took longer than|closed|cannot be reached|failed"):
        transport.size("/tmp")
    assert channel.close(0.2, kill=True) is None


def test_starting_and_storing_end_in_time_on_a_dead_wire(wire, transport):
    root = transport.default_root()
    wire.freeze()
    with pytest.raises(TransportError, match=r"looking at .* took longer than 1 s"):
        transport.size(f"{root}/file")
    transport.close()
    with pytest.raises(TransportError, match=r"the SSH handshake with .* took longer than 1 s"):
        transport.start(["true"])


def test_a_server_that_accepts_and_says_nothing_is_given_up(wire, transport):
    wire.freeze()
    with pytest.raises(TransportError, match=r"the SSH handshake with .* took longer than 1 s|banner"):
        transport.connect()


def test_a_port_where_no_ssh_server_lives_is_an_error(board):
    import socket

    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]

        def talk() -> None:
            connection = listener.accept()[0]
            with connection:
                connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n" * 200)

        talker = threading.Thread(target=talk)
        talker.start()
        way = board.transport(address=Address("127.0.0.1", port, "nobody"), limits=SHORT)
        with pytest.raises(TransportError, match="the SSH handshake with"):
            way.connect()
        talker.join()


def test_packets_that_are_dropped_silently_are_noticed_and_the_session_resumes(no_leaks, tmp_path):
    if subprocess.run(["unshare", "-n", "ip", "link"], capture_output=True, check=False).returncode:
        pytest.skip("no network namespaces here (they need root, unshare and ip)")
    done = subprocess.run(
        ["unshare", "-n", sys.executable, "-m", "tests.boards.silent_network", str(tmp_path)],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[2],
        timeout=180,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    session, idle, end = done.stdout.splitlines()
    assert session.startswith("session: lost the agent on board")
    assert idle.startswith("idle channel: the connection was closed, or nothing came through any more")
    assert end == "came back whole"
