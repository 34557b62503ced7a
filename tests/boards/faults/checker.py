"""Decides from copies of the journals alone whether anything was lost, doubled or wrongly attributed. Pure.

It shares no code with what it checks: journal lines, checksums and trial ids are read and computed here once more,
from their description in `device_agents/README.md`.
"""

from __future__ import annotations

import hashlib
import json
import math
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tests.boards.faults.campaign import Expected

Json = dict[str, Any]
USABLE = ("ok", "degraded")
# A campaign's anchors repeat a subject in processes whose numbers lie far above those of its plan.
FIRST_ANCHOR = 1 << 30
# A null inference never ends early. It can end late on a busy machine, but not the quickest of many by so much.
LATE = 2.0


@dataclass(frozen=True)
class Snapshot:
    """The two journals at one moment.

    Attributes:
        host: bytes of the host's journal; device: of the device's. Empty where that journal is no witness.
        boot_id: of the board when the copy was made; None where it does not matter.
    """

    label: str
    host: bytes
    device: bytes
    boot_id: str | None = None


@dataclass
class Verdict:
    """What was found; each text names the trial and the evidence. All empty is how it must be."""

    finished: int = 0
    lost: list[str] = field(default_factory=list)
    duplicated: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)

    @property
    def is_clean(self) -> bool:
        return not (self.lost or self.duplicated or self.wrong or self.missing)


def canonical(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True).encode("ascii")


def read_journal(data: bytes) -> tuple[list[Json], list[str]]:
    """The records of a journal and what is wrong with its lines; a last line without its newline is being written."""
    records: list[Json] = []
    faults: list[str] = []
    seq = 0
    for number, line in enumerate(data.split(b"\n")[:-1], 1):
        try:
            entry = json.loads(line)
            record, seq_here = entry["rec"], entry["seq"]
            crc = f"{zlib.crc32(canonical([seq_here, record])):08x}"
        except (ValueError, KeyError, TypeError) as error:
            faults.append(f"line {number} cannot be read: {error!r}")
            continue
        if crc != entry["crc"]:
            faults.append(f"line {number}: checksum {entry['crc']} is not {crc}")
        elif seq and seq_here != seq + 1:
            faults.append(f"line {number}: number {seq_here} follows {seq}")
        seq = seq_here
        records.append(record)
    return records, faults


def trials_in(data: bytes) -> list[Json]:
    """The records of trials in a journal; the host's has records of other events too."""
    return [record for record in read_journal(data)[0] if "event" not in record]


def judge(snapshots: Sequence[Snapshot], table: Mapping[str, Json], plan: Sequence[Expected]) -> Verdict:
    """Judge a campaign.

    Args:
        snapshots: in the order of time, the last one made when the campaign had ended.
        table: the host's result: per subject `status`, `latency_ms` and `trial_ids`.
        plan: what was to be measured.
    """
    verdict = Verdict()
    by_digest = {hashlib.sha256(canonical(one.spec)).hexdigest(): one for one in plan}
    seen: dict[str, dict[bytes, str]] = {}  # by trial id: each content, and where it was first seen
    boot_before: str | None = None
    for snapshot in snapshots:
        boots = {boot_before, snapshot.boot_id}
        for where, data in (("host", snapshot.host), ("device", snapshot.device)):
            _look(f"{where} journal {snapshot.label}", data, boots, by_digest, seen, verdict)
        boot_before = snapshot.boot_id
    final = trials_in(snapshots[-1].host)
    kept = {str(record.get("trial_id")): record for record in final}
    verdict.finished = sum(str(trial_id).partition(":")[0] in by_digest for trial_id in kept)
    for trial_id, contents in seen.items():
        if trial_id not in kept:
            verdict.lost.append(f"{trial_id}: in the {next(iter(contents.values()))}, not in the end")
        if len(contents) > 1:
            verdict.duplicated.append(f"{trial_id}: measured more than once, {' and '.join(contents.values())}")
            if trial_id in kept and canonical(kept[trial_id]) != next(iter(contents)):
                verdict.lost.append(f"{trial_id}: its first measurement was replaced")
    verdict.missing += _missing(table, plan, kept)
    return verdict


def _look(
    where: str,
    data: bytes,
    boots: set[str | None],
    by_digest: Mapping[str, Expected],
    seen: dict[str, dict[bytes, str]],
    verdict: Verdict,
) -> None:
    """Read one copy of one journal into `seen`; note what is wrong with it by itself."""
    records, faults = read_journal(data)
    verdict.wrong += [f"{where}: {fault}" for fault in faults]
    here: set[str] = set()
    for record in records:
        if "event" in record:
            continue
        trial_id = str(record.get("trial_id"))
        if trial_id in here:
            verdict.duplicated.append(f"{trial_id}: twice in the {where}")
        here.add(trial_id)
        content = canonical(record)
        contents = seen.setdefault(trial_id, {})
        if content in contents:
            continue
        contents[content] = where
        verdict.wrong += [f"{trial_id} in the {where}: {fault}" for fault in misattributions(record, by_digest)]
        if None not in boots and record.get("boot_id") not in boots:
            verdict.wrong.append(f"{trial_id} in the {where}: measured in boot {record.get('boot_id')}, not {boots}")


def misattributions(record: Json, by_digest: Mapping[str, Expected]) -> Iterator[str]:
    """Say where a record is not of the trial whose id it bears."""
    digest, _, attempt = str(record.get("trial_id")).partition(":")
    if not attempt.isdigit() or int(attempt) < 1:
        yield f"no attempt: {attempt!r}"
    own = hashlib.sha256(canonical(record.get("spec"))).hexdigest()
    if own != digest:
        yield f"its spec has the hash {own}"
    wanted = by_digest.get(_planned_digest(record.get("spec"), digest))
    if wanted is None:
        yield "nobody planned it"
        return
    if record.get("status") in USABLE:
        yield from _content_faults(record, wanted)


def _planned_digest(spec: Any, digest: str) -> str:
    """Return the digest under which a trial was planned: an anchor's is that of the subject it repeats."""
    if isinstance(spec, dict) and isinstance(spec.get("replicate"), int) and spec["replicate"] >= FIRST_ANCHOR:
        return hashlib.sha256(canonical({**spec, "replicate": 0})).hexdigest()
    return digest


def _content_faults(record: Json, wanted: Expected) -> Iterator[str]:
    """Compare what the worker said of what it ran with what it was to run."""
    runtime = record["runtime"]
    if runtime["name"] != wanted.spec["runtime"]:
        yield f"{wanted.subject} was measured in {runtime['name']}"
    elif wanted.duration_ns is not None:
        for name, value in wanted.spec["options"].items():
            if runtime["settings"].get(name) != value:
                yield f"{wanted.subject} ran with {name} = {runtime['settings'].get(name)}, not {value}"
    quickest = min(record["latency"]["samples_ns"])
    if wanted.duration_ns is not None and not 0.999 * wanted.duration_ns <= quickest <= LATE * wanted.duration_ns:
        yield f"{wanted.subject} takes {wanted.duration_ns:.0f} ns, the record's quickest {quickest:.0f} ns"
    if wanted.output_shape is not None:
        shapes = [output["shape"] for output in record["outputs"]]
        if shapes != [wanted.output_shape]:
            yield f"{wanted.subject} has the output {wanted.output_shape}, the record {shapes}"
        if record["memory"]["artifact_bytes"] != wanted.spec["artifact"]["size"]:
            yield f"{wanted.subject} was loaded from {record['memory']['artifact_bytes']} bytes"


def _missing(table: Mapping[str, Json], plan: Sequence[Expected], kept: Mapping[str, Json]) -> Iterator[str]:
    """Say what the final table lacks, or has that the journal does not bear out."""
    for one in plan:
        digest = hashlib.sha256(canonical(one.spec)).hexdigest()
        row = table.get(one.subject)
        if row is None:
            yield f"{one.subject}: no row"
            continue
        records = [kept.get(trial_id) for trial_id in row["trial_ids"]]
        if not records or any(record is None for record in records):
            yield f"{one.subject}: of trials that the journal does not have"
        elif row["status"] not in USABLE:
            yield f"{one.subject}: {row['status']}"
        elif any(trial_id.partition(":")[0] != digest for trial_id in row["trial_ids"]):
            yield f"{one.subject}: from the trial of another subject"
        else:
            medians = [r["latency"]["median_ns"] / 1e6 for r in records if r is not None and r["status"] in USABLE]
            if not any(math.isclose(row["latency_ms"], median, rel_tol=1e-9) for median in medians):
                yield f"{one.subject}: {row['latency_ms']} ms in the table, {medians} in the journal"
    planned = {one.subject for one in plan}
    for subject in table:
        if subject not in planned:
            yield f"{subject}: a row that nobody planned"
