"""A recording answers like a device: whole campaigns run on it, and nothing of it can be taken for hardware."""

from __future__ import annotations

import dataclasses
import random
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hwloop.devices import AgentSession, replay_device
from hwloop.devices.replay import FIRST_ANCHOR, Faults, open_recording, workload_of
from hwloop.devices.transports.replay import ReplayTransport
from hwloop.errors import DataError, TransportError, UserError
from hwloop.layers import Layer
from hwloop.measurement import Bench, CampaignPlan, Subject, TimingProtocol, Trial, TrialStore, run_campaign
from hwloop.progress import Silent
from hwloop.tablefile import Header, write_table
from hwloop.tables import Context, LatencyTable, Row
from hwloop.tables.records import to_arrow
from tests.measurement.conftest import make_subjects

SHORT = TimingProtocol(warmup_s=0.01, min_s=0.01, max_s=0.05, min_blocks=5, target_relative_interval=0.2)
PLAN = CampaignPlan(processes=2, timing=SHORT, attempts=1)
CONTEXT = Context("pi", "Pi 4", "onnxruntime", "1.23.2", 1)


def conditions() -> dict[str, Any]:
    return {
        "pace_ns": 1e5,
        "canary_ratio": 1.0,
        "affinity": [0],
        "throttle": "none",
        "governor": "performance",
        "clock_mhz": 1500.0,
        "temperature_c": None,
    }


def recorded(trial: Trial, median_ns: float, **more: Any) -> dict[str, Any]:
    """The record of a trial as an agent makes it."""
    return {
        "trial_id": trial.id,
        "spec": trial.spec,
        "status": "ok",
        "reasons": [],
        "runtime": {"name": "onnxruntime", "version": "1.23.2", "installed": "1.23.2"},
        "started_at": "2026-11-22T10:00:00+00:00",
        "boot_id": "b",
        "emulated": False,
        "latency": {
            "median_ns": median_ns,
            "low_ns": 0.99 * median_ns,
            "high_ns": 1.01 * median_ns,
            "samples_ns": [int(median_ns)] * 5,
        },
        "memory": {"method": "VmHWM", "peak_bytes": 50_000_000, "model_bytes": 1000},
        "conditions": conditions(),
        **more,
    }


@pytest.fixture
def subjects() -> list[Subject]:
    return make_subjects(3)


@pytest.fixture
def journal(tmp_path: Path, subjects: list[Subject]) -> Path:
    """Two processes of each of three subjects; the third subject crashed, the host set the second process aside."""
    path = tmp_path / "pi.trials.ndjson"
    with TrialStore(path) as store:
        for number, subject in enumerate(subjects, 1):
            for replicate in range(2):
                trial = Trial(subject.artifact, 1, SHORT, replicate)
                failed = {"status": "quarantined" if replicate else "crashed", "reasons": ["died"], "latency": None}
                store.add(recorded(trial, 1e5 * number + 1e3 * replicate, **(failed if number == 3 else {})))
        store.note("drift", trials={})
    return path


@pytest.fixture
def table(tmp_path: Path, subjects: list[Subject]) -> Path:
    """A row for each of three subjects: with a spread, of a single process, and crashed."""
    path = tmp_path / "pi.parquet"
    common = {"peak_bytes": 50_000_000, "model_bytes": 1000, "context": CONTEXT, "throttle": "none"}
    nan = float("nan")
    numbers = [(1.0, 0.98, 1.02, (0.97, 1.03)), (2.0, 1.98, 2.02, (2.0,)), (nan, nan, nan, ())]
    rows = [
        Row(
            subject.key,
            latency,
            low,
            high,
            medians,
            status="ok" if medians else "crashed",
            reasons=() if medians else ("died by SIGSEGV",),
            workload_sha256=workload_of(Trial(subject.artifact, 1, SHORT).spec),
            **common,  # type: ignore[arg-type]
        )
        for subject, (latency, low, high, medians) in zip(subjects, numbers, strict=True)
    ]
    LatencyTable(rows).save(path)
    return path


@pytest.fixture
def run(tmp_path: Path) -> Callable[..., Any]:
    """Runs a campaign on a recording; the trials are left in the store that it returns."""

    def go(recording: Path, subjects: list[Subject], plan: CampaignPlan = PLAN, name: str = "new") -> Any:
        with TrialStore(tmp_path / name) as store:
            bench = Bench(replay_device("pi", recording), "test", store, plan, Silent())
            measured = bench.measure(subjects, "layers")
            return measured, {entry["trial_id"]: entry for entry in store.entries if "event" not in entry}

    return go


def test_a_recorded_campaign_is_measured_again_as_it_was(journal: Path, subjects: list[Subject], run: Any) -> None:
    measured, records = run(journal, subjects)
    first, second, third = (measured[subject.key] for subject in subjects)
    assert (first.status, first.process_medians_ms) == ("ok", (0.1, 0.101))
    assert (second.status, second.process_medians_ms) == ("ok", (0.2, 0.201))
    assert third.status in ("crashed", "unsupported")
    assert set(third.reasons) == {"died", "quarantined when it was recorded"}
    for record in records.values():
        assert record["replayed"] == {"recording": journal.name, "trial_id": record["trial_id"]}
        assert record["conditions"]["replayed"] == record["replayed"]


def test_what_was_not_recorded_is_unsupported_and_says_why(journal: Path, subjects: list[Subject], run: Any) -> None:
    before = journal.read_bytes()
    stranger = make_subjects(4)[3]
    measured, _ = run(journal, [subjects[0], stranger], CampaignPlan(processes=3, timing=SHORT, attempts=1))
    assert measured[stranger.key].status == "unsupported"
    assert "nothing of this artifact, runtime, options and threads was measured" in measured[stranger.key].reasons[0]
    assert measured[subjects[0].key].process_medians_ms == (0.1, 0.101)
    _, records = run(journal, subjects[:1], CampaignPlan(processes=3, timing=SHORT, attempts=1), name="more")
    (reason,) = (record["reasons"][0] for record in records.values() if record["status"] == "unsupported")
    assert reason == "not in the recording pi.trials.ndjson: 2 processes of it were measured, this is number 3"
    threads, _ = run(journal, subjects[:1], dataclasses.replace(PLAN, threads=2), name="threads")
    assert threads[subjects[0].key].status == "unsupported"
    assert journal.read_bytes() == before


def test_another_protocol_and_anchors_get_recorded_processes(journal: Path, subjects: list[Subject], run: Any) -> None:
    longer = dataclasses.replace(PLAN, timing=dataclasses.replace(SHORT, max_s=1.0), anchor_every=2)
    measured, records = run(journal, subjects[:2], longer)
    assert measured[subjects[1].key].process_medians_ms == (0.2, 0.201)
    anchors = [one for one in records.values() if one["spec"]["replicate"] >= FIRST_ANCHOR]
    assert anchors
    assert {one["latency"]["median_ns"] for one in anchors} <= {1e5, 1.01e5, 2e5, 2.01e5}
    assert all(one["replayed"]["trial_id"] != one["trial_id"] for one in records.values())


def test_a_row_answers_with_its_own_spread_the_same_for_the_same_trial(
    table: Path, subjects: list[Subject], run: Any
) -> None:
    plan = CampaignPlan(processes=60, timing=SHORT, attempts=1)
    measured, records = run(table, subjects, plan)
    spread, single, crashed = (measured[subject.key] for subject in subjects)
    logs = statistics.stdev(spread.process_medians_ms) / statistics.mean(spread.process_medians_ms)
    recorded_spread = 0.0424  # of 0.97 and 1.03
    assert 0.6 * recorded_spread < logs < 1.5 * recorded_spread
    assert spread.latency_ms == pytest.approx(1.0, abs=0.03)
    # A row of one process spreads as the device's others do.
    assert statistics.stdev(single.process_medians_ms) > 0.02
    assert (crashed.status, crashed.reasons) == ("crashed", ("died by SIGSEGV",))
    for record in records.values():
        if record["status"] == "ok":
            latency = record["latency"]
            assert latency["low_ns"] < latency["median_ns"] < latency["high_ns"]
            assert latency["median_ns"] == statistics.median(latency["samples_ns"])
            assert record["conditions"]["replayed"]["recording"] == table.name
    again, _ = run(table, subjects, plan, name="again")
    assert [again[subject.key] for subject in subjects[:2]] == [spread, single]


def test_a_replayed_number_cannot_pass_for_hardware(table: Path, subjects: list[Subject], tmp_path: Path) -> None:
    with TrialStore(tmp_path / "new") as store:
        bench = Bench(replay_device("pi", table), "test", store, PLAN, Silent())
        identity = bench.identify(tmp_path / "new.device.json")
        assert identity.cpu == "REPLAYED, not measured now: Pi 4"
        assert identity.facts["replayed"] == "pi.parquet"
        measured = bench.measure(subjects[:1], "layers")[subjects[0].key]
        records = [store[trial_id] for trial_id in measured.trial_ids]
    layer = LatencyTable.load(table).rows[0].key
    row = Row.of(Layer.parse(layer), measured, records, device="pi", cpu="Pi 4", agent_sha256="")
    assert row.context.cpu == "REPLAYED, not measured now: Pi 4"
    with pytest.raises(UserError, match=r"differ in cpu \(Pi 4 / REPLAYED"):
        LatencyTable.load(table).append([row])


def test_a_session_that_breaks_is_opened_again_and_nothing_is_measured_twice(
    table: Path, subjects: list[Subject], tmp_path: Path
) -> None:
    slept: list[float] = []
    faults = Faults(lose_at=frozenset({2, 3, 7}), trial_s=0.5, sleep=slept.append)

    def opener() -> AgentSession:
        return AgentSession.open(ReplayTransport("pi", open_recording(table), faults), session_id="test")

    plan = CampaignPlan(processes=4, timing=SHORT, attempts=1)
    with TrialStore(tmp_path / "t") as store:
        measured = run_campaign(
            subjects, plan, store, opener, Silent(), "layers", sleep=lambda _: None, rng=random.Random(0)
        )
        assert len(store) == 12
        assert store.events == []
    assert faults.trials == 12 + 3
    assert slept == [0.5] * 15
    assert measured[subjects[0].key].usable


def test_recordings_that_cannot_be_used_are_one_line(tmp_path: Path, table: Path, subjects: list[Subject]) -> None:
    empty = tmp_path / "empty.ndjson"
    empty.write_bytes(b"")
    imported = tmp_path / "imported.parquet"
    rows = [dataclasses.replace(row, workload_sha256=None) for row in LatencyTable.load(table).rows]
    LatencyTable(rows).save(imported)
    cut = tmp_path / "cut.parquet"
    cut.write_bytes(table.read_bytes()[:500])
    for path, text in (
        (tmp_path / "none.parquet", "cannot be read"),
        (empty, "has no trial that could be replayed"),
        (imported, "tells which artifact was measured"),
        (cut, "not readable Parquet"),
    ):
        with pytest.raises(DataError, match=text) as caught:
            replay_device("pi", path).open_transport()
        assert "\n" not in str(caught.value)


def test_a_row_without_a_number_is_no_answer(tmp_path: Path, table: Path, subjects: list[Subject], run: Any) -> None:
    arrow = to_arrow(LatencyTable.load(table).rows)
    column = arrow.schema.get_field_index("latency_ms")
    broken = tmp_path / "nan.parquet"
    nan = arrow.set_column(column, arrow.schema.field(column), [[float("nan")] * len(arrow)])
    write_table(broken, nan, Header())
    measured, _ = run(broken, subjects[:1])
    assert measured[subjects[0].key].status == "unsupported"
    assert "has no positive, finite latency" in measured[subjects[0].key].reasons[0]


def test_a_recording_starts_no_program(table: Path) -> None:
    with pytest.raises(TransportError, match="no program runs there"):
        replay_device("pi", table).open_transport().start(["python3", "-c", "1"])
