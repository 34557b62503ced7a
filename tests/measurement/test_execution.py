"""Losses and drift in whole campaigns: real agents that really die, and scripted ones for what cannot be ordered."""

from __future__ import annotations

import os
import random
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from hwloop.devices import AgentSession
from hwloop.devices.hello import Hello, InFlight
from hwloop.devices.replay import FIRST_ANCHOR
from hwloop.errors import AccessError, AgentMismatchError, DeviceError, StudyError, TransportError
from hwloop.measurement import CampaignPlan, Subject, TimingProtocol, TrialStore, run_campaign
from hwloop.progress import Silent
from tests.hearing import Heard
from tests.measurement.conftest import make_subjects

SHORT = TimingProtocol(warmup_s=0.01, min_s=0.01, max_s=0.05, min_blocks=5, target_relative_interval=0.2)
ONCE = CampaignPlan(processes=1, timing=SHORT, attempts=1)


class Wrapped:
    """A real session; `on_phase` is told the subject's artifact and the phase of every trial."""

    def __init__(self, session: AgentSession, on_phase: Callable[[AgentSession, str, str], None]) -> None:
        self.session, self.on_phase = session, on_phase

    def run_trial(self, trial_id: str, spec: dict[str, Any]) -> dict[str, Any]:
        sha256 = spec["artifact"]["sha256"]
        return self.session.run_trial(trial_id, spec, on_phase=lambda phase: self.on_phase(self.session, sha256, phase))

    def __getattr__(self, name: str) -> Any:
        return getattr(self.session, name)


def refuse() -> AgentSession:
    raise AssertionError("a finished campaign must not touch the device")


def run(subjects: list[Subject], store: TrialStore, open_session: Any, **more: Any) -> dict[str, Any]:
    plan = more.pop("plan", ONCE)
    progress = more.pop("progress", Silent())
    return run_campaign(
        subjects, plan, store, open_session, progress, "layers", sleep=lambda _: None, rng=random.Random(0), **more
    )


def test_a_trial_that_kills_its_agent_twice_is_set_aside_and_the_others_go_on(
    tmp_path: Path, opener: Callable[[], AgentSession]
) -> None:
    subjects = make_subjects(4)
    poison = subjects[1].artifact.sha256
    kills: list[str] = []

    def kill(session: AgentSession, sha256: str, phase: str) -> None:
        if (sha256, phase) == (poison, "warmup"):
            kills.append(phase)
            os.kill(session.hello.pid, signal.SIGKILL)

    heard = Heard()
    with TrialStore(tmp_path / "t") as store:
        measured = run(subjects, store, lambda: Wrapped(opener(), kill), progress=heard)
        assert len(kills) == 2
        assert [event["reason"] for event in store.events] == ["supervisor", "supervisor"]
        assert len({event["pid"] for event in store.events}) == 2
    statuses = [measured[subject.key].status for subject in subjects]
    assert statuses[1] == "quarantined"
    assert all(measured[subject.key].usable for subject in subjects if subject is not subjects[1])
    assert "the agent's supervisor died while warmup" in measured[subjects[1].key].reasons[0]
    assert any(f"{subjects[1].key} is quarantined after 2 losses" in line for line in heard.lines)
    with TrialStore(tmp_path / "t") as store:
        again = run(subjects, store, refuse)
    assert {key: (one.status, one.reasons) for key, one in again.items()} == {
        key: (one.status, one.reasons) for key, one in measured.items()
    }


def test_evidence_outlives_the_host(tmp_path: Path, opener: Callable[[], AgentSession]) -> None:
    (subject,) = make_subjects(1)

    class HostDiedError(Exception):
        pass

    for _ in range(2):

        def die_together(session: AgentSession, sha256: str, phase: str) -> None:
            if phase == "warmup":
                os.kill(session.hello.pid, signal.SIGKILL)
                raise HostDiedError

        with TrialStore(tmp_path / "t") as store, pytest.raises(HostDiedError):
            run([subject], store, lambda: Wrapped(opener(), die_together))
    with TrialStore(tmp_path / "t") as store:
        (measured,) = run([subject], store, opener).values()
        assert len(store.events) == 2
    assert measured.status == "quarantined"


def test_a_connection_that_is_cut_says_nothing_about_the_trial(
    tmp_path: Path, opener: Callable[[], AgentSession]
) -> None:
    subjects = make_subjects(2)
    cuts: dict[str, int] = {}

    def cut(session: AgentSession, sha256: str, phase: str) -> None:
        if phase == ("importing", "measuring", "")[cuts.get(sha256, 0)]:
            cuts[sha256] = cuts.get(sha256, 0) + 1
            raise TransportError("somebody pulled the plug")

    plan = CampaignPlan(processes=2, timing=SHORT, attempts=1)
    with TrialStore(tmp_path / "t") as store:
        measured = run(subjects, store, lambda: Wrapped(opener(), cut), plan=plan)
        assert store.events == []
        assert len(store) == 4
    assert list(cuts.values()) == [2, 2]
    assert all(one.usable for one in measured.values())


@pytest.mark.parametrize("error", [AgentMismatchError("another agent"), AccessError("another host key")])
def test_what_trying_again_cannot_mend_is_not_tried_again(tmp_path: Path, error: Exception) -> None:
    tries: list[int] = []

    def fail() -> AgentSession:
        tries.append(1)
        raise error

    with TrialStore(tmp_path / "t") as store, pytest.raises(type(error), match="another"):
        run(make_subjects(1), store, fail)
    assert len(tries) == 1


def test_one_process_at_a_time_writes_a_journal(tmp_path: Path) -> None:
    with TrialStore(tmp_path / "t"), pytest.raises(StudyError, match="another hwloop is measuring into this journal"):
        TrialStore(tmp_path / "t")
    TrialStore(tmp_path / "t").close()


class Scripted:
    """A session that answers at once; `pace` is how slow the device is now, `boot` which boot it is in."""

    last_seq = 0

    def __init__(
        self, pace: Callable[[], float] = lambda: 1.0, boot: str = "boot-one", version: str | None = None
    ) -> None:
        self.pace = pace
        installed = {} if version is None else {"onnxruntime": version}
        self.hello = Hello("", "1", "3.8.0", "python3", 7, boot, 0, "/x", (0,), 0, 0, None, installed)
        self.in_flight: InFlight | None = None
        self.asked: list[tuple[str, dict[str, Any]]] = []
        self.canaries = 0

    def run_trial(self, trial_id: str, spec: dict[str, Any]) -> dict[str, Any]:
        self.asked.append((trial_id, spec))
        ns = 1e6 * self.pace()
        return {
            "trial_id": trial_id,
            "spec": spec,
            "status": "ok",
            "reasons": [],
            "signal": None,
            "runtime": {"name": "onnxruntime", "version": "1", "installed": self.hello.installed.get("onnxruntime")},
            "latency": {"median_ns": ns, "low_ns": 0.999 * ns, "high_ns": 1.001 * ns},
            "memory": {"method": "VmHWM", "peak_bytes": 2, "model_bytes": 1},
        }

    def put_artifact(self, data: bytes, sha256: str, suffix: str) -> None: ...
    def finished(self) -> list[dict[str, Any]]:
        return []

    def canary(self) -> dict[str, Any]:
        self.canaries += 1
        return {"median_ns": 1e5, "mad_ns": 1e4, "n": 100}

    def acknowledge(self, seq: int) -> None: ...
    def close(self) -> None: ...


def test_a_reboot_is_noted_and_the_board_looked_at_before_it_measures_again(tmp_path: Path) -> None:
    subjects = make_subjects(3)

    class Rebooting(Scripted):
        def run_trial(self, trial_id: str, spec: dict[str, Any]) -> dict[str, Any]:
            if len(self.asked) == 1:
                self.in_flight = InFlight(trial_id, self.hello.boot_id, self.hello.pid, "measuring")
                raise TransportError("gone")
            return super().run_trial(trial_id, spec)

    first, second = Rebooting(), Scripted(boot="boot-two")
    sessions: Iterator[Scripted] = iter([first, second])
    heard = Heard()
    with TrialStore(tmp_path / "t") as store:
        measured = run(subjects, store, lambda: next(sessions), progress=heard)
        (event,) = store.events
    assert all(one.status == "ok" for one in measured.values())
    lost = {name: event[name] for name in ("event", "reason", "phase", "boot_before", "boot_now")}
    assert lost == {
        "event": "lost",
        "reason": "reboot",
        "phase": "measuring",
        "boot_before": "boot-one",
        "boot_now": "boot-two",
    }
    assert (first.canaries, second.canaries) == (0, 1)
    assert [trial_id for trial_id, _ in second.asked][-1] == event["trial_id"], "the suspect is tried after all others"
    assert any("rebooted" in line and "canary varies by 10.0 %" in line for line in heard.lines)


@pytest.mark.parametrize("name", ["SIGKILL", "SIGTERM", "SIGSEGV"])
def test_a_worker_that_somebody_killed_is_given_another_try(tmp_path: Path, name: str) -> None:
    class Killed(Scripted):
        def run_trial(self, trial_id: str, spec: dict[str, Any]) -> dict[str, Any]:
            record = super().run_trial(trial_id, spec)
            return record | {"status": "crashed", "signal": name} if trial_id.endswith(":1") else record

    with TrialStore(tmp_path / "t") as store:
        plan = CampaignPlan(processes=1, timing=SHORT, attempts=2)
        (measured,) = run(make_subjects(1), store, Killed, plan=plan).values()
    assert measured.status == ("crashed" if name == "SIGSEGV" else "ok")


def anchors_of(session: Scripted) -> list[int]:
    """Where in the order the anchors stand."""
    return [i for i, (_, spec) in enumerate(session.asked) if spec["replicate"] >= FIRST_ANCHOR]


def test_small_campaigns_have_no_anchor_and_large_ones_few(tmp_path: Path) -> None:
    small, large = Scripted(), Scripted()
    with TrialStore(tmp_path / "small") as store:
        run(make_subjects(19), store, lambda: small)
    assert anchors_of(small) == []
    with TrialStore(tmp_path / "large") as store:
        run(make_subjects(50), store, lambda: large)
        assert len(store) == 56
        assert {spec["artifact"]["sha256"] for i, (_, spec) in enumerate(large.asked) if i in anchors_of(large)} == {
            large.asked[0][1]["artifact"]["sha256"]
        }
    # Two at the first positions, then one after every twenty trials, and one at the end.
    assert anchors_of(large) == [0, 1, 22, 23, 44, 55]


def test_a_span_that_drifted_is_measured_again_and_says_so(tmp_path: Path) -> None:
    session = Scripted()
    session.pace = lambda: 1.2 if 46 <= len(session.asked) <= 70 else 1.0
    subjects = make_subjects(100)
    plan = CampaignPlan(processes=1, timing=SHORT, attempts=2)
    heard = Heard()
    with TrialStore(tmp_path / "t") as store:
        measured = run(subjects, store, lambda: session, plan=plan, progress=heard)
        drifts = [event["trials"] for event in store.events if event["event"] == "drift"]
    again = [trial_id for trial_id, _ in session.asked if trial_id.endswith(":2")]
    assert 20 <= len(again) <= 45
    assert set(drifts[0]) == {trial_id[:-1] + "1" for trial_id in again}
    assert drifts[1] == {}
    repeated = [one for one in measured.values() if one.reasons == ("drifting span, re-run",)]
    assert len(repeated) == len(again)
    assert all(one.status == "ok" and one.latency_ms == pytest.approx(1.0) for one in measured.values())
    assert any("lay in spans that drifted" in line for line in heard.lines)
    with TrialStore(tmp_path / "t") as store:
        assert run(subjects, store, refuse, plan=plan) == measured


def test_drift_without_end_is_reported_and_bounded(tmp_path: Path) -> None:
    session = Scripted()
    session.pace = lambda: 1.2 if len(session.asked) > 90 else 1.0
    plan = CampaignPlan(processes=1, timing=SHORT, attempts=2)
    with TrialStore(tmp_path / "t") as store:
        measured = run(make_subjects(100), store, lambda: session, plan=plan)
    assert not any(trial_id.endswith(":3") for trial_id, _ in session.asked)
    assert len(session.asked) < 170
    degraded = [one for one in measured.values() if one.status == "degraded"]
    assert degraded
    assert all("measured in a drifting span (the anchor was off by +20.0 %)" in one.reasons for one in degraded)
    assert all(one.latency_ms == pytest.approx(1.0) for one in measured.values() if one.status == "ok")


def test_an_anchor_that_fails_is_replaced(tmp_path: Path) -> None:
    bad: list[str] = []

    class Picky(Scripted):
        def run_trial(self, trial_id: str, spec: dict[str, Any]) -> dict[str, Any]:
            record = super().run_trial(trial_id, spec)
            sha256 = spec["artifact"]["sha256"]
            if not bad:
                bad.append(sha256)
            return record | {"status": "crashed", "signal": "SIGSEGV"} if sha256 == bad[0] else record

    session = Picky()
    with TrialStore(tmp_path / "t") as store:
        measured = run(make_subjects(40), store, lambda: session)
    used = [spec["artifact"]["sha256"] for i, (_, spec) in enumerate(session.asked) if i in anchors_of(session)]
    assert used.count(bad[0]) == 2
    assert len(set(used)) == 2
    assert [one.status for one in measured.values()].count("crashed") == 1


def test_a_device_that_cannot_be_measured_any_more_keeps_its_trials(tmp_path: Path) -> None:
    class Mortal(Scripted):
        def run_trial(self, trial_id: str, spec: dict[str, Any]) -> dict[str, Any]:
            if len(self.asked) == 2:
                raise TransportError("gone")
            return super().run_trial(trial_id, spec)

    sessions: Iterator[Scripted] = iter([Mortal()])

    def open_once() -> Scripted:
        try:
            return next(sessions)
        except StopIteration:
            raise TransportError("no route") from None

    with (
        TrialStore(tmp_path / "t") as store,
        pytest.raises(DeviceError, match=r"no route \(2 of 3 trials are measured"),
    ):
        run(make_subjects(3), store, open_once)


class Broken(Scripted):
    """A device whose runtime dies at import, so that it does not come to say its version."""

    def run_trial(self, trial_id: str, spec: dict[str, Any]) -> dict[str, Any]:
        record = super().run_trial(trial_id, spec)
        runtime = {**record["runtime"], "version": None}
        return record | {"status": "crashed", "signal": "SIGSEGV", "runtime": runtime}


def attempts_of(session: Scripted) -> list[str]:
    return sorted(trial_id.partition(":")[2] for trial_id, _ in session.asked)


def test_what_another_version_crashed_at_is_measured_again_and_said(tmp_path: Path) -> None:
    subjects, heard = make_subjects(3), Heard()
    with TrialStore(tmp_path / "t") as store:
        measured = run(subjects, store, lambda: Broken(version="1.31.1"))
    assert {one.status for one in measured.values()} == {"crashed"}
    same = Broken(version="1.31.1")
    with TrialStore(tmp_path / "t") as store:
        run(subjects, store, lambda: same, progress=heard)
    assert same.asked == heard.lines == []
    new = Scripted(version="1.23.2")
    with TrialStore(tmp_path / "t") as store:
        measured = run(subjects, store, lambda: new, progress=heard)
        assert {one.status for one in measured.values()} == {"ok"}
    assert attempts_of(new) == ["2", "2", "2"]
    assert heard.lines == ["3 trials were measured with onnxruntime 1.31.1, the device now has 1.23.2: measured again"]
    with TrialStore(tmp_path / "t") as store:
        assert run(subjects, store, refuse) == measured


def test_half_a_campaign_of_an_old_version_is_not_mixed_with_the_new_one(tmp_path: Path) -> None:
    subjects = make_subjects(4)
    with TrialStore(tmp_path / "t") as store:
        run(subjects[:2], store, lambda: Scripted(version="1.0"))
    new = Scripted(version="2.0")
    with TrialStore(tmp_path / "t") as store:
        run(subjects, store, lambda: new)
    assert attempts_of(new) == ["1", "1", "2", "2"]


def test_failed_trials_are_tried_again_when_asked_and_quarantine_is_lifted(tmp_path: Path) -> None:
    subjects = make_subjects(2)

    def poisoned() -> Scripted:
        class Poisoned(Scripted):
            def run_trial(self, trial_id: str, spec: dict[str, Any]) -> dict[str, Any]:
                if spec["artifact"]["sha256"] == subjects[0].artifact.sha256:
                    self.in_flight = InFlight(trial_id, self.hello.boot_id, 7, "measuring")
                    raise TransportError("gone")
                return super().run_trial(trial_id, spec)

        boots.append(f"boot-{len(boots)}")
        return Poisoned(boot=boots[-1])

    boots: list[str] = []
    again = CampaignPlan(processes=1, timing=SHORT, attempts=1, retry_failed=True)
    with TrialStore(tmp_path / "t") as store:
        measured = run(subjects, store, poisoned)
        assert [measured[subject.key].status for subject in subjects] == ["quarantined", "ok"]
        lost = len(store.events)
        measured = run(subjects, store, poisoned, plan=again)
        assert [measured[subject.key].status for subject in subjects] == ["quarantined", "ok"]
        assert len(store.events) == 2 * lost + 1, "it was given a fair trial"
        session = Scripted()
        measured = run(subjects, store, lambda: session, plan=again)
    assert [measured[subject.key].status for subject in subjects] == ["ok", "ok"]
    assert attempts_of(session) == ["3"]
