"""A whole device on a tree of files: the real agent, whose `/proc` and `/sys` are a board's, over a real transport."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from hwloop.cli.main import app
from hwloop.devices import AgentSession
from hwloop.errors import AgentError
from hwloop.measurement import pool
from hwloop_agent import protocol
from tests.devices.tree_board import GOVERNOR, ORIN, Board
from tests.timing import QUICK

TIMING = {**QUICK, "min_s": 0.45, "max_s": 0.45, "max_blocks": 2000}


@pytest.fixture
def make_board(tmp_path: Path) -> Callable[..., Board]:
    return lambda **changes: Board(tmp_path, {**ORIN, **changes})


@pytest.fixture
def board(make_board: Callable[..., Board]) -> Board:
    return make_board()


def null_spec(**more: Any) -> dict[str, Any]:
    spec = {
        "artifact": None,
        "runtime": "null",
        "options": {"median_us": 200},
        "inputs": [],
        "threads": 1,
        "timing": TIMING,
        "replicate": 0,
    }
    return {**spec, **more}


def run(session: AgentSession, spec: dict[str, Any]) -> dict[str, Any]:
    return session.run_trial(protocol.trial_id(spec), spec)


needs_two_cpus = pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="no CPU is left to read the sensor")


@needs_two_cpus
def test_a_trial_on_a_jetson_has_energy_conditions_and_a_gate(board):
    with board.open() as session:
        record = run(session, null_spec())
        board.write("sys/class/thermal/thermal_zone0/temp", "71000")
        hot = run(session, null_spec(replicate=1, gate={"above_c": 5, "timeout_s": 0.6}))
        warm = run(session, null_spec(replicate=2, gate={"above_c": 5, "timeout_s": 0.6}))
    assert record["status"] in ("ok", "degraded"), record
    energy = record["energy"]
    assert (energy["method"], energy["rails"], energy["period_ms"]) == ("rails", ["VDD_IN"], 20.0)
    if energy["reason"]:  # the machine was so busy that the helper did not wake
        assert "not read for more than" in energy["reason"]
    else:
        samples = record["latency"]["samples_ns"]
        assert energy["mean_w"] == 7.5
        assert energy["periods"] >= 20
        assert energy["joules_per_run"] == pytest.approx(7.5 * sum(samples) / len(samples) / 1e9, rel=1e-3)
        assert pool("k", [record]).energy_mj == pytest.approx(1000 * energy["joules_per_run"])
        assert 0 < energy["run_share"] <= 1
    conditions = record["conditions"]
    assert (conditions["gate"], conditions["gate_start_c"], conditions["throttle"]) == ("passed", 45.0, "none")
    assert conditions["before"]["power_mode"] == "MAXN"
    assert (hot["conditions"]["gate"], hot["conditions"]["gate_baseline_c"]) == ("timeout", 45.0)
    assert hot["phases_s"]["gate"] >= 0.6
    # What the wait got down to is what is cool now.
    assert (warm["conditions"]["gate"], warm["conditions"]["gate_baseline_c"]) == ("passed", 71.0)


def test_a_throttle_counter_that_grows_during_a_trial_degrades_it(board):
    with board.open() as session:
        spec = null_spec()

        def on_phase(phase: str) -> None:
            if phase == "measuring":
                time.sleep(0.3)
                board.write("sys/class/hwmon/hwmon2/oc1_event_cnt", "4")

        record = session.run_trial(protocol.trial_id(spec), spec, on_phase=on_phase)
    if record["conditions"]["before"]["throttle_evidence"]["counters"]["hwmon2/oc1_event_cnt"] == 3:
        assert record["conditions"]["throttle"] == "seen"
        assert "the processor was throttled" in record["reasons"]


def test_a_network_that_does_not_fit_is_refused_before_anything_is_loaded(make_board):
    board = make_board(**{"proc/meminfo": "MemTotal: 90000 kB\nMemAvailable: 60000 kB"})
    data = b"no network at all"
    digest = sha256(data).hexdigest()
    with board.open() as session:
        session.put_artifact(data, digest, ".onnx")
        artifact = {"sha256": digest, "suffix": ".onnx", "size": len(data)}
        record = run(session, null_spec(runtime="onnxruntime", options={}, artifact=artifact))
    assert record["status"] == "unsupported"
    assert "61 MB of memory are available" in record["reasons"][0]
    assert record["phases_s"] is None


def test_facts_name_the_board_and_show_its_sensors_readably(board):
    shown = CliRunner().invoke(app, ["device", "facts", "orin", "--inventory", str(board.inventory)])
    text = " ".join(shown.output.split())
    assert shown.exit_code == 0, shown.output
    for words in ("profile jetson-orin-nano-nx", "VDD_IN 7.50 W (in the total)", "MAXN", "45.0 °C", "can be told"):
        assert words in text


def test_an_unreadable_sensor_is_shown_as_unknown(make_board):
    board = make_board(**{"sys/class/hwmon/hwmon1/curr1_input": "", "sys/class/hwmon/hwmon2/oc1_event_cnt": "?"})
    shown = CliRunner().invoke(app, ["device", "facts", "orin", "--inventory", str(board.inventory)])
    text = " ".join(shown.output.split())
    assert "VDD_IN unknown (in the total)" in text
    assert "oc1_event_cnt cannot be read" in text


def test_a_profile_of_ones_own_replaces_the_one_that_was_recognised(board, tmp_path):
    own = tmp_path / "mine.toml"
    own.write_text('title = "mine"\n[power]\nrails = ["VDD_IN", "VDD_USB"]\n')
    with board.open(board=str(own)) as session:
        assert session.facts()["board"]["profile"] == "mine"
        record = run(session, null_spec())
    assert record["energy"]["reason"] == "the board has no rail VDD_USB (it has VDD_IN)"
    assert record["conditions"]["throttle"] == "none"  # its counters answer, and it asks for no more


def test_an_agent_refuses_what_is_no_profile(board):
    device = board.device()
    with pytest.raises(AgentError, match=r"the board's profile\.needs is of the wrong kind"):
        AgentSession.open(
            device.open_transport(), session_id="s1", root=device.root, board={"name": "x", "needs": ["magic"]}
        )


def tune(board: Board, *options: str) -> Any:
    return CliRunner().invoke(app, ["device", "tune", "orin", "--inventory", str(board.inventory), *options])


def test_tuning_shows_the_difference_and_changes_nothing_unasked(board):
    shown = tune(board, "--show")
    assert shown.exit_code == 0
    assert f"would change /{GOVERNOR}: schedutil -> performance" in shown.output
    assert board.read(GOVERNOR) == "schedutil"
    unasked = CliRunner().invoke(app, ["device", "tune", "orin", "--inventory", str(board.inventory)])
    assert unasked.exit_code != 0
    assert "scripts say --yes" in str(unasked.exception)
    assert board.read(GOVERNOR) == "schedutil"


def start_tuning(board: Board) -> subprocess.Popen[str]:
    argv = [sys.executable, "-m", "hwloop.cli.main", "device", "tune", "orin", "--yes"]
    process = subprocess.Popen(
        [*argv, "--inventory", str(board.inventory)], stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    assert process.stdout is not None
    for line in process.stdout:
        if "is tuned" in line:
            return process
    raise AssertionError(f"it was not tuned: exit code {process.wait()}")


def test_a_device_is_held_tuned_until_asked_to_stop_and_then_put_back(board):
    process = start_tuning(board)
    assert board.read(GOVERNOR) == "performance"
    assert json.loads((board.agent_root / "tuned.json").read_text())["values"] == {
        GOVERNOR.removeprefix("sys/"): "schedutil"
    }
    second = tune(board, "--restore")
    assert "holds the board tuned" in str(second.exception)
    process.terminate()
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    assert "orin is as it was" in output
    assert board.read(GOVERNOR) == "schedutil"
    assert not (board.agent_root / "tuned.json").exists()


def test_a_host_that_is_killed_leaves_a_device_that_puts_itself_back(board):
    process = start_tuning(board)
    process.kill()
    process.communicate(timeout=60)
    until = time.monotonic() + 60
    while (board.agent_root / "tuned.json").exists() and time.monotonic() < until:
        time.sleep(0.05)
    assert board.read(GOVERNOR) == "schedutil"


@pytest.mark.parametrize("way", ["session", "command"])
def test_what_was_left_tuned_is_put_back_by_the_next_session_or_by_command(board, way):
    board.write(GOVERNOR, "performance")
    board.agent_root.mkdir()
    values = {GOVERNOR.removeprefix("sys/"): "schedutil"}
    left = board.agent_root / "tuned.json"
    left.write_text(json.dumps({"boot_id": board.read("proc/sys/kernel/random/boot_id"), "values": values}))
    if way == "session":
        with board.open():
            pass
    else:
        assert f"put back /{GOVERNOR}: performance -> schedutil" in tune(board, "--restore").output
        assert "nothing was left tuned" in tune(board, "--restore").output
    assert board.read(GOVERNOR) == "schedutil"
    assert not left.exists()


def test_a_board_whose_governor_cannot_be_written_is_refused_with_the_remedy(board):
    path = board.root / GOVERNOR
    path.unlink()
    path.symlink_to("/sys/devices/system/cpu/possible")  # even root may not write it
    shown = tune(board, "--yes")
    assert shown.exit_code != 0
    assert "can be changed by root only (sudo is not installed): log in as root" in str(shown.exception)
    assert not (board.agent_root / "tuned.json").exists()
