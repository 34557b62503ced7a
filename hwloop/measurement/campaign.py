"""A campaign: a set of subjects measured on one device, each in several fresh processes, resumable at any moment.

The order is seeded and interleaved: the first process of every subject in random order, then the second of every
subject in another order, and so on. Drift of the machine then spreads over all subjects instead of leaning on one,
and the processes of one subject are far apart in time, so that their difference is an honest noise floor. What drifts
all the same is seen by the anchor (`anchor.py`) and measured again.

What is finished is known by trial id. A trial that an earlier, killed host had measured but not yet journalled is
fetched from the device's own journal, not measured again. How lost sessions and trials that kill boards are dealt with
is `execution.py`'s.
"""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from hwloop.measurement import anchor
from hwloop.measurement.execution import Execution, OpenSession, Session, Turn
from hwloop.measurement.measurement import USABLE, Measurement, pool
from hwloop.measurement.renewal import renew
from hwloop.measurement.store import EVENT, TrialStore
from hwloop.measurement.trial import THOROUGH, TimingProtocol, Trial
from hwloop.progress import Progress
from hwloop.runtimes import Artifact

#: Paces that differ by more than this are different paces (the agent's own tolerance, `hwloop_agent.pace.TOLERANCE`).
PACE_TOLERANCE = 1.06
#: One moment of a faster clock does not make all other trials doubtful (`hwloop_agent.pacebook.QUANTILE`).
PACE_QUANTILE = 0.1

#: Signals that come from outside: no runtime dies of them by itself, and the kernel's own kills for memory are `oom`.
FOREIGN_SIGNALS = ("SIGKILL", "SIGTERM")

__all__ = ["CampaignPlan", "Session", "Subject", "run_campaign"]


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
        attempts: a trial whose conditions were bad is repeated, after all others, until it has had so many attempts.
        seed: of the order.
        anchor_every: so many trials lie between two anchors; 0 for none. A campaign of fewer trials has none.
        retry_failed: trials without a number, quarantined ones too, are tried once more.
    """

    processes: int = 2
    threads: int = 1
    timing: TimingProtocol = THOROUGH
    attempts: int = 2
    seed: int = 0
    anchor_every: int = 20
    retry_failed: bool = False

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
    open_session: OpenSession,
    progress: Progress,
    description: str,
    sleep: Callable[[float], None] = time.sleep,
    rng: random.Random | None = None,
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
        rng: scatters these waits.

    Returns:
        The pooled measurement of each subject, by key, in the order of `subjects`.

    Raises:
        DeviceError: the device was lost and could not be reached again; all finished trials are in the store.
        UserError: the device may not be entered, or may not be measured; trying again is no use.
    """
    planned = plan.trials(subjects)
    anchors = _anchors(subjects, plan) if 0 < plan.anchor_every <= len(planned) else []
    run = Execution(
        store=store,
        open_session=open_session,
        progress=progress,
        sleep=sleep,
        rng=rng if rng is not None else random.Random(),
        turns=[Turn(subject.key, trial) for subject, trial in planned],
        anchors=anchors,
        anchor_every=plan.anchor_every,
    )
    with run:
        planned = renew(planned, store, run.peek, progress, retry_failed=plan.retry_failed)
        for further in range(plan.attempts):
            paces, drifted = _paces(planned, store), _drifted(store)
            again = [
                Turn(subject.key, replace(trial, attempt=trial.attempt + further))
                for subject, trial in planned
                if further == 0 or _is_doubtful(_latest(trial, store), paces, drifted)
            ]
            if again:
                run.all(again, description if further == 0 else f"{description}, doubtful ones again")
            run.judge_drift([replace(trial, attempt=trial.attempt + further).id for _, trial in planned])
    return _measurements(subjects, planned, store)


def _anchors(subjects: Sequence[Subject], plan: CampaignPlan) -> list[Turn]:
    """The subjects that may be the anchor, the best first: of middling size, so neither all overhead nor slow."""
    by_size = sorted(subjects, key=lambda subject: (len(subject.artifact.data), subject.key))
    middle = len(by_size) // 2
    ranked = sorted(range(len(by_size)), key=lambda index: abs(index - middle))
    return [Turn(by_size[i].key, Trial(by_size[i].artifact, plan.threads, plan.timing)) for i in ranked]


def _paces(planned: Sequence[tuple[Subject, Trial]], store: TrialStore) -> dict[str, float]:
    """The full pace of the CPUs, in ns per canary, by CPUs: a low quantile of what the campaign's trials saw."""
    seen: dict[str, list[float]] = {}
    for _, trial in planned:
        if trial.id not in store:
            continue
        conditions = store[trial.id].get("conditions") or {}
        if "pace_ns" in conditions:
            seen.setdefault(str(conditions["affinity"]), []).append(conditions["pace_ns"])
    return {cpus: float(np.quantile(paces, PACE_QUANTILE)) for cpus, paces in seen.items()}


def _drifted(store: TrialStore) -> dict[str, float]:
    """The trials that lay in a drifting span, with how far the anchor was off."""
    found: dict[str, float] = {}
    for event in store.events:
        if event[EVENT] == anchor.DRIFT:
            found |= event["trials"]
    return found


def _is_doubtful(record: Mapping[str, Any], paces: Mapping[str, float], drifted: Mapping[str, float]) -> bool:
    """Whether a trial is worth another attempt.

    It is where it is degraded; where it lay in a drifting span; where its worker was killed by somebody; or where it
    knew only a pace that others have beaten: the first trials on a device do not know its full pace yet, and on a core
    that was shared all the time, what they took for clean blocks were slow ones.
    """
    if record["status"] == "crashed":
        return record.get("signal") in FOREIGN_SIGNALS
    if record["status"] not in USABLE:
        return False
    conditions = record.get("conditions") or {}
    best = paces.get(str(conditions.get("affinity")), math.inf)
    beaten = conditions.get("pace_ns", 0.0) > best * PACE_TOLERANCE
    return record["status"] == "degraded" or beaten or record["trial_id"] in drifted


def _latest(trial: Trial, store: TrialStore) -> dict[str, Any]:
    """The record of a trial's last attempt that is in the store; of a finished campaign there is one."""
    attempt = trial.attempt
    while (later := replace(trial, attempt=attempt + 1).id) in store and store[later]["status"] in USABLE:
        attempt += 1
    return store[replace(trial, attempt=attempt).id]


def _measurements(
    subjects: Sequence[Subject], planned: Sequence[tuple[Subject, Trial]], store: TrialStore
) -> dict[str, Measurement]:
    drifted = _drifted(store)
    records: dict[str, list[dict[str, Any]]] = {subject.key: [] for subject in subjects}
    repeated: set[str] = set()
    for subject, trial in planned:
        latest = _latest(trial, store)
        records[subject.key].append(latest)
        digest, _, attempt = latest["trial_id"].partition(":")
        if any(f"{digest}:{earlier}" in drifted for earlier in range(trial.attempt, int(attempt))):
            repeated.add(subject.key)
    found: dict[str, Measurement] = {}
    for key, of_subject in records.items():
        measurement = pool(key, of_subject)
        off = [drifted[record["trial_id"]] for record in of_subject if record["trial_id"] in drifted]
        if measurement.usable and off:
            worst = max(off, key=abs)
            reason = f"measured in a drifting span (the anchor was off by {100 * worst:+.1f} %)"
            measurement = replace(measurement, status="degraded", reasons=(*measurement.reasons, reason))
        elif measurement.usable and key in repeated:
            measurement = replace(measurement, reasons=(*measurement.reasons, "drifting span, re-run"))
        found[key] = measurement
    return found
