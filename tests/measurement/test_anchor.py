"""Drift, as the anchor shows it: decisions over journals that are made up."""

from __future__ import annotations

import random
from typing import Any

import pytest

from hwloop.measurement import anchor

SALT = 0xBEEF


def anchored(
    position: int, median: float, process: int = 0, spread: float = 0.004, status: str = "ok"
) -> dict[str, Any]:
    replicate = anchor.replicate_of(SALT, position, process)
    latency = {"median_ns": median, "low_ns": median * (1 - spread), "high_ns": median * (1 + spread)}
    return {"trial_id": f"a{replicate}:1", "spec": {"replicate": replicate}, "status": status, "latency": latency}


def trial(number: int) -> dict[str, Any]:
    return {"trial_id": f"t{number}:1", "spec": {"replicate": 0}, "status": "ok"}


def journal(medians: list[tuple[float, ...]]) -> list[dict[str, Any]]:
    """Anchors with ten trials between two of them."""
    entries: list[dict[str, Any]] = []
    for position, processes in enumerate(medians):
        entries += [anchored(position, median, process) for process, median in enumerate(processes)]
        if position < len(medians) - 1:
            entries += [trial(10 * position + number) for number in range(10)]
    return entries


def drifting(entries: list[dict[str, Any]]) -> set[int]:
    ids = {entry["trial_id"] for entry in entries}
    return {int(trial_id[1:-2]) for trial_id in anchor.drifting_trials(entries, SALT, ids)}


def test_a_replicate_tells_campaign_position_and_process() -> None:
    for position in (0, 1, anchor.MAX_POSITION):
        for process in (0, 1):
            replicate = anchor.replicate_of(SALT, position, process)
            assert 1 << 30 <= replicate < 1 << 31, "what the agent takes"
            assert anchor.position_of({"spec": {"replicate": replicate}}, SALT) == position
            assert anchor.position_of({"spec": {"replicate": replicate}}, SALT + 1) is None
    assert anchor.position_of(trial(0), SALT) is None
    assert anchor.position_of({"event": "lost", "trial_id": "x:1"}, SALT) is None
    with pytest.raises(ValueError, match="at most"):
        anchor.replicate_of(SALT, anchor.MAX_POSITION + 1, 0)
    assert anchor.salt_of(["a", "b"]) == anchor.salt_of(["b", "a"]) != anchor.salt_of(["a", "c"])


def test_the_spans_around_a_confirmed_anchor_are_the_drifting_ones() -> None:
    steady = [(100.0, 101.0), (100.5, 100.0), (100.2,), (99.8,), (100.1,)]
    assert drifting(journal(steady)) == set()
    slow = [*steady[:3], (106.0, 107.0), *steady[3:]]
    assert drifting(journal(slow)) == set(range(20, 40))
    fast = [*steady, (92.0, 93.0)]
    assert drifting(journal(fast)) == set(range(40, 50))


def test_trials_after_the_last_anchor_hang_on_it_alone() -> None:
    entries = [*journal([(100.0,), (100.0,), (100.0,), (110.0, 110.0)]), trial(99)]
    assert 99 in drifting(entries)
    assert 99 not in drifting([*journal([(100.0,), (110.0, 110.0), (100.0,), (100.0,)]), trial(99)])


def test_one_process_or_a_wide_interval_is_no_drift() -> None:
    assert drifting(journal([(100.0,), (100.0,), (107.0,), (100.0,)])) == set()
    assert drifting(journal([(100.0,), (100.0,), (107.0, 101.0), (100.0,)])) == set()
    wide = journal([(100.0,), (100.0,), (100.0,)])
    wide += [anchored(3, 107.0, 0, spread=0.05), anchored(3, 107.0, 1, spread=0.05)]
    assert drifting([*wide, trial(99)]) == set()
    assert drifting(journal([(100.0, 100.0), (200.0, 200.0)])) == set(), "of two, nobody knows which is right"


def test_on_a_machine_of_two_speeds_the_limit_grows_with_the_scatter() -> None:
    rng = random.Random(3)
    alarms = 0
    for _ in range(50):
        medians = [tuple(100.0 * rng.choice((1.0, 1.08)) for _ in range(2)) for _ in range(12)]
        alarms += bool(drifting(journal(medians)))
    assert alarms <= 8, f"{alarms} of 50"
    points = anchor.points_of(journal([(100.0,), (108.0,), (100.0,), (108.0,), (108.0,)]), SALT)
    reference = anchor.reference_of(points)
    assert reference is not None
    assert reference[1] == anchor.LIMIT
    for scattered in ([(100.0,), (104.0,), (108.0,), (96.0,), (112.0,)], [(100.0, 108.0), (100.0,), (100.0,)]):
        reference = anchor.reference_of(anchor.points_of(journal(scattered), SALT))
        assert reference is not None
        assert reference[1] > 2 * anchor.LIMIT


def test_a_second_process_is_asked_for_at_first_and_where_it_looks_off() -> None:
    def wants(medians: list[tuple[float, ...]]) -> bool:
        return anchor.wants_second_process(anchor.points_of(journal(medians), SALT), len(medians) - 1)

    assert wants([(100.0,)])
    assert wants([(100.0, 100.0), (100.0,)])
    assert not wants([(100.0, 100.0), (100.0, 100.0), (101.0,)])
    assert wants([(100.0, 100.0), (100.0, 100.0), (106.0,)])
    assert not wants([(100.0, 100.0), (100.0, 100.0), (106.0, 106.0)])


def test_anchors_under_bad_conditions_say_nothing_but_still_count_as_anchors() -> None:
    entries = [anchored(0, 100.0), trial(1), anchored(1, 300.0, status="degraded"), trial(2), trial(3)]
    assert [point.position for point in anchor.points_of(entries, SALT)] == [0]
    ids = {f"t{number}:1" for number in range(5)}
    assert anchor.trials_since_anchor(entries, SALT, ids) == 2
    assert anchor.trials_since_anchor([trial(1)], SALT, ids) is None
    assert anchor.trials_since_anchor([*entries, {"event": "lost", "trial_id": "t1:1"}], SALT, {"t2:1"}) == 1
