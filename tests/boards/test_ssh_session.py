"""Sessions with a real agent over a real sshd: trials, interruptions, noise, and who holds the board."""

from __future__ import annotations

import os
import signal
import sys
import threading
from pathlib import Path

import onnxruntime
import pytest

from hwloop.devices import AgentSession
from hwloop.errors import DeviceBusyError, TransportError
from hwloop_agent import protocol
from hwloop_agent.journal import read_records
from tests.boards.x86 import wait_until
from tests.leaks import open_files

pytestmark = pytest.mark.board
FINE = ("ok", "degraded")


def run(session, spec, **more):
    return session.run_trial(protocol.trial_id(spec), spec, **more)


def test_trials_of_both_runtimes_come_back_over_ssh(open_session, board, model, null_spec):
    session = open_session()
    assert run(session, null_spec())["status"] in FINE
    session.put_artifact(model.data, model.sha256, ".onnx")
    record = run(session, model.spec())
    assert record["status"] in FINE
    assert record["runtime"]["version"] == onnxruntime.__version__
    assert session.hello.artifacts.startswith(str(board.root))
    stored = board.root / "sessions/s1/artifacts" / f"{model.sha256}.onnx"
    assert stored.read_bytes() == model.data
    assert len(session.finished()) == 2


def test_closing_a_session_leaves_no_process_on_the_board(open_session, board):
    session = open_session()
    pid = session.hello.pid
    session.close()
    wait_until(lambda: not Path(f"/proc/{pid}").exists(), "the agent's end")
    wait_until(lambda: not board.connections(), "the end of the connection's sshd")


def test_connections_cut_during_trials_lose_nothing_and_repeat_nothing(board, null_spec, tmp_path):
    specs = {protocol.trial_id(spec): spec for spec in (null_spec(replicate) for replicate in range(6))}
    phases = ["importing", "loading", "warmup", "measuring"]
    done: dict[str, dict] = {}
    cuts: list[str] = []
    errors: list[str] = []
    while len(done) < len(specs):
        session = AgentSession.open(board.transport(), session_id="campaign", wait_s=30)
        try:
            for record in session.finished():
                done.setdefault(record["trial_id"], record)
            for trial_id, spec in specs.items():
                if trial_id in done:
                    continue

                wanted = phases[len(cuts) % len(phases)]

                def cut(phase, wanted=wanted):
                    if phase == wanted and len(cuts) < 4:
                        cuts.append(phase)
                        board.cut()

                record = session.run_trial(trial_id, spec, on_phase=cut)
                assert trial_id not in done
                done[trial_id] = record
        except TransportError as error:
            errors.append(str(error))
        finally:
            session.close()
    assert cuts == phases
    assert len(errors) == 4
    assert all("lost the agent on board" in error for error in errors)
    records, cut_bytes = read_records(board.root / "sessions/campaign/journal.ndjson")
    assert cut_bytes == 0
    assert sorted(record["trial_id"] for record in records) == sorted(specs), "a trial was lost or measured twice"
    assert all(record["status"] in FINE for record in records)


def test_a_board_whose_sshd_is_down_is_an_error_and_comes_back(open_session, board, null_spec):
    session = open_session()
    board.stop()
    assert run(session, null_spec())["status"] in FINE  # an open connection outlives the listener
    session.close()
    with pytest.raises(TransportError, match=f"127.0.0.1:{board.port} cannot be reached: Connection refused"):
        open_session()
    board.start()
    assert [record["status"] in FINE for record in open_session().finished()] == [True]


def test_what_the_shell_prints_at_login_is_passed_over(open_session, board, null_spec):
    (board.home / ".bashrc").write_text("head -c 64000 /dev/zero | tr '\\0' x\necho no job control >&2\nprintf '$ '\n")
    session = open_session()
    assert run(session, null_spec())["status"] in FINE


def test_a_shell_that_says_too_much_is_an_error_that_shows_it(open_session, board):
    (board.home / ".bashrc").write_text("for i in $(seq 9000); do echo 'welcome \x1b[31m'; done\n")
    with pytest.raises(TransportError, match="no READY in the first 64 KiB, which begin 'welcome") as caught:
        open_session()
    assert "\x1b" not in str(caught.value)


def test_a_shell_that_refuses_is_an_error_that_shows_why(open_session, board):
    (board.home / ".bashrc").write_text("echo this account is not available >&2\nexit 1\n")
    with pytest.raises(TransportError, match="the login shell ended before; it said: this account is not available"):
        open_session()


def test_a_flood_on_stderr_does_not_stop_a_session(open_session, board, null_spec, tmp_path):
    python = tmp_path / "python"
    python.write_text(
        f"#!/bin/sh\n(head -c 30000000 /dev/zero | tr '\\0' x; echo the end) >&2 &\nexec {sys.executable} \"$@\"\n"
    )
    python.chmod(0o700)
    session = open_session(transport=board.transport(python=str(python)))
    for replicate in range(3):
        assert run(session, null_spec(replicate))["status"] in FINE


def test_a_second_host_is_told_who_holds_the_board(open_session, board):
    first = open_session("one")
    said: list[str] = []
    with pytest.raises(DeviceBusyError, match=f"agent process {first.hello.pid}, session one.*gave up after 0.5 s"):
        open_session("two", wait_s=0.5, on_wait=said.append)
    assert len(said) == 1
    # A host that is killed leaves no lock behind: its connection ends, and with it the agent.
    os.kill(first.hello.pid, signal.SIGKILL)
    assert open_session("two", wait_s=20).hello.pid != first.hello.pid


def test_two_hosts_take_turns(board, null_spec):
    """Two threads as two hosts: each measures its trial, neither during the other's."""
    spans: list[tuple[str, str]] = []
    failures: list[BaseException] = []

    def host(name: str, replicate: int) -> None:
        try:
            with AgentSession.open(board.transport(), session_id=name, wait_s=60) as session:
                spans.append((name, "begins"))
                assert run(session, null_spec(replicate))["status"] in FINE
                spans.append((name, "ends"))
        except BaseException as error:
            failures.append(error)

    hosts = [threading.Thread(target=host, args=(f"host{number}", number)) for number in range(2)]
    for one in hosts:
        one.start()
    for one in hosts:
        one.join()
    assert not failures
    assert [what for _, what in spans] == ["begins", "ends", "begins", "ends"]
    assert spans[0][0] == spans[1][0] != spans[2][0] == spans[3][0]


def test_sessions_leave_no_descriptor_or_thread(board, null_spec):
    def once() -> None:
        with AgentSession.open(board.transport(), session_id="s") as session:
            session.canary()

    once()
    files, running = len(open_files()), threading.active_count()
    for _ in range(3):
        once()
    assert (len(open_files()), threading.active_count()) == (files, running)
