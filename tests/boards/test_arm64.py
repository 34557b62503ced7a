"""The whole way on a board that has Python 3.11 and sshd and nothing else: an emulated Debian arm64 machine."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from hwloop.devices import AgentSession, Device, SshAccess, Transport
from hwloop.devices.inventory import Inventory
from hwloop.devices.provisioning import Deployment, deploy, remove, status
from hwloop.devices.ssh.hostkey import HostKey
from hwloop.errors import UserError
from hwloop.layers import Layer
from hwloop.measurement import Bench, CampaignPlan, Subject, TimingProtocol, Trial, TrialStore
from hwloop.progress import Silent
from hwloop.runtimes import get_runtime
from hwloop_agent import protocol
from tests.boards import arm64
from tests.boards.arm64 import Board

pytestmark = [pytest.mark.board, pytest.mark.timeout(900)]

# Emulation is slow: a trial here only shows that it runs.
SLOW = {"max_s": 1.0, "target_relative_interval": 0.5}


def access_to(board: Board) -> SshAccess:
    key = (board.tree / "etc/ssh/ssh_host_ed25519_key.pub").read_text().split()
    return SshAccess(board.host, board.port, board.user, str(board.key), HostKey.parse(" ".join(key[:2])))


def way_to(board: Board) -> Transport:
    return Device("arm64", "ssh", "python3", "python3", None, access_to(board)).open_transport()


def files_of(board: Board) -> set[str]:
    return {path.name for path in Path(board.on_host(board.home)).iterdir()}


@pytest.fixture(scope="module")
def deployed(arm64_board: Board, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    """Two runtimes on the board; gone without a trace afterwards."""
    assert files_of(arm64_board) == set()
    yield deploy(way_to(arm64_board), ["onnxruntime==1.23.2", "litert"], Silent())
    remove(way_to(arm64_board))
    assert files_of(arm64_board) == set()


def test_the_board_has_python_and_sshd_and_neither_pip_nor_ensurepip(arm64_board):
    assert arm64_board.ssh("uname -m; id -un; pwd").split() == ["aarch64", "board", "/home/board"]
    for module in ("pip", "ensurepip"):
        said = arm64_board.ssh(f"python3 -m {module} --version 2>&1 || true")
        assert f"No module named {module}" in said


def test_both_runtimes_work_there_and_the_board_says_that_it_is_emulated(deployed):
    assert deployed.runtimes == {"litert": "ok", "onnxruntime": "ok"}
    assert deployed.version("onnxruntime") == "1.23.2"
    assert deployed.facts["runtimes"]["onnxruntime"]["run"] == "ok"
    assert deployed.facts["emulated"] is True
    assert (deployed.facts["arch"], deployed.facts["python_arch"]) == ("aarch64", "aarch64")


def test_a_second_deployment_only_looks(arm64_board, deployed):
    again = deploy(way_to(arm64_board), [], Silent())
    assert not again.changed
    assert again.installed == deployed.installed
    assert status(way_to(arm64_board), Silent()).runtimes == deployed.runtimes


@pytest.mark.parametrize(("runtime", "version"), [("onnxruntime", "1.23.2"), ("litert", "ai_edge_litert 2.")])
def test_a_layer_is_measured_there(arm64_board, deployed, runtime, version):
    shape = (1, 16, 8, 8)
    layer = Layer("conv", (shape,), shape, kernel=(3, 3), padding=(1, 1, 1, 1), bias=True, activation="relu")
    artifact = get_runtime(runtime).layer(layer)
    trial = Trial(artifact, 1, TimingProtocol(max_s=1.0, target_relative_interval=0.5))
    with AgentSession.open(
        way_to(arm64_board), session_id=f"measured-{runtime}", worker_python=deployed.worker_python
    ) as session:
        session.put_artifact(artifact.data, artifact.sha256, artifact.suffix)
        record = session.run_trial(trial.id, trial.spec)
    assert record["status"] in ("ok", "degraded"), record["reasons"]
    assert record["runtime"]["version"].startswith(version)
    assert record["latency"]["median_ns"] > 0
    assert record["emulated"] is True


def test_what_nobody_builds_for_this_board_is_said_before_anything_is_sent(arm64_board, deployed):
    with pytest.raises(UserError, match=r"onnxruntime==0\.1 has no wheel for Python 3\.11 on aarch64 with glibc 2\.36"):
        deploy(way_to(arm64_board), ["onnxruntime==0.1"], Silent())


def test_a_runtime_that_dies_by_signal_is_a_result_and_the_campaign_ends_in_order(tmp_path, null_spec):
    """The real crash of a real wheel: under bare emulation onnxruntime 1.31.1 reads a processor of another world."""
    with arm64.running(tmp_path / "bare", own_cpuinfo=False) as board:
        done = deploy(way_to(board), ["onnxruntime==1.31.1"], Silent())
        # In its import or in its first run: that depends on the processor below the emulator.
        assert list(done.broken) == ["onnxruntime"]
        assert done.broken["onnxruntime"].startswith("SIGSEGV")

        device = Device("arm64", "ssh", "python3", done.worker_python or "", None, access_to(board))
        plan = CampaignPlan(processes=2, timing=TimingProtocol(max_s=1.0, target_relative_interval=0.5))
        subjects = [
            Subject(layer.key, get_runtime("onnxruntime").layer(layer))
            for layer in (Layer("relu", ((1, size, 4, 4),), (1, size, 4, 4)) for size in (8, 16))
        ]
        with TrialStore(tmp_path / "trials.ndjson") as store:
            measured = Bench(device, "dying", store, plan, Silent()).measure(subjects, "layers")
            trials = [store[trial_id] for one in measured.values() for trial_id in one.trial_ids]
        assert {one.status for one in measured.values()} == {"crashed"}
        assert [trial["signal"] for trial in trials] == ["SIGSEGV"] * 4

        with AgentSession.open(way_to(board), session_id="dying", worker_python=done.worker_python) as session:
            spec = null_spec(timing=SLOW)
            record = session.run_trial(protocol.trial_id(spec), spec)
            assert record["status"] in ("ok", "degraded"), "another runtime goes on"
        remove(way_to(board))
        assert files_of(board) == set()


def test_the_commands_add_deploy_tell_and_remove(arm64_board, deployed, tmp_path):
    def hwloop(*words: str) -> subprocess.CompletedProcess[str]:
        argv = [sys.executable, "-m", "hwloop.cli.main", *words]
        return subprocess.run(argv, capture_output=True, text=True, cwd=tmp_path, check=False, timeout=300)

    trust = ["--fingerprint", arm64_board.fingerprint, "--identity", str(arm64_board.key)]
    added = hwloop("device", "add", "pi", arm64_board.url, *trust, "--inventory", str(tmp_path / "devices.toml"))
    assert added.returncode == 0, added.stderr
    done = hwloop("agent", "deploy", "pi")
    assert done.returncode == 0, done.stderr
    assert "unchanged" in done.stdout
    assert "emulated" in done.stdout
    device = Inventory.find(tmp_path).get("pi")
    assert device.worker_python == deployed.worker_python
    told = json.loads(hwloop("agent", "status", "pi", "--json").stdout)
    assert told["runtimes"]["onnxruntime"] == {"version": "1.23.2", "outcome": "ok"}
    assert told["emulated"] is True


def test_restarting_sshd_is_no_reboot(arm64_board):
    before = arm64_board.ssh("cat /proc/sys/kernel/random/boot_id")
    arm64_board.stop_sshd()
    with pytest.raises(arm64.BoardError):
        arm64_board.ssh("true")
    arm64_board.start_sshd()
    assert arm64_board.ssh("cat /proc/sys/kernel/random/boot_id") == before


def test_the_board_dies_with_whoever_started_it_and_leaves_no_mount(tmp_path, arm64_board):
    """Killed as hard as can be, between its mounts and the end of a test."""
    code = (
        "import sys, time; from pathlib import Path; from tests.boards import arm64\n"
        "arm64.build(Path(sys.argv[1])); b = arm64.start(Path(sys.argv[1]), with_parent=True)\n"
        "print(b.pid, b.ssh('cat /proc/sys/kernel/random/boot_id').strip(), flush=True); time.sleep(600)\n"
    )
    folder = tmp_path / "doomed"
    argv = [sys.executable, "-c", code, str(folder)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2]) as process:
        pid, boot_id = process.stdout.readline().split()
        init = int(Path(f"/proc/{pid}/task/{pid}/children").read_text())
        os.kill(process.pid, signal.SIGKILL)
    until = time.monotonic() + 20
    while Path(f"/proc/{pid}").exists() or Path(f"/proc/{init}").exists():
        assert time.monotonic() < until, "the board has outlived its test"
        time.sleep(0.05)
    assert str(folder) not in Path("/proc/self/mountinfo").read_text()
    assert list((folder / "tree/proc").iterdir()) == []
    assert Path("/proc/sys/kernel/random/boot_id").read_text().strip() != boot_id
    again = arm64.start(folder, with_parent=True)
    assert again.ssh("cat /proc/sys/kernel/random/boot_id").strip() != boot_id
    again.stop()
    shutil.rmtree(folder)  # pytest would keep it
