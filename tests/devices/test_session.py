"""Sessions with a real agent on this machine."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from hwloop.devices import AgentSession, LocalTransport, local_device, trial_deadline_s
from hwloop.errors import AgentError, ConfigError, DeviceBusyError, ProtocolError, TransportError
from hwloop_agent import protocol
from hwloop_agent.journal import Journal

FINE = ("ok", "degraded")


def test_a_real_model_is_measured_and_every_field_of_its_record_is_there(open_session, model):
    session = open_session()
    session.put_artifact(model.data, model.sha256, ".onnx")
    spec, phases = model.spec(), []
    record = session.run_trial(protocol.trial_id(spec), spec, on_phase=phases.append)
    assert record["status"] in FINE
    assert phases == ["gating", "importing", "loading", "warmup", "measuring"]
    assert record["spec"] == spec
    assert record["runtime"]["version"] == onnxruntime.__version__
    assert record["runtime"]["settings"]["intra_op_threads"] == 1
    latency = record["latency"]
    assert latency["min_ns"] <= latency["low_ns"] <= latency["median_ns"] <= latency["high_ns"]
    assert 0 < latency["n"] <= len(latency["samples_ns"])
    assert len(latency["canary_ns"]) == len(latency["samples_ns"]) + 1 > 5
    assert latency["runs_per_block"] * latency["median_ns"] > 0.5 * 200_000
    memory = record["memory"]
    assert memory["artifact_bytes"] == len(model.data)
    assert memory["peak_bytes"] == max(memory["load_peak_bytes"], memory["run_peak_bytes"])
    assert memory["model_bytes"] == memory["peak_bytes"] - memory["base_bytes"] >= 0
    assert memory["import_peak_bytes"] > 10 << 20
    assert len(record["conditions"]["affinity"]) == 1
    assert set(record["phases_s"]) == {"gate", "import", "load", "warmup", "measure"}
    assert record["energy"]["joules_per_run"] is not None or record["energy"]["reason"]
    assert record["conditions"]["gate"] in ("passed", "timeout", "unknown")
    assert (record["signal"], record["exit_code"]) == (None, 0)
    assert record["boot_id"] == session.hello.boot_id
    assert record["emulated"] is False


def test_the_outputs_of_the_measured_session_are_those_of_a_plain_one(open_session, model):
    session = open_session()
    session.put_artifact(model.data, model.sha256, ".onnx")
    spec = model.spec()
    record = session.run_trial(protocol.trial_id(spec), spec)
    feed = np.random.default_rng(0).standard_normal(model.shape).astype(np.float32)
    plain = onnxruntime.InferenceSession(model.data, providers=["CPUExecutionProvider"]).run(None, {"input": feed})[0]
    assert record["outputs"][0]["max_abs"] == pytest.approx(float(np.abs(plain).max()), rel=1e-5)


def test_what_onnxruntime_refuses_is_a_status_and_not_an_exception(open_session, model, make_model):
    session = open_session()
    unknown = make_model(4, 8, operator="Convolve")
    faint = make_model(4, 8, scale=1e-9)
    cases = [
        (unknown.data, unknown, unknown.spec(), "unsupported", "Convolve"),
        (b"not a model at all", unknown, None, "invalid", "rotobuf"),
        (faint.data, faint, faint.spec(), "invalid", "outside"),
        (model.data, model, model.spec(replicate=1, colour="red"), "unsupported", "colour"),
        (model.data, model, model.spec(replicate=2, providers="TeaExecutionProvider"), "unsupported", "Tea"),
        (model.data, model, {**model.spec(replicate=3), "inputs": []}, "unsupported", "inputs"),
    ]
    for data, which, spec, status, words in cases:
        digest = protocol.hex_digest(data)
        session.put_artifact(data, digest, ".onnx")
        if spec is None:
            spec = {**which.spec(), "artifact": {"sha256": digest, "suffix": ".onnx", "size": len(data)}}
        record = session.run_trial(protocol.trial_id(spec), spec)
        assert (record["status"], words in record["reasons"][0]) == (status, True), record["reasons"]


def test_threads_get_their_own_cpus(open_session, model):
    cpus = sorted(os.sched_getaffinity(0))
    if len(cpus) < 2:
        pytest.skip("one CPU only")
    session = open_session()
    session.put_artifact(model.data, model.sha256, ".onnx")
    for threads in (1, 2):
        spec = model.spec(threads=threads)
        record = session.run_trial(protocol.trial_id(spec), spec)
        assert len(record["conditions"]["affinity"]) == threads
        assert record["runtime"]["settings"]["intra_op_threads"] == threads


def test_an_artifact_is_sent_once_and_checked(open_session, model, tmp_path):
    session = open_session()
    session.put_artifact(model.data, model.sha256, ".onnx")
    stored = tmp_path / "root/sessions/s1/artifacts" / f"{model.sha256}.onnx"
    moment = stored.stat().st_mtime_ns
    session.put_artifact(model.data, model.sha256, ".onnx")
    session.close()
    again = open_session()
    again.put_artifact(model.data, model.sha256, ".onnx")
    assert stored.stat().st_mtime_ns == moment
    with pytest.raises(ValueError, match="hash"):
        again.put_artifact(b"other", protocol.hex_digest(b"another"), ".onnx")
    with pytest.raises(ValueError, match="suffix"):
        again.put_artifact(b"other", protocol.hex_digest(b"other"), ".sh")


def test_what_is_damaged_on_the_way_is_noticed(open_session, model):
    class Damaging(LocalTransport):
        def put(self, data: bytes, remote_path: str) -> None:
            super().put(data[:-1] if remote_path.endswith(".onnx") else data, remote_path)

    session = open_session(transport=Damaging())
    with pytest.raises(AgentError, match="did not arrive whole"):
        session.put_artifact(model.data, model.sha256, ".onnx")


def test_facts_and_canary(open_session):
    session = open_session()
    facts = session.facts()
    found = facts["runtimes"]["onnxruntime"]
    assert "CPUExecutionProvider" in found.pop("providers")
    assert found == {
        "import": "ok",
        "run": "ok",
        "version": onnxruntime.__version__,
    }
    assert facts["python"] == sys.version.split()[0]
    assert len(facts["cpus"]) == len(session.hello.cpus)
    canary = session.canary()
    assert canary["median_ns"] > 0


def test_the_agent_is_stored_once_under_its_hash(open_session, tmp_path):
    open_session().close()
    archives = list((tmp_path / "root/agents").rglob("*.pyz"))
    moment = archives[0].stat().st_mtime_ns
    session = open_session()
    assert [path.parent.name for path in archives] == [session.hello.agent_sha256]
    assert archives[0].stat().st_mtime_ns == moment


def test_an_agent_file_that_was_changed_is_not_trusted(open_session, tmp_path):
    open_session().close()
    archive = next((tmp_path / "root/agents").rglob("*.pyz"))
    archive.write_bytes(archive.read_bytes().replace(b"#!/usr/bin/env python3", b"#!/usr/bin/env pythonx"))
    with pytest.raises(ProtocolError, match="not the one that was sent"):
        open_session()


def test_who_waits_is_told_who_holds_the_device(open_session, tmp_path):
    first = open_session("one")
    said: list[str] = []
    with pytest.raises(DeviceBusyError, match=f"agent process {first.hello.pid}, session one.*gave up after 0.5 s"):
        open_session("two", wait_s=0.5, on_wait=said.append)
    assert len(said) == 1
    first.close()
    open_session("two", wait_s=5)


def test_closing_leaves_no_agent(open_session):
    session = open_session()
    pid = session.hello.pid
    session.close()
    session.close()
    assert not Path(f"/proc/{pid}").exists()
    with pytest.raises(TransportError, match="over"):
        session.canary()


def test_an_agent_that_cannot_start_shows_what_it_said(tmp_path):
    with pytest.raises(TransportError, match="cannot be started"):
        AgentSession.open(LocalTransport("/nowhere/python"), session_id="s", root=tmp_path)
    talker = tmp_path / "python"
    talker.write_text("#!/bin/sh\necho welcome to the board\necho no such license >&2\n")
    talker.chmod(0o700)
    with pytest.raises(TransportError, match="it said: no such license; before READY it printed 'welcome to the board"):
        AgentSession.open(LocalTransport(str(talker)), session_id="s", root=tmp_path)


def test_a_banner_before_the_agent_is_discarded(tmp_path):
    shell = tmp_path / "python"
    lines = f"head -c 60000 /dev/zero | tr '\\0' x\necho noise >&2\nprintf '$ '\nexec {sys.executable} \"$@\"\n"
    shell.write_text("#!/bin/sh\n" + lines)
    shell.chmod(0o700)
    with AgentSession.open(LocalTransport(str(shell)), session_id="s", root=tmp_path / "root") as session:
        assert session.canary()["n"] > 0


def test_a_shell_that_never_stops_talking_is_left(tmp_path):
    shell = tmp_path / "python"
    shell.write_text("#!/bin/sh\nwhile true; do echo 'welcome \x1b[31m'; done\n")
    shell.chmod(0o700)
    with pytest.raises(TransportError, match="no READY in the first 64 KiB") as caught:
        AgentSession.open(LocalTransport(str(shell)), session_id="s", root=tmp_path / "root")
    assert "\x1b" not in str(caught.value)


def test_a_supervisor_that_dies_is_a_transport_error_and_loses_no_finished_trial(open_session, null_spec):
    session = open_session()
    for replicate in range(3):
        spec = null_spec(replicate)
        session.run_trial(protocol.trial_id(spec), spec)
    slow = null_spec(9, fault="hang")

    def kill(phase: str) -> None:
        if phase == "warmup":
            os.kill(session.hello.pid, signal.SIGKILL)

    with pytest.raises(TransportError, match="lost the agent on local: it has ended"):
        session.run_trial(protocol.trial_id(slow), slow, on_phase=kill)
    session.close()
    again = open_session()
    assert [record["spec"]["replicate"] for record in again.finished()] == [0, 1, 2]
    assert again.last_seq == 3
    assert [record["spec"]["replicate"] for record in again.finished(after_seq=2)] == [2]
    again.acknowledge(3)


def test_many_records_come_in_several_batches(open_session, tmp_path):
    folder = tmp_path / "root/sessions/s1"
    folder.mkdir(parents=True)
    with Journal.open(folder / "journal.ndjson", sync=False) as journal:
        for number in range(50):
            spec = {"threads": 1, "replicate": number}
            record = {"trial_id": protocol.trial_id(spec), "spec": spec, "status": "cancelled", "reasons": []}
            more = {"runtime": {"name": "null", "version": None}, "started_at": "", "boot_id": None}
            journal.append({**record, **more, "filler": "x" * 50_000})
    session = open_session()
    assert [record["spec"]["replicate"] for record in session.finished()] == list(range(50))
    assert session.last_seq == 50
    assert len(session.finished(after_seq=48)) == 2


def test_a_refused_spec_names_its_key(open_session, null_spec):
    session = open_session()
    spec = {**null_spec(), "threads": 0}
    with pytest.raises(AgentError, match="threads is between 1 and 1024"):
        session.run_trial(protocol.trial_id(spec), spec)
    assert session.canary()["n"] > 0


def test_the_supervisor_runs_under_old_pythons_too(tmp_path, null_spec):
    ran = []
    for name in ("python3.8", "python3.13"):
        python = shutil.which(name)
        if python is None or subprocess.run([python, "--version"], capture_output=True).returncode:
            continue
        root = tmp_path / name
        with AgentSession.open(LocalTransport(python), session_id="s", root=root) as session:
            assert session.hello.python.startswith(name.removeprefix("python"))
            spec = null_spec()
            assert session.run_trial(protocol.trial_id(spec), spec)["status"] in FINE
            crash = null_spec(fault="signal", fault_phase="importing")
            assert session.run_trial(protocol.trial_id(crash), crash)["signal"] == "SIGSEGV"
            assert session.facts()["runtimes"]["onnxruntime"]["import"] == "unsupported"
        ran.append(name)
    if not ran:
        pytest.skip("neither python3.8 nor python3.13 works on this PATH")


def test_session_ids_and_deadlines_are_checked(tmp_path, null_spec):
    with pytest.raises(ValueError, match="session id"):
        AgentSession.open(LocalTransport(), session_id="../x", root=tmp_path)
    with pytest.raises(ValueError, match="not an absolute path"):
        AgentSession.open(LocalTransport(), session_id="x", root="some/where")
    assert trial_deadline_s(null_spec()) == 90
    assert trial_deadline_s(null_spec(timing={"max_s": 500.0})) == 600
    assert trial_deadline_s(null_spec(mode="compiled")) == 570


def test_this_machine_is_a_device():
    device = local_device()
    assert (device.name, device.worker_python) == ("local", sys.executable)
    assert isinstance(device.open_transport(), LocalTransport)
    with pytest.raises(ConfigError, match="pigeon"):
        type(device)("x", "pigeon", "p", "p").open_transport()
