"""A campaign: a set of subjects measured on one device, each in several fresh processes, resumable at any moment.

The order is seeded and interleaved: the first process of every subject in random order, then the second of every
subject in another order, and so on. Drift of the machine then spreads over all subjects instead of leaning on one,
and the processes of one subject are far apart in time, so that their difference is an honest noise floor.

What is finished is known by trial id. A trial that an earlier, killed host had measured but not yet journalled is
fetched from the device's own journal, not measured again.
"""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from hwloop.errors import DeviceBusyError, DeviceError
from hwloop.measurement.measurement import USABLE, Measurement, pool
from hwloop.measurement.store import TrialStore
from hwloop.measurement.trial import TimingProtocol, Trial
from hwloop.progress import Progress, Step
from hwloop.runtimes import Artifact

#: How often a lost session is opened again before the campaign gives up, and the pause before each try.
BACKOFF_S = (1.0, 2.0, 4.0)

#: Paces that differ by more than this are different paces (the agent's own tolerance, `hwloop_agent.pace.TOLERANCE`).
PACE_TOLERANCE = 1.06


class Session(Protocol):
    """What a campaign needs of an agent session; `hwloop.devices.AgentSession` is one."""

    def put_artifact(self, data: bytes, sha256: str, suffix: str) -> None:
        """Make the artifact available on the device; nothing happens when it is there already."""

    def run_trial(self, trial_id: str, spec: dict[str, Any]) -> dict[str, Any]:
        """Run one trial and return its record."""

    def finished(self) -> list[dict[str, Any]]:
        """Records of the trials that the device's own journal of this session holds."""

    @property
    def last_seq(self) -> int:
        """The highest number of a record that this session has seen in the device's journal."""

    def acknowledge(self, seq: int) -> None:
        """Tell the device that the records up to `seq` are safe here."""

    def close(self) -> None:
        """End the session."""


@dataclass(frozen=True)
class Subject:
    """Something to measure: a name that is unique in the campaign, and its artifact."""

    key: str
    artifact: Artifact


@dataclass(frozen=True)
class CampaignPlan:
    """How every subject of a campaign is measured.

    Attributes:
        processes: fresh processes per subject.
        threads: threads of the runtime.
        timing: the timing protocol of each process.
        attempts: a trial that ended ``degraded`` is repeated, after all others, until it has had so many attempts.
        seed: of the order.
    """

    processes: int = 2
    threads: int = 1
    timing: TimingProtocol = field(default_factory=TimingProtocol)
    attempts: int = 2
    seed: int = 0

    def trials(self, subjects: Sequence[Subject]) -> list[tuple[Subject, Trial]]:
        """All trials in the order in which they are to run."""
        rng = random.Random(self.seed)
        ordered: list[tuple[Subject, Trial]] = []
        for replicate in range(self.processes):
            shuffled = list(subjects)
            rng.shuffle(shuffled)
            ordered += [
                (subject, Trial(subject.artifact, self.threads, self.timing, replicate)) for subject in shuffled
            ]
        return ordered


def run_campaign(
    subjects: Sequence[Subject],
    plan: CampaignPlan,
    store: TrialStore,
    open_session: Callable[[], Session],
    progress: Progress,
    description: str,
    sleep: Callable[[float], None] = time.sleep,
) -> dict[str, Measurement]:
    """Measure all subjects, continuing where an earlier run stopped.

    Args:
        subjects: what to measure; keys are unique.
        plan: how.
        store: finished trials; every trial is added to it the moment it is finished.
        open_session: opens a session with the agent; called again after a lost one.
        progress: shown one unit per trial.
        description: of the campaign, for the progress.
        sleep: waits between tries to reconnect.

    Returns:
        The pooled measurement of each subject, by key, in the order of `subjects`.

    Raises:
        DeviceError: the device was lost and could not be reached again; all finished trials are in the store.
    """
    planned = plan.trials(subjects)
    run = _Run(store, open_session, progress, sleep)
    for attempt in range(1, plan.attempts + 1):
        paces = _paces(planned, store)
        trials = [
            (subject, replace(trial, attempt=attempt))
            for subject, trial in planned
            if attempt == 1 or _is_doubtful(_latest(trial, store), paces)
        ]
        if trials:
            name = description if attempt == 1 else f"{description}, degraded ones again"
            run.all(trials, name)
    records: dict[str, list[dict[str, Any]]] = {subject.key: [] for subject in subjects}
    for subject, trial in planned:
        records[subject.key].append(_latest(trial, store))
    return {key: pool(key, found) for key, found in records.items()}


def _paces(planned: Sequence[tuple[Subject, Trial]], store: TrialStore) -> dict[str, float]:
    """The fastest pace that any trial of the campaign saw on its CPUs, in ns per canary, by CPUs."""
    fastest: dict[str, float] = {}
    for _, trial in planned:
        if trial.id not in store:
            continue
        conditions = store[trial.id].get("conditions") or {}
        if "pace_ns" in conditions:
            cpus = str(conditions["affinity"])
            fastest[cpus] = min(fastest.get(cpus, math.inf), conditions["pace_ns"])
    return fastest


def _is_doubtful(record: Mapping[str, Any], paces: Mapping[str, float]) -> bool:
    """Whether a trial is worth another attempt: it is degraded, or it knew only a pace that others have beaten.

    The first trials on a device do not know its full pace yet; on a core that was shared all the time, what they took
    for clean blocks were slow ones.
    """
    conditions = record.get("conditions") or {}
    best = paces.get(str(conditions.get("affinity")), math.inf)
    beaten = record["status"] in USABLE and conditions.get("pace_ns", 0.0) > best * PACE_TOLERANCE
    return record["status"] == "degraded" or beaten


def _latest(trial: Trial, store: TrialStore) -> dict[str, Any]:
    """The record of a trial's last attempt that is in the store; of a finished campaign there is one."""
    attempt = 1
    while (later := replace(trial, attempt=attempt + 1).id) in store and store[later]["status"] in USABLE:
        attempt += 1
    return store[replace(trial, attempt=attempt).id]


@dataclass(frozen=True)
class _Run:
    """Runs trials in order, each once, whatever happens to the sessions."""

    store: TrialStore
    open_session: Callable[[], Session]
    progress: Progress
    sleep: Callable[[float], None]

    def all(self, trials: Sequence[tuple[Subject, Trial]], description: str) -> None:
        """Run the trials that are not in the store."""
        pending = {trial.id: (subject, trial) for subject, trial in trials}  # two subjects can be the same trial
        total = len(pending)
        pending = {trial_id: entry for trial_id, entry in pending.items() if trial_id not in self.store}
        with self.progress.step(description, total=total, done=total - len(pending)) as step:
            lost = 0
            while pending:
                before = len(pending)
                try:
                    self._through_one_session(pending, step)
                except DeviceBusyError:
                    raise
                except DeviceError as error:
                    lost = 0 if len(pending) < before else lost
                    if lost == len(BACKOFF_S):
                        raise DeviceError(
                            f"{error} ({total - len(pending)} of {total} trials are measured and kept;"
                            " run the same command again to go on)"
                        ) from error
                    self.progress.say(f"lost the agent ({error}); trying again in {BACKOFF_S[lost]:.0f} s")
                    self.sleep(BACKOFF_S[lost])
                    lost += 1

    def _through_one_session(self, pending: dict[str, tuple[Subject, Trial]], step: Step) -> None:
        """Take finished trials out of `pending` until it is empty or the session breaks."""
        session = self.open_session()
        try:
            for record in session.finished():
                trial_id = record["trial_id"]
                if trial_id in pending:
                    self.store.add(record)
                    del pending[trial_id]
                    step.advance(1, "measured before, fetched now")
            for trial_id, (subject, trial) in list(pending.items()):
                artifact = subject.artifact
                session.put_artifact(artifact.data, artifact.sha256, artifact.suffix)
                self.store.add(session.run_trial(trial_id, trial.spec))
                del pending[trial_id]
                step.advance(1, subject.key)
            session.acknowledge(session.last_seq)
        finally:
            session.close()
