"""What the agent costs: memory and processor time while idle, its size, connecting, deploying, a campaign's overhead.

`python -m tests.benchmarks cost [--quick]`. Each figure is printed with its bar and its spread; nothing is asserted.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hwloop.devices import AgentSession, Device, build_zipapp, local_device
from hwloop.devices.agentfile import place_agent
from hwloop.devices.provisioning.deploy import deploy
from hwloop.errors import HwloopError
from hwloop.layers import Layer
from hwloop.measurement import CampaignPlan, Subject, TrialStore, run_campaign
from hwloop.progress import Silent
from hwloop.runtimes import get_runtime
from tests.benchmarks.timing import milliseconds, spread
from tests.boards.x86 import SSHD, X86Board

IDLE_S = 10.0
IDLE_BAR_MB, ZIPAPP_BAR_KB, READY_BAR_MS, DEPLOY_BAR_MS, SHARE_BAR = 15.0, 150.0, 1000.0, 1500.0, 0.70
TARGET_MS = 5.0


def main(options: Sequence[str] = ()) -> None:
    """Print all figures."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks cost")
    parser.add_argument("--quick", action="store_true", help="fewer repetitions, for a look")
    quick = parser.parse_args(options).quick
    size = len(build_zipapp()) / 1e3
    print(f"zipapp: {size:.1f} kB (bar {ZIPAPP_BAR_KB:g} kB)")
    _idle(3.0 if quick else IDLE_S, 2 if quick else 3)
    _over_ssh(3 if quick else 7)
    _share(2 if quick else 4, 1 if quick else 3)


def _idle(seconds: float, repetitions: int) -> None:
    device = local_device()
    resident: list[float] = []
    own: list[float] = []
    busy: list[float] = []
    with tempfile.TemporaryDirectory() as root:
        for _ in range(repetitions):  # the first session of all starts from source, the others from what it compiled
            with AgentSession.open(device.open_transport(), session_id="idle", root=root) as session:
                process = Path(f"/proc/{session.hello.pid}")
                before, began = _cpu_ns(process), time.perf_counter()
                time.sleep(seconds)
                busy.append(100 * (_cpu_ns(process) - before) / 1e9 / (time.perf_counter() - began))
                pages = (process / "statm").read_text().split()
                page = os.sysconf("SC_PAGE_SIZE")
                resident.append(int(pages[1]) * page / 1e6)
                own.append((int(pages[1]) - int(pages[2])) * page / 1e6)
    print(f"agent idle, resident set: {_spread(resident, 'MB')} (bar {IDLE_BAR_MB:g} MB), of it shared with nothing:"
          f" {_spread(own, 'MB')}")  # fmt: skip
    print(f"agent idle, processor time over {seconds:g} s: {_spread(busy, '%', 4)} (bar 0 %)")


def _cpu_ns(process: Path) -> int:
    """Processor time of all its threads so far, in ns; the ticks of `stat` are too coarse for an idle process."""
    return sum(int((task / "schedstat").read_text().split()[0]) for task in (process / "task").iterdir())


def _over_ssh(repetitions: int) -> None:
    if SSHD is None:
        print("no sshd on this machine (Debian: openssh-server): connecting and deploying were not measured")
        return
    with tempfile.TemporaryDirectory() as folder:
        board = X86Board(Path(folder) / "board")
        board.start()
        try:

            def ready() -> float:
                began = time.perf_counter()
                with AgentSession.open(board.transport(), session_id="bench"):
                    return 1e3 * (time.perf_counter() - began)

            def placed() -> None:
                transport = board.transport()
                place_agent(transport, transport.default_root())
                transport.close()

            def deployed() -> None:
                deploy(board.transport(), [], Silent())

            ready()
            found = spread([ready() for _ in range(repetitions)])
            print(f"connect and ready over loopback sshd, agent there: {found} (bar {READY_BAR_MS:g} ms)")
            again = spread(milliseconds(placed, repetitions))
            print(f"deploy of an unchanged agent over loopback sshd: {again} (bar {DEPLOY_BAR_MS:g} ms)")
            try:
                whole = spread(milliseconds(deployed, repetitions))
            except HwloopError as error:
                print(f"`hwloop agent deploy`, runtimes too, was not measured: {error}")
            else:
                print(f"`hwloop agent deploy` again, onnxruntime there and tried out: {whole}")
        finally:
            board.cut()
            board.stop()


@dataclass(frozen=True)
class Shares:
    """Where a campaign's wall time went, in seconds."""

    wall: float
    blocks: float
    parts: dict[str, float]


def _layer(channels: int, size: int) -> Layer:
    shape = (1, channels, size, size)
    return Layer("conv", (shape,), shape, kernel=(3, 3), padding=(1, 1, 1, 1), bias=True, activation="relu")


def _share(layers: int, repetitions: int) -> None:
    """Print how much of a campaign of layers of about 5 ms is spent in blocks, with the default plan."""
    runtime = get_runtime("onnxruntime")
    subjects = [Subject(f"{size}", runtime.layer(_layer(64, size))) for size in range(56, 56 + 4 * layers, 4)]
    found = [_campaign(subjects) for _ in range(repetitions)]
    shares = [100 * one.blocks / one.wall for one in found]
    print(f"share of a campaign's wall time inside warm-up or timed blocks: {_spread(shares, '%', 1)}"
          f" (bar {100 * SHARE_BAR:g} %)")  # fmt: skip
    last = found[-1]
    rest = ", ".join(f"{name} {1e3 * seconds:.0f} ms" for name, seconds in last.parts.items())
    print(f"  of the last one's {1e3 * last.wall:.0f} ms: {rest}")


def _campaign(subjects: Sequence[Subject], device: Device | None = None) -> Shares:
    device = device or local_device()
    plan = CampaignPlan()
    with tempfile.TemporaryDirectory() as root, TrialStore(Path(root) / "trials.ndjson") as store:

        def open_session() -> AgentSession:
            return AgentSession.open(
                device.open_transport(), session_id="share", root=root, worker_python=device.worker_python
            )

        began = time.perf_counter()
        measured = run_campaign(subjects, plan, store, open_session, Silent(), "share")
        wall = time.perf_counter() - began
        ids = [trial_id for one in measured.values() for trial_id in one.trial_ids]
        records = _all_records(store, ids)
    print("  layers:", ", ".join(f"{one.latency_ms:.2f} ms ({one.status})" for one in measured.values()))
    parts = dict.fromkeys(
        ("warm-up", "timed blocks", "canaries", "import", "load", "rest of measuring", "elsewhere"), 0.0
    )
    for record in records:
        phases, latency = record["phases_s"], record["latency"]
        timed = sum(latency["samples_ns"]) * latency["runs_per_block"] / 1e9
        canaries = sum(latency["canary_ns"]) / 1e9
        parts["warm-up"] += phases["warmup"]
        parts["timed blocks"] += timed
        parts["canaries"] += canaries
        parts["import"] += phases["import"]
        parts["load"] += phases["load"]
        parts["rest of measuring"] += phases["measure"] - timed - canaries
    parts["elsewhere"] = wall - sum(parts.values())
    return Shares(wall, parts["warm-up"] + parts["timed blocks"], parts)


def _all_records(store: TrialStore, ids: Sequence[str]) -> list[dict[str, Any]]:
    """All attempts of the trials: what was repeated has taken time too."""
    bases = {trial_id.split(":")[0] for trial_id in ids}
    every = [f"{base}:{attempt}" for base in bases for attempt in range(1, 10)]
    return [store[trial_id] for trial_id in every if trial_id in store and store[trial_id]["latency"] is not None]


def _spread(values: Sequence[float], unit: str, digits: int = 2) -> str:
    median = f"{statistics.median(values):.{digits}f} {unit}"
    return f"{median} ({min(values):.{digits}f}–{max(values):.{digits}f}, n={len(values)})"
