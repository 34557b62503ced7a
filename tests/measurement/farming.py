"""A farm of replay devices, some slow, some broken: for the tests and for the benchmark `search-scale`."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from hwloop.devices import AgentSession
from hwloop.devices.replay import Faults, open_recording, workload_of
from hwloop.devices.transports.replay import ReplayTransport
from hwloop.measurement import CampaignPlan, Measurement, Subject, TimingProtocol, Trial, TrialStore, run_campaign
from hwloop.progress import Silent
from hwloop.tables import Context, LatencyTable, Row

SHORT = TimingProtocol(warmup_s=0.01, min_s=0.01, max_s=0.05, min_blocks=5, target_relative_interval=0.2)
ONCE = CampaignPlan(processes=1, timing=SHORT, attempts=1, anchor_every=0)


def record(path: Path, subjects: Sequence[Subject]) -> Path:
    """A latency table with a row for each subject: what every device of the farm answers from."""
    context = Context("pi", "Pi 4", "onnxruntime", "1.23.2", 1)
    LatencyTable(
        [
            Row(
                subject.key,
                1.0 + number,
                0.99 * (1 + number),
                1.01 * (1 + number),
                (1.0 + number,),
                status="ok",
                reasons=(),
                peak_bytes=50_000_000,
                model_bytes=1000,
                context=context,
                throttle="none",
                workload_sha256=workload_of(Trial(subject.artifact, 1, SHORT).spec),
            )
            for number, subject in enumerate(subjects)
        ]
    ).save(path)
    return path


@dataclass
class ReplayStation:
    """One device of the farm, with a journal of its own.

    Attributes:
        name: of the device.
        recording: that answers.
        folder: of the journal.
        faults: what goes wrong.
    """

    name: str
    recording: Path
    folder: Path
    faults: Faults
    sleep: Callable[[float], None] = time.sleep
    store: TrialStore = field(init=False)

    def __post_init__(self) -> None:
        self.store = TrialStore(self.folder / f"{self.name}.trials.ndjson")

    def has_begun(self, subject: Subject) -> bool:
        return any(trial.id in self.store for _, trial in ONCE.trials([subject]))

    def measure(self, subjects: Sequence[Subject], description: str) -> dict[str, Measurement]:
        return run_campaign(
            subjects, ONCE, self.store, self._open, Silent(), description, sleep=self.sleep, rng=random.Random(0)
        )

    def _open(self) -> AgentSession:
        transport = ReplayTransport(self.name, open_recording(self.recording), self.faults)
        return AgentSession.open(transport, session_id="farm")


def faults_of(devices: int, trial_s: float, seed: int) -> dict[str, Faults]:
    """One device in ten is five times slower, one in sixteen is lost in every trial, one in eight now and then."""
    rng = random.Random(seed)
    names = [f"pi-{number:02}" for number in range(devices)]
    shuffled = rng.sample(names, devices)
    slow = set(shuffled[: devices // 10])
    broken = set(shuffled[devices // 10 :][: devices // 16])
    shaky = set(shuffled[devices // 10 + devices // 16 :][: devices // 8])
    lost = {
        name: range(1, 10_000) if name in broken else rng.sample(range(1, 12), 2) if name in shaky else ()
        for name in names
    }
    return {name: Faults(frozenset(lost[name]), trial_s * (5 if name in slow else 1)) for name in names}
