from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hwloop.devices import AgentSession
from hwloop.devices.hello import Hello
from hwloop.errors import DeviceError
from hwloop.measurement import CampaignPlan, Subject, TimingProtocol, Trial, TrialStore, run_campaign
from hwloop.progress import Silent
from hwloop_agent.journal import read_records
from tests.measurement.conftest import make_subjects

SHORT = TimingProtocol(warmup_s=0.01, min_s=0.01, max_s=0.05, min_blocks=5, target_relative_interval=0.2)
ONCE = CampaignPlan(processes=2, timing=SHORT, attempts=1)


@pytest.fixture
def subjects() -> list[Subject]:
    return make_subjects(3)


def trial_ids(store: Path) -> list[str]:
    return [record["trial_id"] for record in read_records(store)[0]]


def test_every_subject_is_measured_in_every_process_and_never_again(
    tmp_path: Path, subjects: list[Subject], opener: Callable[[], AgentSession]
) -> None:
    path = tmp_path / "trials.ndjson"
    with TrialStore(path) as store:
        first = run_campaign(subjects, ONCE, store, opener, Silent(), "layers")
    assert list(first) == [subject.key for subject in subjects]
    assert all(m.usable and len(m.trial_ids) == 2 and m.peak_bytes > m.model_bytes > 0 for m in first.values())
    assert len(set(trial_ids(path))) == len(trial_ids(path)) == 6

    def refuse() -> AgentSession:
        raise AssertionError("a finished campaign must not touch the device")

    with TrialStore(path) as store:
        assert run_campaign(subjects, ONCE, store, refuse, Silent(), "layers") == first


def test_an_agent_killed_in_the_middle_costs_nothing_that_was_measured(
    tmp_path: Path, subjects: list[Subject], opener: Callable[[], AgentSession]
) -> None:
    path = tmp_path / "trials.ndjson"
    sessions: list[AgentSession] = []

    class Mortal:
        """A real session whose agent dies after its second trial."""

        def __init__(self) -> None:
            self.session = opener()
            sessions.append(self.session)
            self.trials = 0

        def run_trial(self, trial_id: str, spec: dict[str, Any]) -> dict[str, Any]:
            if self.trials == 2 and len(sessions) < 3:
                os.kill(self.session.hello.pid, signal.SIGKILL)
            self.trials += 1
            return self.session.run_trial(trial_id, spec)

        def __getattr__(self, name: str) -> Any:
            return getattr(self.session, name)

    with TrialStore(path) as store:
        measured = run_campaign(subjects, ONCE, store, Mortal, Silent(), "layers", sleep=lambda _: None)
    assert len(sessions) == 3
    assert all(m.usable for m in measured.values())
    assert len(set(trial_ids(path))) == len(trial_ids(path)) == 6


def test_a_trial_that_a_killed_host_had_measured_is_fetched_not_repeated(
    tmp_path: Path, subjects: list[Subject], opener: Callable[[], AgentSession]
) -> None:
    subject = subjects[0]
    orphan = Trial(subject.artifact, 1, SHORT)
    with opener() as session:  # the host dies between the result and its own journal
        session.put_artifact(subject.artifact.data, subject.artifact.sha256, subject.artifact.suffix)
        measured_before = session.run_trial(orphan.id, orphan.spec)
    with TrialStore(tmp_path / "trials.ndjson") as store:
        run_campaign([subject], CampaignPlan(1, 1, SHORT, 1), store, opener, Silent(), "layers")
        assert store[orphan.id] == measured_before


def test_a_device_that_stays_away_is_an_error_that_says_what_is_kept(tmp_path: Path, subjects: list[Subject]) -> None:
    def gone() -> AgentSession:
        raise DeviceError("no route to the board")

    waits: list[float] = []
    with TrialStore(tmp_path / "trials.ndjson") as store, pytest.raises(DeviceError, match="0 of 6 trials"):
        run_campaign(subjects, ONCE, store, gone, Silent(), "layers", sleep=waits.append)
    assert len(waits) == 5
    assert all(pause <= wait <= 1.5 * pause for pause, wait in zip((1, 2, 4, 8, 16), waits, strict=True))


class Scripted:
    """A session that answers as told: bad conditions cannot be made to order."""

    last_seq = 0
    in_flight = None
    hello = Hello("", "1", "3.8.0", "python3", 1, "boot", 0, "/x", (0,), 0, 0)

    def __init__(self, statuses: list[str]) -> None:
        self.statuses = statuses
        self.asked: list[str] = []

    def run_trial(self, trial_id: str, spec: dict[str, Any]) -> dict[str, Any]:
        self.asked.append(trial_id)
        number = len(self.asked)
        status = self.statuses.pop(0)
        return {
            "trial_id": trial_id,
            "spec": spec,
            "status": status,
            "reasons": [] if status == "ok" else ["canary +9 %"],
            "runtime": {"name": "onnxruntime", "version": "1"},
            "latency": {"median_ns": number * 1e6, "low_ns": number * 1e6, "high_ns": number * 1e6},
            "memory": {"method": "VmHWM", "peak_bytes": 2, "model_bytes": 1},
        }

    def put_artifact(self, data: bytes, sha256: str, suffix: str) -> None: ...
    def finished(self) -> list[dict[str, Any]]:
        return []

    def canary(self) -> dict[str, Any]:
        raise AssertionError("nothing has rebooted")

    def acknowledge(self, seq: int) -> None: ...
    def close(self) -> None: ...


def test_degraded_trials_are_repeated_and_the_good_attempt_counts(tmp_path: Path, subjects: list[Subject]) -> None:
    session = Scripted(["degraded", "ok", "degraded", "ok"])
    plan = CampaignPlan(processes=2, timing=SHORT, attempts=3)
    with TrialStore(tmp_path / "trials.ndjson") as store:
        (measured,) = run_campaign(subjects[:1], plan, store, lambda: session, Silent(), "layers").values()
    assert [trial_id.rpartition(":")[2] for trial_id in session.asked] == ["1", "1", "2", "3"]
    assert measured.status == "ok"
    assert measured.process_medians_ms == (4.0, 2.0)


def test_a_trial_that_knew_only_a_slow_pace_is_repeated(tmp_path: Path, subjects: list[Subject]) -> None:
    paces = iter([180.0, 100.0, 101.0])

    class Paced(Scripted):
        def run_trial(self, trial_id: str, spec: dict[str, Any]) -> dict[str, Any]:
            conditions = {"affinity": [1], "pace_ns": next(paces)}
            return super().run_trial(trial_id, spec) | {"conditions": conditions}

    session = Paced(["ok", "ok", "ok"])
    plan = CampaignPlan(processes=2, timing=SHORT, attempts=3)
    with TrialStore(tmp_path / "trials.ndjson") as store:
        (measured,) = run_campaign(subjects[:1], plan, store, lambda: session, Silent(), "layers").values()
    assert [trial_id.rpartition(":")[2] for trial_id in session.asked] == ["1", "1", "2"]
    assert measured.process_medians_ms == (3.0, 2.0)


def test_bad_conditions_that_stay_bad_are_reported_not_hidden(tmp_path: Path, subjects: list[Subject]) -> None:
    session = Scripted(["degraded"] * 4)
    plan = CampaignPlan(processes=2, timing=SHORT, attempts=2)
    with TrialStore(tmp_path / "trials.ndjson") as store:
        (measured,) = run_campaign(subjects[:1], plan, store, lambda: session, Silent(), "layers").values()
    assert measured.status == "degraded"
    assert measured.reasons == ("canary +9 %",)


def test_the_order_is_seeded_and_interleaves_processes(subjects: list[Subject]) -> None:
    order = [(s.key, t.replicate) for s, t in CampaignPlan(processes=3, seed=1).trials(subjects)]
    assert order == [(s.key, t.replicate) for s, t in CampaignPlan(processes=3, seed=1).trials(subjects)]
    assert [replicate for _, replicate in order] == [0] * 3 + [1] * 3 + [2] * 3
    assert any(
        order != [(s.key, t.replicate) for s, t in CampaignPlan(processes=3, seed=seed).trials(subjects)]
        for seed in range(2, 8)
    )
