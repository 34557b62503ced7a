"""What a campaign learned about one artifact: the trials of several fresh processes, pooled.

Within one process, samples share memory layout and thread placement; between processes they do not (pyperf's
observation). The pooled number is therefore the median of the process medians, and its interval is the *envelope* of
the processes' own intervals: with the two to five processes that a campaign affords, a narrower interval would claim
a precision that nobody measured.
"""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

NS_PER_MS = 1e6
MJ_PER_J = 1e3

#: Statuses whose numbers may be used. A degraded trial is used only when no process gave an ok one.
USABLE = ("ok", "degraded")


@dataclass(frozen=True)
class Interval:
    """A closed interval; its unit is in the name of the field that holds it."""

    low: float
    high: float

    def overlaps(self, other: Interval) -> bool:
        """Whether the two have a point in common."""
        return self.low <= other.high and other.low <= self.high


@dataclass(frozen=True)
class Measurement:
    """Trials of one artifact, fresh processes pooled.

    Attributes:
        key: the layer's key, or the candidate's text for a network.
        status: ``ok``, ``degraded`` (used, with reasons), or the status that most of the trials ended with.
        reasons: why it is not ``ok``; distinct, in order of appearance.
        latency_ms: median of the process medians; nan when no trial was usable.
        interval_ms: envelope of the processes' own intervals of the median.
        process_medians_ms: one per usable trial, in the order of the replicates.
        peak_bytes: peak resident set with the runtime and the model loaded (median over processes); 0 when unknown.
        model_bytes: the part of `peak_bytes` above the runtime's base (median over processes).
        memory_method: how the memory was read, as the agent says it.
        energy_mj: of one run (median over processes); None where no process could read it.
        trial_ids: of all trials, usable or not.
        provenance: what the trials ran on and with: runtime, version, threads, governor, clock, throttle, boot id …
    """

    key: str
    status: str
    reasons: tuple[str, ...]
    latency_ms: float
    interval_ms: Interval
    process_medians_ms: tuple[float, ...]
    peak_bytes: int
    model_bytes: int
    memory_method: str
    trial_ids: tuple[str, ...]
    provenance: Mapping[str, Any] = field(default_factory=dict)
    energy_mj: float | None = None

    @property
    def usable(self) -> bool:
        """Whether there is a latency at all."""
        return self.status in USABLE


def pool(key: str, records: Sequence[Mapping[str, Any]]) -> Measurement:
    """Pool the trial records of one artifact.

    Args:
        key: what was measured.
        records: trial records as the agent returns them, at least one.

    Returns:
        The measurement; with status other than ok or degraded when no trial gave a number.
    """
    by_status = [[r for r in records if r["status"] == status] for status in USABLE]
    used = next((group for group in by_status if group), [])
    reasons = tuple(dict.fromkeys(reason for r in (used or records) for reason in r.get("reasons", ())))
    trial_ids = tuple(str(r["trial_id"]) for r in records)
    if not used:
        statuses = [str(r["status"]) for r in records]
        nan = float("nan")
        return Measurement(
            key, statistics.mode(statuses), reasons, nan, Interval(nan, nan), (), 0, 0, "none", trial_ids
        )
    medians = tuple(r["latency"]["median_ns"] / NS_PER_MS for r in used)
    memory = [r["memory"] for r in used]
    return Measurement(
        key=key,
        status=str(used[0]["status"]),
        reasons=reasons,
        latency_ms=statistics.median(medians),
        interval_ms=Interval(
            min(r["latency"]["low_ns"] for r in used) / NS_PER_MS,
            max(r["latency"]["high_ns"] for r in used) / NS_PER_MS,
        ),
        process_medians_ms=medians,
        peak_bytes=_median_bytes(memory, "peak_bytes"),
        model_bytes=_median_bytes(memory, "model_bytes"),
        memory_method=str(memory[0]["method"]),
        trial_ids=trial_ids,
        provenance=_provenance(used),
        energy_mj=_energy_mj(used),
    )


def _median_bytes(memory: Sequence[Mapping[str, Any]], name: str) -> int:
    """Median over the processes that could read it; 0 when none could (the record's method says why)."""
    known = [m[name] for m in memory if m.get(name) is not None]
    return int(statistics.median(known)) if known else 0


def _energy_mj(records: Sequence[Mapping[str, Any]]) -> float | None:
    """Median over the processes that could read it; None when none could (the record's reason says why)."""
    known = [joules for r in records if (joules := (r.get("energy") or {}).get("joules_per_run")) is not None]
    return MJ_PER_J * statistics.median(known) if known else None


def _provenance(records: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    first = records[0]
    conditions = [r.get("conditions", {}) for r in records]
    ratios = [c["canary_ratio"] for c in conditions if c.get("canary_ratio") is not None]
    throttle = {c.get("throttle", "unknown") for c in conditions}
    return {
        "runtime": first["runtime"]["name"],
        "runtime_version": first["runtime"]["version"],
        "threads": first["spec"]["threads"],
        "governor": conditions[0].get("governor"),
        "clock_mhz": conditions[0].get("clock_mhz"),
        "temperature_c": conditions[0].get("temperature_c"),
        "throttle": next((word for word in ("seen", "unknown") if word in throttle), "none"),
        "canary_ratio": max(ratios, key=lambda ratio: abs(ratio - 1)) if ratios else None,
        "boot_id": first.get("boot_id"),
        "emulated": first.get("emulated"),
        "measured_at": first.get("started_at"),
    }


class Repeated(Protocol):
    """Something that several fresh processes have measured: a `Measurement`, a row of a table."""

    @property
    def process_medians_ms(self) -> Sequence[float]:
        """One per usable process."""


def noise_floor(measurements: Iterable[Repeated]) -> float:
    """Median relative difference between two fresh processes that measured the same artifact.

    Every pair of processes of every measurement counts once: |a - b| / mean(a, b). This is how far apart two honest
    answers to the same question lie; no predictor can be trusted beyond it.

    Returns:
        The relative floor (0.01 is one per cent); nan when nothing was measured twice.
    """
    differences = [
        abs(a - b) / ((a + b) / 2)
        for measurement in measurements
        for a, b in itertools.combinations(measurement.process_medians_ms, 2)
    ]
    return statistics.median(differences) if differences else float("nan")
