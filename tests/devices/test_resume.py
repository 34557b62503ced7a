"""Kills at random moments: whatever dies, no finished trial is lost, and none is measured twice."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

from hwloop.devices import AgentSession, LocalTransport
from hwloop.errors import DeviceError
from hwloop_agent import protocol
from hwloop_agent.journal import Journal, read_records

TRIALS = 12
# A host as the measurement room's is: it fetches what an earlier one left on the device, then runs what is missing.
HOST = """
import json, sys
from hwloop.devices import AgentSession, LocalTransport
from hwloop_agent import protocol
from hwloop_agent.journal import Journal

root, path, specs = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])
journal = Journal.open(path)
done = {record["trial_id"] for record in journal.records}
with AgentSession.open(LocalTransport(), session_id="campaign", root=root, wait_s=30) as session:
    for record in session.finished():
        if record["trial_id"] not in done:
            journal.append(record)
            done.add(record["trial_id"])
    for spec in specs:
        trial_id = protocol.trial_id(spec)
        if trial_id not in done:
            journal.append(session.run_trial(trial_id, spec))
journal.close()
"""


def start_host(tmp_path, specs):
    argv = [sys.executable, "-c", HOST, str(tmp_path / "root"), str(tmp_path / "host.ndjson"), specs]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    return subprocess.Popen(argv, env=environment, stderr=subprocess.PIPE, start_new_session=True)


def check_whole(tmp_path, ids):
    for path in (tmp_path / "host.ndjson", tmp_path / "root/sessions/campaign/journal.ndjson"):
        records, cut = read_records(path)
        assert cut == 0
        found = [record["trial_id"] for record in records]
        assert sorted(found) == sorted(ids), "a trial was lost or measured twice"
        assert all(record["status"] in ("ok", "degraded") for record in records)


def test_a_host_killed_at_random_moments_loses_nothing_and_repeats_nothing(tmp_path, null_spec):
    specs = [null_spec(replicate) for replicate in range(TRIALS)]
    encoded = protocol.canonical_json(specs).decode()
    draw = random.Random(7)
    for _ in range(5):
        host = start_host(tmp_path, encoded)
        time.sleep(draw.uniform(0.4, 1.5))
        os.kill(host.pid, signal.SIGKILL)
        host.wait()
        host.stderr.close()
    host = start_host(tmp_path, encoded)
    said = host.communicate(timeout=120)[1].decode()
    assert host.returncode == 0, said
    check_whole(tmp_path, [protocol.trial_id(spec) for spec in specs])


def test_supervisors_and_workers_killed_at_random_moments_lose_no_finished_trial(tmp_path, null_spec):
    specs = {protocol.trial_id(spec): spec for spec in (null_spec(replicate) for replicate in range(TRIALS))}
    draw = random.Random(8)
    kills = {"supervisor": 0, "worker": 0}
    with Journal.open(tmp_path / "host.ndjson") as journal:
        done: set[str] = set()

        def keep(record):
            assert record["trial_id"] not in done, "measured twice"
            journal.append(record)
            done.add(record["trial_id"])

        while len(done) < TRIALS:
            session = AgentSession.open(LocalTransport(), session_id="campaign", root=tmp_path / "root")
            try:
                for record in session.finished():
                    if record["trial_id"] not in done:
                        keep(record)
                for trial_id in [one for one in specs if one not in done]:
                    whom = draw.choice(["supervisor", "worker", "nobody", "nobody"])
                    phase = draw.choice(["importing", "loading", "warmup", "measuring"])

                    def kill(reached, whom=whom, phase=phase, pid=session.hello.pid):
                        if reached != phase or whom == "nobody" or kills[whom] >= 4:
                            return
                        kills[whom] += 1
                        victims = [str(pid)]
                        if whom == "worker":
                            victims = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
                        for victim in victims:
                            os.kill(int(victim), signal.SIGKILL)

                    record = session.run_trial(trial_id, specs[trial_id], on_phase=kill)
                    keep(record)
            except DeviceError:
                pass
            finally:
                session.close()
    assert kills["supervisor"] > 0
    assert kills["worker"] > 0
    records, cut = read_records(tmp_path / "host.ndjson")
    assert cut == 0
    assert sorted(record["trial_id"] for record in records) == sorted(specs)
    for record in records:
        assert record["status"] in ("ok", "degraded") or (record["status"], record["signal"]) == ("crashed", "SIGKILL")
    device = [record["trial_id"] for record in read_records(tmp_path / "root/sessions/campaign/journal.ndjson")[0]]
    assert len(device) == len(set(device))


def test_a_host_that_dies_during_a_trial_finds_its_record_later(tmp_path, open_session, null_spec):
    spec = null_spec(timing={"min_s": 0.5, "max_s": 1.0})
    session = AgentSession.open(LocalTransport(), session_id="s1", root=tmp_path / "root")

    class DiedError(Exception):
        pass

    def die(phase):
        if phase == "measuring":
            raise DiedError

    try:
        session.run_trial(protocol.trial_id(spec), spec, on_phase=die)
    except DiedError:
        session.close()
    again = open_session()
    assert [record["trial_id"] for record in again.finished()] == [protocol.trial_id(spec)]


def test_a_device_journal_with_a_torn_tail_is_resumed_and_says_so(tmp_path, open_session, null_spec):
    session = open_session()
    specs = [null_spec(replicate) for replicate in range(2)]
    for spec in specs:
        session.run_trial(protocol.trial_id(spec), spec)
    session.close()
    path = tmp_path / "root/sessions/s1/journal.ndjson"
    whole = path.read_bytes()
    path.write_bytes(whole[:-5])
    again = open_session()
    assert again.hello.cut_bytes > 0
    assert [record["trial_id"] for record in again.finished()] == [protocol.trial_id(specs[0])]
    again.run_trial(protocol.trial_id(specs[1]), specs[1])
    assert len(again.finished()) == 2
