"""Which trial is to blame: pure rules, and what they do to innocents whose board somebody keeps killing."""

from __future__ import annotations

import random
from typing import Any

import pytest

from hwloop.devices.hello import InFlight
from hwloop.measurement.evidence import (
    guilty_subjects,
    in_words,
    is_guilty,
    quarantine_record,
    reason_of_loss,
    subject_of,
)
from hwloop.measurement.measurement import pool

SPEC = {"artifact": None, "runtime": "null", "options": {}, "inputs": [], "threads": 1, "timing": {}, "replicate": 0}


def lost(trial: str, reason: str = "supervisor", pid: int = 1) -> dict[str, Any]:
    return {
        "event": "lost",
        "trial_id": f"{trial}:1",
        "reason": reason,
        "boot_before": "aaaaaaaa-1",
        "boot_now": "bbbbbbbb-2",
        "pid": pid,
        "phase": "measuring",
        "at": "2026-01-01T00:00:00Z",
    }


def done(trial: str, status: str = "ok") -> dict[str, Any]:
    return {"trial_id": f"{trial}:1", "status": status}


def test_processes_and_attempts_of_one_subject_are_one() -> None:
    assert subject_of(SPEC) == subject_of({**SPEC, "replicate": 7})
    assert subject_of(SPEC) != subject_of({**SPEC, "threads": 2})


@pytest.mark.parametrize(
    ("before", "now", "is_marked", "reason"),
    [
        ("a", "b", False, "reboot"),
        ("a", "b", True, "reboot"),
        ("a", "a", True, "supervisor"),
        ("a", "a", False, None),  # a connection was cut: the agent never began it, or was told to stop
        (None, "b", True, "supervisor"),
        (None, None, False, None),
        ("a", None, False, None),
    ],
)
def test_only_what_died_is_a_loss(before: str | None, now: str | None, is_marked: bool, reason: str | None) -> None:
    assert reason_of_loss(InFlight("t:1", before, 1), now, is_marked=is_marked) == reason


def test_in_a_quiet_campaign_the_second_loss_is_enough() -> None:
    for trials in (1, 2, 10, 100, 1000):
        finished = trials - 1
        assert not is_guilty(1, 0, finished, trials)
        assert is_guilty(2, 0, finished, trials)
    assert is_guilty(2, 0, 0, 2)
    assert not is_guilty(2, 20, 80, 100), "where every fifth run is lost, two in a row happen to innocents"
    assert is_guilty(6, 20, 80, 100)


def test_a_finished_run_clears_and_a_convict_is_no_part_of_the_rate() -> None:
    owners = {name: name[0] for name in ("a0", "a1", "b0", "c0", *(f"d{i}" for i in range(40)))}
    quiet = [done(f"d{i}") for i in range(40)]
    assert guilty_subjects([*quiet, lost("a0"), lost("a1")], owners, 44) == {"a": [lost("a0"), lost("a1")]}
    assert guilty_subjects([*quiet, lost("a0"), done("a1"), lost("a1")], owners, 44) == {}
    assert guilty_subjects([*quiet, lost("a0"), lost("x0"), lost("x0")], owners, 44) == {}, "x is another campaign's"
    convicted = [*quiet, lost("a0"), lost("a0"), done("a0", "quarantined"), lost("b0"), lost("b0")]
    assert set(guilty_subjects(convicted, owners, 44)) == {"a", "b"}
    both = [*quiet, lost("a0"), lost("b0"), lost("a0"), lost("b0"), lost("a0"), lost("b0")]
    assert set(guilty_subjects(both, owners, 44)) == {"a", "b"}


def campaign(rng: random.Random, kills: int, trials: int, guilty: str = "") -> set[str]:
    """A hundred trials in random order, of which `kills` runs at random moments are killed by somebody."""
    queue = [f"{number:03d}" for number in range(trials)]
    owners = {name: name for name in queue}
    entries: list[dict[str, Any]] = []
    moments = {int(moment) for moment in rng.sample(range(trials + kills), kills)}
    run, found = 0, set()
    while queue:
        trial = queue.pop(0)
        if trial in found:
            continue
        if run in moments or trial == guilty:
            entries.append(lost(trial, pid=run))
            found = set(guilty_subjects(entries, owners, trials))
            queue.append(trial)
        else:
            entries.append(done(trial))
        run += 1
    return found


def test_twenty_kills_at_random_moments_set_no_innocent_aside() -> None:
    rng = random.Random(5)
    wrong = sum(bool(campaign(rng, 20, 100)) for _ in range(60))
    assert wrong <= 3, f"{wrong} of 60 campaigns set an innocent aside; the rule allows one in twenty"


def test_the_one_that_kills_its_board_is_found_among_them() -> None:
    rng = random.Random(6)
    assert all("050" in campaign(rng, 0, 100, "050") for _ in range(3))
    assert all("050" in campaign(rng, 10, 100, "050") for _ in range(10))


def test_the_record_shows_the_evidence_and_pools_as_a_row_without_a_number() -> None:
    record = quarantine_record("t:1", SPEC, [lost("t"), lost("t", "reboot")])
    assert record["reasons"] == [
        "the agent's supervisor died while measuring (process 1, boot bbbbbbbb)",
        "the board rebooted while measuring (boot aaaaaaaa, then bbbbbbbb)",
    ]
    pooled = pool("k", [record, record])
    assert (pooled.status, pooled.usable) == ("quarantined", False)
    assert pooled.reasons == tuple(record["reasons"])
    assert in_words({**lost("t"), "phase": "", "boot_now": None}).endswith("(process 1, boot unknown)")
