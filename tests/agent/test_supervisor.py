"""The supervisor as a process, spoken to over pipes: framing, refusals, the lease, its end."""

from __future__ import annotations

import fcntl
import json
import os
import resource
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from hwloop_agent import protocol
from hwloop_agent.journal import read_records

NONCE = "0123456789abcdef"


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().split(")")[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_hello_tells_who_is_there(agent, tmp_path):
    body = agent.hello()["body"]
    assert body["pid"] == agent.pid
    assert body["proto"] == 1
    assert body["artifacts"] == str(tmp_path / "root/sessions/s1/artifacts")
    assert body["boot_id"] == Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def test_requests_that_arrive_byte_by_byte_are_answered(start_agent):
    agent = start_agent()
    line = protocol.encode(protocol.Message(9, 1, "hello", {"proto": [1], "nonce": NONCE}))
    for byte in line:
        agent.write(bytes([byte]))
    assert agent.receive()["id"] == 9


def test_every_bad_line_gets_its_name_and_the_session_goes_on(agent):
    good = {"v": 1, "id": 3, "seq": 1000, "type": "bye", "body": {}}
    for line, code in (
        (b"\xff\xfe\x00", "utf8"),
        (b"", "json"),
        (b'{"v":1', "json"),
        (b"x" * (protocol.MAX_LINE_BYTES + 10), "oversize"),
        (b"[" * 5000, "depth"),
        (json.dumps({**good, "body": {"x": float("nan")}}).encode(), "number"),
        (b'{"v":1,"v":1}', "duplicate"),
        (json.dumps({**good, "type": "exec"}).encode(), "type"),
        (json.dumps({**good, "type": "trial.result"}).encode(), "type"),
        (json.dumps({**good, "v": 9}).encode(), "version"),
        (json.dumps({**good, "seq": 0}).encode(), "envelope"),
    ):
        agent.write(line + b"\n")
        answer = agent.receive()
        assert (answer["type"], answer["body"]["code"]) == ("error", code)
    assert agent.ask("journal.read", {"after_seq": 0, "limit": 10})["type"] == "journal.batch"


def test_a_peer_that_only_sends_garbage_is_left(start_agent):
    agent = start_agent()
    agent.write(b"garbage\n" * 64)
    assert agent.process.wait(30) == 4


def test_nothing_is_done_before_hello(start_agent, null_spec):
    agent = start_agent()
    for type_ in ("facts", "canary"):
        assert agent.ask(type_, {})["body"]["code"] == "hello_first"
    assert agent.run(null_spec())["body"]["code"] == "hello_first"
    assert agent.ask("hello", {"proto": [1], "nonce": "f" * 16})["body"]["code"] == "nonce"
    assert agent.ask("hello", {"proto": [2], "nonce": NONCE})["body"]["code"] == "proto"


def test_a_second_session_is_told_who_holds_the_device(agent, start_agent):
    second = start_agent("s2")
    refusal = second.hello()
    assert refusal["body"]["code"] == "lease"
    assert "tester on here" in refusal["body"]["message"]
    assert f"agent process {agent.pid}, session s1" in refusal["body"]["message"]
    agent.process.kill()
    agent.process.wait()
    assert second.hello()["type"] == "hello"


def test_the_session_is_private(agent, tmp_path):
    root = tmp_path / "root"
    for folder in (root / "sessions", root / "sessions/s1", root / "sessions/s1/artifacts"):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert stat.S_IMODE((root / "sessions/s1/journal.ndjson").stat().st_mode) == 0o600


def test_a_directory_of_the_user_keeps_its_mode(start_agent, tmp_path):
    (tmp_path / "root").mkdir()
    (tmp_path / "root").chmod(0o755)
    assert start_agent().hello()["type"] == "hello"
    assert stat.S_IMODE((tmp_path / "root").stat().st_mode) == 0o755


def test_a_directory_that_is_a_link_elsewhere_is_refused(start_agent, tmp_path):
    (tmp_path / "root/sessions").mkdir(parents=True)
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "root/sessions/s1").symlink_to(tmp_path / "elsewhere")
    answer = start_agent().hello()
    assert "symbolic link" in answer["body"]["message"]
    assert not list((tmp_path / "elsewhere").iterdir())


def test_bad_requests_name_what_is_wrong(agent, null_spec):
    spec = null_spec()
    good = {"trial_id": protocol.trial_id(spec), "spec": spec, "deadline_s": 10}
    for change, words in (
        ({"trial_id": "x"}, "trial_id"),
        ({"trial_id": protocol.trial_id({"other": 1})}, "hash of its spec"),
        ({"deadline_s": 0}, "deadline_s"),
        ({"deadline_s": 1e9}, "deadline_s"),
        ({"spec": {**spec, "x": "y" * 60000}}, "bytes"),
    ):
        answer = agent.ask("trial.run", {**good, **change})
        assert words in answer["body"]["message"]
    bad = {**spec, "threads": 0}
    assert "threads" in agent.run(bad)["body"]["message"]
    assert agent.ask("verify", {"sha256": "../../x", "suffix": ".onnx"})["body"]["code"] == "bad_request"
    assert agent.ask("journal.read", {"after_seq": -1, "limit": 1})["body"]["code"] == "bad_request"
    assert agent.ask("journal.ack", {"seq": 99})["body"]["code"] == "bad_request"
    assert agent.ask("trial.cancel", {"trial_id": good["trial_id"]})["body"]["code"] == "no_trial"


def test_an_artifact_must_be_there_whole_and_plain(agent, null_spec, tmp_path):
    folder = Path(agent.hello()["body"]["artifacts"])
    data = b"not really a model"
    digest = protocol.hex_digest(data)
    question = {"sha256": digest, "suffix": ".onnx"}
    assert not agent.ask("verify", question)["body"]["ok"]
    spec = {**null_spec(), "artifact": {"sha256": digest, "suffix": ".onnx", "size": len(data)}}
    assert agent.run(spec)["body"]["code"] == "no_artifact"

    (tmp_path / "outside").write_bytes(data)
    (folder / f"{digest}.onnx").symlink_to(tmp_path / "outside")
    assert not agent.ask("verify", question)["body"]["ok"]
    (folder / f"{digest}.onnx").unlink()

    os.mkfifo(folder / f"{digest}.onnx")
    assert "plain file" in agent.ask("verify", question)["body"]["reason"]
    (folder / f"{digest}.onnx").unlink()

    (folder / f"{digest}.onnx").write_bytes(data[:-1])
    assert "hash" in agent.ask("verify", question)["body"]["reason"]
    (folder / f"{digest}.onnx").write_bytes(data)
    assert agent.ask("verify", question)["body"] == {"ok": True, "size": len(data), "reason": ""}
    assert agent.run(spec)["body"]["record"]["status"] in ("ok", "degraded")
    (folder / f"{digest}.onnx").write_bytes(data[::-1])
    assert agent.run({**spec, "replicate": 1})["body"]["code"] == "no_artifact"


def test_a_finished_trial_is_not_run_again(agent, null_spec, tmp_path):
    first = agent.run(null_spec())
    again = agent.run(null_spec(), id_=6)
    assert first["body"]["record"] == again["body"]["record"]
    assert (first["body"]["stored"], again["body"]["stored"]) == (False, True)
    assert len(read_records(tmp_path / "root/sessions/s1/journal.ndjson")[0]) == 1


def test_one_trial_at_a_time(agent, null_spec):
    slow = null_spec(fault="hang")
    body = {"trial_id": protocol.trial_id(slow), "spec": slow, "deadline_s": 30}
    assert agent.ask("trial.run", body, 5)["type"] == "trial.accepted"
    agent.wait_for_phase("warmup")
    other = null_spec(replicate=1)
    agent.send("trial.run", {"trial_id": protocol.trial_id(other), "spec": other, "deadline_s": 30}, 6)
    assert agent.receive()["body"]["code"] == "busy"
    assert agent.ask("trial.cancel", {"trial_id": body["trial_id"]}, 7)["type"] == "trial.cancelled"
    assert agent.receive()["body"]["record"]["status"] == "cancelled"


def test_when_its_input_ends_it_finishes_the_trial_and_journals_it(agent, null_spec, tmp_path):
    spec = null_spec(timing={"min_s": 0.5, "max_s": 1.0})
    agent.send("trial.run", {"trial_id": protocol.trial_id(spec), "spec": spec, "deadline_s": 30})
    agent.wait_for_phase("measuring")
    assert agent.end() == 0
    records, cut = read_records(tmp_path / "root/sessions/s1/journal.ndjson")
    assert [record["trial_id"] for record in records] == [protocol.trial_id(spec)]
    assert records[0]["latency"]["n"] > 0
    assert cut == 0


def test_it_does_the_same_when_nobody_reads_it_any_more(agent, null_spec, tmp_path):
    spec = null_spec(timing={"min_s": 0.3, "max_s": 1.0})
    agent.send("trial.run", {"trial_id": protocol.trial_id(spec), "spec": spec, "deadline_s": 30})
    agent.wait_for_phase("importing")
    agent.process.stdout.close()
    assert agent.process.wait(30) == 0
    assert len(read_records(tmp_path / "root/sessions/s1/journal.ndjson")[0]) == 1


def test_asked_to_terminate_it_takes_its_worker_along_and_records_nothing(agent, null_spec, tmp_path):
    spec = null_spec(fault="hang_ignoring_term")
    agent.send("trial.run", {"trial_id": protocol.trial_id(spec), "spec": spec, "deadline_s": 30})
    agent.wait_for_phase("warmup")
    workers = [int(pid) for pid in Path(f"/proc/{agent.pid}/task/{agent.pid}/children").read_text().split()]
    agent.process.send_signal(signal.SIGTERM)
    assert agent.process.wait(30) == 5
    assert len(workers) == 1
    assert not alive(workers[0])
    assert read_records(tmp_path / "root/sessions/s1/journal.ndjson")[0] == []


def test_a_batch_of_requests_can_be_piped_in_from_a_file(archive, tmp_path):
    lines = [
        protocol.encode(protocol.Message(1, 1, "hello", {"proto": [1], "nonce": NONCE})),
        protocol.encode(protocol.Message(2, 2, "journal.read", {"after_seq": 0, "limit": 5})),
    ]
    (tmp_path / "requests").write_bytes(b"".join(lines))
    argv = [sys.executable, "-I", "-B", archive, "serve", "--root", tmp_path / "r", "--session", "s", "--nonce", NONCE]
    with (tmp_path / "requests").open("rb") as requests:
        done = subprocess.run(argv, stdin=requests, capture_output=True, timeout=60)
    answers = [json.loads(line)["type"] for line in done.stdout.splitlines()[1:]]
    assert (done.returncode, answers) == (0, ["hello", "journal.batch"])


def test_the_command_line_is_checked(archive, tmp_path):
    for words in (
        [],
        ["serve"],
        ["serve", "--root", "r", "--session", "..", "--nonce", NONCE],
        ["serve", "--root", "r", "--session", "s", "--nonce", "not hex"],
        ["serve", "--root", "r", "--session", "s", "--nonce", NONCE, "--root", "q"],
        ["worker", "x"],
    ):
        done = subprocess.run([sys.executable, "-I", "-B", archive, *words], capture_output=True, cwd=tmp_path)
        assert (done.returncode, done.stdout) == (2, b"")
        assert b"usage" in done.stderr


def test_a_journal_that_cannot_be_written_still_gives_the_host_its_record(agent, null_spec, tmp_path):
    spec = null_spec(timing={"min_s": 0.3, "max_s": 1.0})
    agent.send("trial.run", {"trial_id": protocol.trial_id(spec), "spec": spec, "deadline_s": 30})
    agent.wait_for_phase("warmup")
    # The limit of the file size is the supervisor's own, so writing its journal fails as on a full disk.
    hard = resource.prlimit(agent.pid, resource.RLIMIT_FSIZE)[1]
    resource.prlimit(agent.pid, resource.RLIMIT_FSIZE, (10, hard))
    answer = agent.receive()
    while answer["type"] == "trial.phase":
        answer = agent.receive()
    assert answer["body"]["record"]["latency"]["n"] > 0
    assert answer["body"]["seq"] == 0
    assert read_records(tmp_path / "root/sessions/s1/journal.ndjson") == ([], 0)
    failed = agent.run(null_spec(replicate=1))
    assert (failed["type"], failed["body"]["family"]) == ("trial.failed", "agent")
    resource.prlimit(agent.pid, resource.RLIMIT_FSIZE, (hard, hard))
    assert agent.run(null_spec(replicate=1))["body"]["seq"] == 1


def test_the_lease_is_a_lock_and_not_a_file(agent, tmp_path):
    descriptor = os.open(tmp_path / "root/lease", os.O_RDWR)
    try:
        with pytest.raises(BlockingIOError):
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        assert agent.end() == 0
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        assert os.read(descriptor, 100) == b""
    finally:
        os.close(descriptor)


def take(agent, instance, **more):
    return agent.ask(
        "hello", {"proto": [1], "nonce": NONCE, "who": "ann", "host": "desk", "instance": instance, **more}
    )


def test_the_next_session_of_the_same_host_process_is_let_in_when_the_trial_is_done(start_agent, null_spec, tmp_path):
    first, second = start_agent(), start_agent()
    take(first, "aa")
    spec = null_spec(timing={"min_s": 0.5, "max_s": 1.0})
    first.send("trial.run", {"trial_id": protocol.trial_id(spec), "spec": spec, "deadline_s": 30})
    first.wait_for_phase("measuring")
    refusal = take(second, "aa")["body"]
    assert (refusal["code"], refusal["leaving"]) == ("lease", True)
    assert "instance" not in refusal["owner"]
    assert first.process.wait(30) == 0
    records, _ = read_records(tmp_path / "root/sessions/s1/journal.ndjson")
    assert [record["trial_id"] for record in records] == [protocol.trial_id(spec)]
    hello = take(second, "aa")
    assert hello["body"]["journal"]["last_seq"] == 1
    assert hello["body"]["interrupted"] is None


def test_nobody_else_can_make_a_session_leave(start_agent):
    first = start_agent()
    take(first, "aa")
    for session, instance, more in (
        ("s1", "bb", {}),
        ("s1", "", {}),
        ("s2", "aa", {}),
        ("s1", "aa", {"who": "bob"}),
        ("s1", "aa", {"host": "lap"}),
    ):
        refusal = take(start_agent(session), instance, **more)["body"]
        assert (refusal["code"], refusal["leaving"]) == ("lease", False)
    assert take(first, "aa")["type"] == "hello"


@pytest.mark.parametrize("how", ["killed", "told to end", "finished"])
def test_a_trial_that_its_supervisor_died_in_is_known_to_the_next_one(start_agent, null_spec, how):
    agent = start_agent()
    boot_id = agent.hello()["body"]["boot_id"]
    spec = null_spec() if how == "finished" else null_spec(fault="hang")
    agent.send("trial.run", {"trial_id": protocol.trial_id(spec), "spec": spec, "deadline_s": 30})
    agent.wait_for_phase("warmup")
    if how == "finished":
        while agent.receive()["type"] != "trial.result":
            pass
    agent.process.send_signal(signal.SIGTERM if how == "told to end" else signal.SIGKILL)
    agent.process.wait(30)
    for _ in range(2):  # until another trial runs, everybody who asks is told
        again = start_agent()
        found = again.hello()["body"]["interrupted"]
        dead = {"trial_id": protocol.trial_id(spec), "boot_id": boot_id, "pid": agent.pid}
        assert found == (dead if how == "killed" else None)
        again.end()
    third = start_agent()
    third.hello()
    record = third.run(null_spec(replicate=1))["body"]["record"]
    assert record["emulated"] is False
    third.end()
    assert start_agent().hello()["body"]["interrupted"] is None


@pytest.mark.parametrize("acked", [0, 1, 2])
def test_a_host_that_begins_anew_is_not_given_what_another_had(start_agent, null_spec, acked):
    agent = start_agent()
    agent.hello()
    first, second = null_spec(), null_spec(replicate=1)
    for spec in (first, second):
        agent.run(spec)
    if acked:
        agent.ask("journal.ack", {"seq": acked})
    agent.end()
    again = start_agent()
    assert again.hello()["body"]["journal"]["last_seq"] == 2  # going on, everything is still there
    again.end()
    anew = start_agent()
    anew.ask("hello", {"proto": [1], "nonce": NONCE, "fresh": True})
    batch = anew.ask("journal.read", {"after_seq": 0, "limit": 10})["body"]["records"]
    assert [entry["rec"]["trial_id"] for entry in batch] == [protocol.trial_id(spec) for spec in (first, second)][
        acked:
    ]
    assert anew.run(first)["body"]["stored"] == (acked < 1)
    assert anew.run(second)["body"]["stored"] == (acked < 2)
    anew.end()
    last = start_agent()
    last.hello()
    batch = last.ask("journal.read", {"after_seq": 0, "limit": 10})["body"]["records"]
    ids = [entry["rec"]["trial_id"] for entry in batch]
    assert len(ids) == len(set(ids)) == 2


FAST = """
import sys, time
from hwloop_agent.supervisor import Options, Supervisor
archive, root, nonce = sys.argv[1:]
options = Options(archive, root, "s1", nonce, sys.executable)
sys.exit(Supervisor(options, 0, 1, clock=lambda: 20 * time.monotonic()).serve())
"""


def test_a_host_that_says_nothing_any_more_is_given_up_after_the_trial(archive, null_spec, tmp_path):
    """Forty-five seconds pass in two here."""
    spec = null_spec(timing={"min_s": 3.0, "max_s": 4.0, "max_blocks": 20000, "target_relative_interval": 0.0})
    body = {"trial_id": protocol.trial_id(spec), "spec": spec, "deadline_s": 600}
    requests = [
        protocol.encode(protocol.Message(1, 1, "hello", {"proto": [1], "nonce": NONCE})),
        protocol.encode(protocol.Message(2, 2, "trial.run", body)),
    ]
    argv = [sys.executable, "-c", FAST, archive, tmp_path / "root", NONCE]
    environment = {**os.environ, "PYTHONPATH": str(archive)}
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment) as agent:
        agent.stdin.write(b"".join(requests))
        agent.stdin.flush()
        # Its input stays open, as that of a connection does which nobody has closed.
        assert agent.wait(60) == 0
        said = [json.loads(line)["type"] for line in agent.stdout.read().splitlines()]
    assert "trial.phase" in said
    records, cut = read_records(tmp_path / "root/sessions/s1/journal.ndjson")
    assert [record["trial_id"] for record in records] == [protocol.trial_id(spec)]
    assert records[0]["latency"]["n"] > 0
    assert cut == 0


def test_a_host_that_says_ping_is_waited_for(archive, tmp_path):
    argv = [sys.executable, "-c", FAST, archive, tmp_path / "root", NONCE]
    environment = {**os.environ, "PYTHONPATH": str(archive)}
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment) as agent:
        for seq in range(1, 11):
            agent.stdin.write(protocol.encode(protocol.Message(seq, seq, "ping", {})))
            agent.stdin.flush()
            time.sleep(0.3)
        assert agent.poll() is None
        assert agent.wait(60) == 0
