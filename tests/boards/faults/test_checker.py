"""The judge of the faults is judged: it finds nothing in an undisturbed campaign, and every planted error."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from typing import Any

import pytest

from hwloop_agent import protocol
from hwloop_agent.journal import line_of
from tests.boards.faults.checker import Snapshot, Verdict, judge, read_journal
from tests.boards.faults.conftest import TRIALS, Journals

Records = list[dict[str, Any]]


def write(records: Records) -> bytes:
    return b"".join(line_of(seq, record) for seq, record in enumerate(records, 1))


def spoil(journals: Journals, change: Callable[[Records], Any]) -> Verdict:
    """Judge a campaign in which both journals have been changed in the same way from the start."""
    records = [copy.deepcopy(record) for record in read_journal(journals.host)[0]]
    change(records)
    changed = write(records)
    return judge([Snapshot("at the end", changed, changed)], journals.table, journals.plan)


def of_runtime(records: Records, name: str) -> Records:
    found = [record for record in records if record["spec"]["runtime"] == name]
    return sorted(found, key=lambda record: record["latency"]["median_ns"])


def test_an_undisturbed_campaign_is_clean(journals: Journals) -> None:
    half = journals.host[: journals.host.find(b"\n", len(journals.host) // 2) + 1]
    snapshots = [Snapshot("before", half, journals.device), Snapshot("at the end", journals.host, journals.device)]
    verdict = judge(snapshots, journals.table, journals.plan)
    assert verdict.is_clean, verdict
    assert verdict.finished == TRIALS
    assert {one.spec["runtime"] for one in journals.plan} == {"null", "onnxruntime"}


def test_a_record_that_is_being_written_is_no_fault(journals: Journals) -> None:
    snapshots = [Snapshot("before", journals.host[:-1], journals.device), Snapshot("", journals.host, journals.device)]
    assert judge(snapshots, journals.table, journals.plan).is_clean


@pytest.mark.parametrize("witness", ["host", "device"])
def test_a_finished_trial_that_is_gone_is_lost(journals: Journals, witness: str) -> None:
    records = read_journal(journals.host)[0]
    gone = records.pop(3)
    early = {"host": b"", "device": b"", witness: journals.host}
    verdict = judge([Snapshot("before", **early), Snapshot("", write(records), b"")], journals.table, journals.plan)
    assert len(verdict.lost) == 1
    assert verdict.lost[0].startswith(f"{gone['trial_id']}: in the {witness} journal before")
    assert not verdict.duplicated
    assert verdict.missing, "the table still names the trial"


def test_a_trial_that_is_in_a_journal_twice_is_doubled(journals: Journals) -> None:
    verdict = spoil(journals, lambda records: records.append(records[0]))
    assert len(verdict.duplicated) == 2, "once in each journal"
    assert not verdict.lost


def test_a_trial_that_was_measured_again_is_doubled_and_its_first_record_lost(journals: Journals) -> None:
    records = [copy.deepcopy(record) for record in read_journal(journals.host)[0]]
    records[2]["latency"]["samples_ns"][0] += 1
    snapshots = [Snapshot("before", b"", journals.device), Snapshot("", write(records), b"")]
    verdict = judge(snapshots, journals.table, journals.plan)
    assert [text.split(": ")[1] for text in verdict.duplicated] == [
        "measured more than once, device journal before and host journal "
    ]
    assert len(verdict.lost) == 1


def swap_whole(records: Records) -> None:
    """The records of two trials under each other's id and spec."""
    one, _, *_, other = of_runtime(records, "null")
    for name in set(one) - {"trial_id", "spec"}:
        one[name], other[name] = other[name], one[name]


def swap_latency(records: Records) -> None:
    one, *_, other = of_runtime(records, "null")
    one["latency"], other["latency"] = other["latency"], one["latency"]


def swap_neighbours(records: Records) -> None:
    """Durations that lie close together: the worker's own report of its settings tells them apart."""
    one, other = of_runtime(records, "null")[3:5]
    for name in ("latency", "runtime"):
        one[name], other[name] = other[name], one[name]


def swap_ids(records: Records) -> None:
    records[1]["trial_id"], records[4]["trial_id"] = records[4]["trial_id"], records[1]["trial_id"]


def swap_runtimes(records: Records) -> None:
    one, other = of_runtime(records, "null")[0], of_runtime(records, "onnxruntime")[0]
    one["runtime"], other["runtime"] = other["runtime"], one["runtime"]


def change_shape(records: Records) -> None:
    of_runtime(records, "onnxruntime")[0]["outputs"][0]["shape"][1] += 4


def change_spec(records: Records) -> None:
    records[0]["spec"]["threads"] = 2


def invent_trial(records: Records) -> None:
    records[0]["spec"]["replicate"] = 7
    records[0]["trial_id"] = protocol.trial_id(records[0]["spec"])


def change_attempt(records: Records) -> None:
    records[0]["trial_id"] = records[0]["trial_id"].partition(":")[0] + ":0"


@pytest.mark.parametrize(
    ("plant", "words"),
    [
        (swap_whole, "ran with"),
        (swap_latency, "quickest"),
        (swap_neighbours, "ran with seed"),
        (swap_ids, "its spec has the hash"),
        (swap_runtimes, "was measured in"),
        (change_shape, "has the output"),
        (change_spec, "its spec has the hash"),
        (invent_trial, "nobody planned it"),
        (change_attempt, "no attempt"),
    ],
)
def test_what_belongs_to_another_trial_is_found(
    journals: Journals, plant: Callable[[Records], None], words: str
) -> None:
    verdict = spoil(journals, plant)
    assert any(words in text for text in verdict.wrong), verdict


def test_an_anchor_is_a_planned_trial_and_still_must_be_of_its_subject(journals: Journals) -> None:
    def add_anchor(records: Records, **changes: Any) -> None:
        anchor = copy.deepcopy(of_runtime(records, "null")[0])
        anchor["spec"] |= {"replicate": 1 << 30, **changes}
        anchor["trial_id"] = protocol.trial_id(anchor["spec"])
        records.append(anchor)

    assert spoil(journals, add_anchor).is_clean
    verdict = spoil(journals, lambda records: add_anchor(records, threads=2))
    assert [text.split(": ")[1] for text in verdict.wrong] == ["nobody planned it"]


def test_a_flipped_bit_and_a_missing_number_are_found(journals: Journals) -> None:
    flipped = bytearray(journals.host)
    flipped[flipped.index(b'"median_ns":') + 13] ^= 1
    lines = journals.host.splitlines(keepends=True)
    gap = b"".join(lines[:2] + lines[3:])
    for damaged, words in ((bytes(flipped), "checksum"), (gap, "number 4 follows 2")):
        verdict = judge([Snapshot("", damaged, journals.device)], journals.table, journals.plan)
        assert any(words in text for text in verdict.wrong), verdict


def test_a_record_of_another_boot_is_found(journals: Journals) -> None:
    boot = read_journal(journals.host)[0][0]["boot_id"]
    first = Snapshot("before", journals.host[: journals.host.index(b"\n") + 1], b"", boot)
    assert judge([first, Snapshot("", journals.host, b"", "another")], journals.table, journals.plan).is_clean
    between = Snapshot("between", first.host, b"", "another")
    verdict = judge([first, between, Snapshot("", journals.host, b"", "third")], journals.table, journals.plan)
    assert len(verdict.wrong) == TRIALS - 1


@pytest.mark.parametrize(
    ("spoil_table", "words"),
    [
        (lambda table, one, other: table.pop(one), "no row"),
        (lambda table, one, other: table.update({one: table[other]}), "from the trial of another subject"),
        (lambda table, one, other: table[one].update(latency_ms=1e9), "in the journal"),
        (lambda table, one, other: table[one].update(status="crashed"), "crashed"),
        (lambda table, one, other: table[one].update(trial_ids=["0" * 64 + ":1"]), "does not have"),
        (lambda table, one, other: table.update(more=table[one]), "nobody planned"),
    ],
)
def test_a_table_that_lacks_or_mixes_up_something_is_found(
    journals: Journals, spoil_table: Callable[[dict[str, Any], str, str], Any], words: str
) -> None:
    table = json.loads(json.dumps(journals.table))
    one, other, *_ = table
    spoil_table(table, one, other)
    verdict = judge([Snapshot("", journals.host, journals.device)], table, journals.plan)
    assert any(words in text for text in verdict.missing), verdict
