"""Workers that misbehave, for real: each way to die is a status, and the supervisor goes on to the next trial."""

from __future__ import annotations

import os
import sys
import time
import venv
from pathlib import Path

import pytest

from hwloop_agent import protocol


def record_of(agent, spec, **more):
    answer = agent.run(spec, **more)
    assert answer["type"] == "trial.result", answer
    return answer["body"]["record"]


def stays_usable(agent, null_spec):
    return record_of(agent, null_spec(replicate=99))["status"] in ("ok", "degraded")


@pytest.mark.parametrize("phase", ["importing", "loading", "running"])
@pytest.mark.parametrize("name", ["SIGSEGV", "SIGILL", "SIGABRT", "SIGKILL"])
def test_death_by_signal_is_crashed_with_its_name(agent, null_spec, phase, name):
    record = record_of(agent, null_spec(fault="signal", fault_phase=phase, signal=name))
    where = "warmup" if phase == "running" else phase
    assert (record["status"], record["signal"], record["exit_code"]) == ("crashed", name, None)
    assert record["reasons"] == [f"died by {name} while {where}"]
    assert (record["memory"] is None) == (phase == "importing")
    assert stays_usable(agent, null_spec)


def test_what_was_known_before_the_crash_is_kept(agent, null_spec):
    record = record_of(agent, null_spec(fault="signal", fault_after_runs=3))
    assert record["runtime"]["version"] == "1"
    assert record["memory"]["load_peak_bytes"] > 0
    assert set(record["phases_s"]) == {"gate", "import", "load"}
    assert record["latency"] is None


def test_leaving_at_import_is_crashed_with_its_code(agent, null_spec):
    record = record_of(agent, null_spec(fault="exit", fault_phase="importing", exit_code=7))
    assert (record["status"], record["exit_code"], record["signal"]) == ("crashed", 7, None)
    assert record["reasons"] == ["exited with code 7 while importing"]


def test_an_exception_of_the_runtime_is_crashed_with_its_text(agent, null_spec):
    record = record_of(agent, null_spec(fault="raise", fault_phase="loading"))
    assert (record["status"], record["reasons"]) == ("crashed", ["RuntimeError: raised on request while loading"])


@pytest.mark.parametrize("fault", ["hang", "hang_ignoring_term"])
def test_a_hang_is_a_timeout_and_is_killed(agent, null_spec, fault):
    record = record_of(agent, null_spec(fault=fault), deadline_s=1)
    assert record["status"] == "timeout"
    assert record["reasons"] == ["the deadline of 1 s passed while warmup"]
    assert record["signal"] == ("SIGTERM" if fault == "hang" else "SIGKILL")
    assert stays_usable(agent, null_spec)


def test_memory_that_is_not_there_is_oom(agent, null_spec):
    record = record_of(agent, null_spec(fault="allocate", bytes=1 << 60))
    assert record["status"] == "oom"
    assert "MemoryError" in record["reasons"][0]


def test_memory_that_is_there_shows_in_the_peak(agent, null_spec):
    record = record_of(agent, null_spec(fault="allocate", fault_phase="loading", bytes=50 << 20))
    assert record["memory"]["model_bytes"] > 45 << 20
    assert record["memory"]["load_peak_bytes"] == record["memory"]["peak_bytes"]


def test_a_flood_on_stderr_is_taken_and_bounded(agent, null_spec):
    record = record_of(agent, null_spec(fault="flood_stderr", fault_phase="loading", bytes=8 << 20))
    assert record["status"] in ("ok", "degraded")
    assert 1000 < len(record["stderr_tail"]) <= 2048
    assert "\x1b" not in record["stderr_tail"]


def test_what_a_runtime_prints_never_reaches_the_protocol(agent, null_spec):
    record = record_of(agent, null_spec(fault="print_to_stdout", fault_phase="loading"))
    assert record["status"] in ("ok", "degraded")
    assert "printed by the runtime" in record["stderr_tail"]
    assert '"type":"bye"' in record["stderr_tail"]
    assert stays_usable(agent, null_spec)


def test_stragglers_of_a_worker_are_killed_with_it(agent, null_spec):
    record = record_of(agent, null_spec(fault="fork", fault_phase="loading"))
    assert record["status"] in ("ok", "degraded")
    until = time.monotonic() + 20
    while agents_alive(str(agent.process.args[3])) != [agent.pid]:
        assert time.monotonic() < until, "a straggler outlived its worker"
        time.sleep(0.02)


def agents_alive(archive):
    """The processes that run our agent file, in any role."""
    found = [path.parent for path in Path("/proc").glob("[0-9]*/cmdline") if archive.encode() in _text(path)]
    return [int(folder.name) for folder in found if _state(folder) != "Z"]


def _text(path):
    try:
        return path.read_bytes()
    except OSError:
        return b""


def _state(folder):
    try:
        return (folder / "stat").read_text().rsplit(")", 1)[1].split()[0]
    except OSError:
        return "Z"


@pytest.mark.parametrize(("output", "words"), [("nan", "not finite"), ("zero", "outside"), ("huge", "outside")])
def test_outputs_without_sense_are_invalid_and_keep_their_numbers(agent, null_spec, output, words):
    record = record_of(agent, null_spec(output=output))
    assert record["status"] == "invalid"
    assert words in record["reasons"][0]
    assert record["latency"]["n"] > 0


def test_what_the_agent_cannot_do_is_unsupported(agent, null_spec):
    cpus = len(os.sched_getaffinity(0))
    for spec, words in (
        (null_spec(threads=cpus + 1), f"{cpus} CPUs"),
        (null_spec(fault="explode"), "no fault explode"),
        (null_spec(colour="red"), "no option colour"),
        (null_spec(distribution="cauchy"), "no distribution cauchy"),
    ):
        record = record_of(agent, spec)
        assert record["status"] == "unsupported"
        assert words in record["reasons"][0]


def test_a_runtime_that_is_not_installed_is_unsupported(start_agent, null_spec, tmp_path):
    bare = tmp_path / "bare"
    bare.mkdir()
    # The interpreter without its virtual environment: real, and without onnxruntime.
    (bare / "python").symlink_to(Path(sys.base_prefix) / "bin" / "python3")
    agent = start_agent("s1", ["--worker-python", str(bare / "python")])
    agent.hello()
    folder = Path(agent.hello()["body"]["artifacts"])
    digest = protocol.hex_digest(b"model")
    (folder / f"{digest}.onnx").write_bytes(b"model")
    spec = {**null_spec(), "runtime": "onnxruntime", "artifact": {"sha256": digest, "suffix": ".onnx", "size": 5}}
    record = record_of(agent, spec)
    assert record["status"] == "unsupported"
    assert "onnxruntime needs onnxruntime, which is not installed" in record["reasons"][0]
    unknown = record_of(agent, {**spec, "runtime": "abacus"})
    assert unknown["reasons"] == ["this agent has no runtime abacus"]


def test_a_worker_python_that_does_not_exist_is_the_agents_fault_and_not_the_trials(start_agent, null_spec):
    agent = start_agent("s1", ["--worker-python", "/nowhere/python"])
    agent.hello()
    answer = agent.run(null_spec())
    assert (answer["type"], answer["body"]["family"]) == ("trial.failed", "agent")


def test_facts_tell_of_a_runtime_that_dies_at_import(start_agent, tmp_path):
    site = tmp_path / "env"
    venv.create(site, with_pip=False, system_site_packages=False)
    packages = next(site.glob("lib/python*/site-packages"))
    (packages / "onnxruntime.py").write_text("import os, signal; os.kill(os.getpid(), signal.SIGILL)\n")
    agent = start_agent("s1", ["--worker-python", str(site / "bin/python")])
    agent.hello()
    body = agent.ask("facts", {})["body"]
    assert body["runtimes"]["onnxruntime"]["import"] == "SIGILL"


def test_the_supervisors_death_takes_the_worker_along(agent, null_spec):
    spec = null_spec(fault="hang_ignoring_term")
    agent.send("trial.run", {"trial_id": protocol.trial_id(spec), "spec": spec, "deadline_s": 30})
    agent.wait_for_phase("warmup")
    worker = Path(f"/proc/{agent.pid}/task/{agent.pid}/children").read_text().split()[0]
    agent.process.kill()
    agent.process.wait()
    until = time.monotonic() + 20
    while _state(Path("/proc") / worker) != "Z":
        assert time.monotonic() < until, "the worker outlived its supervisor"
        time.sleep(0.02)
