"""One row of a latency table: a layer that was measured, with everything that the number depends on."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hwloop.devices.replay import workload_of
from hwloop.errors import UserError
from hwloop.layers import Layer
from hwloop.measurement import USABLE, Measurement, as_replayed


@dataclass(frozen=True)
class Context:
    """What all rows of one table share. Latencies of different contexts are never mixed.

    Attributes:
        device: name of the device in the inventory.
        cpu: model name of its processor.
        runtime: name of the runtime.
        runtime_version: its version.
        threads: threads that the runtime was given; 0 when unknown.
    """

    device: str
    cpu: str
    runtime: str
    runtime_version: str
    threads: int

    @property
    def text(self) -> str:
        """All of it in one line, for people."""
        threads = self.threads or "unknown"
        return f"{self.device} ({self.cpu}), {self.runtime} {self.runtime_version}, threads {threads}"

    def differences(self, other: Context) -> tuple[str, ...]:
        """The fields in which two contexts differ, as "field (this / other)"."""
        return tuple(
            f"{name} ({mine} / {theirs})"
            for name in self.__dataclass_fields__
            if (mine := getattr(self, name)) != (theirs := getattr(other, name))
        )


@dataclass(frozen=True)
class Row:
    """A measured layer.

    Attributes:
        key: the layer's key.
        latency_ms: pooled latency; nan when `status` is not usable.
        low_ms: lower end of the measurement's interval.
        high_ms: upper end.
        process_medians_ms: one per usable process.
        peak_bytes: peak resident set.
        model_bytes: the part of it above the runtime's base.
        status: ``ok``, ``degraded``, or what the trials ended with.
        reasons: why it is not ok.
        context: device, runtime and threads.
        governor: frequency governor; None when unknown.
        clock_mhz: None when unknown.
        temperature_c: None when unknown.
        throttle: ``none``, ``seen`` or ``unknown``.
        canary_ratio: the canary's slowdown while this was measured; None when there was no canary.
        samples_sha256: digest of the raw samples, which stay in the trial journal.
        trial_ids: of all trials of this row.
        agent_sha256: of the agent that measured.
        measured_at: ISO time of the first trial's start, by the device's clock.
        emulated: the device has no processor of its kind, so its latencies are nobody's; None when nobody said.
        fusion: name of the rules by which neighbouring operations were joined into this layer; None when unknown.
        workload_sha256: digest of what was run (`hwloop.devices.replay.workload_of`): artifact, runtime, options,
            inputs and threads; None when unknown.
        energy_mj: of one run; None where it could not be measured.
    """

    key: str
    latency_ms: float
    low_ms: float
    high_ms: float
    process_medians_ms: tuple[float, ...]
    peak_bytes: int
    model_bytes: int
    status: str
    reasons: tuple[str, ...]
    context: Context
    governor: str | None = None
    clock_mhz: float | None = None
    temperature_c: float | None = None
    throttle: str = "unknown"
    canary_ratio: float | None = None
    samples_sha256: str = ""
    trial_ids: tuple[str, ...] = ()
    agent_sha256: str = ""
    measured_at: str = ""
    emulated: bool | None = None
    fusion: str | None = None
    workload_sha256: str | None = None
    energy_mj: float | None = None

    def __post_init__(self) -> None:
        """Refuse a usable row without a number.

        Raises:
            UserError: latency or interval is not positive and finite, or the interval misses the latency.
        """
        if not self.usable:
            return
        numbers = (self.low_ms, self.latency_ms, self.high_ms)
        if not all(math.isfinite(number) and number > 0 for number in numbers):
            raise UserError(f"table row {self.key!r} is {self.status} but its latency is {numbers}; measure it again")
        if not self.low_ms <= self.latency_ms <= self.high_ms:
            raise UserError(f"table row {self.key!r} has a latency outside its interval: {numbers}")

    @property
    def usable(self) -> bool:
        """Whether there is a latency."""
        return self.status in USABLE

    @property
    def processes(self) -> int:
        """How many processes gave a usable number."""
        return len(self.process_medians_ms)

    @classmethod
    def of(
        cls,
        layer: Layer,
        measurement: Measurement,
        records: Sequence[Mapping[str, Any]],
        *,
        device: str,
        cpu: str,
        agent_sha256: str,
        runtime_version: str = "unknown",
        runtime: str | None = None,
        fusion: str | None = None,
    ) -> Row:
        """The row of a finished measurement.

        Args:
            layer: what was measured.
            measurement: the pooled trials.
            records: the trial records that were pooled.
            device: name of the device in the inventory.
            cpu: model name of its processor.
            agent_sha256: of the agent.
            runtime_version: where no trial came far enough to tell: an import that crashed names no version.
            runtime: with its variant; the name that the records tell by default.
            fusion: name of the rules by which the layer was joined.

        Raises:
            UserError: the measurement is called usable and has no number.
        """
        by_id = {str(record["trial_id"]): record for record in records}
        first = by_id[measurement.trial_ids[0]]
        told = (record["runtime"]["version"] for record in records)
        facts: Mapping[str, Any] = measurement.provenance
        return cls(
            key=layer.key,
            latency_ms=measurement.latency_ms,
            # A median of process medians can leave the envelope of bootstrap intervals by a rounding error.
            low_ms=min(measurement.interval_ms.low, measurement.latency_ms),
            high_ms=max(measurement.interval_ms.high, measurement.latency_ms),
            process_medians_ms=measurement.process_medians_ms,
            peak_bytes=measurement.peak_bytes,
            model_bytes=measurement.model_bytes,
            status=measurement.status,
            reasons=measurement.reasons,
            context=Context(
                device=device,
                cpu=as_replayed(cpu) if any(record.get("replayed") for record in records) else cpu,
                runtime=runtime or str(first["runtime"]["name"]),
                runtime_version=str(next((version for version in told if version is not None), runtime_version)),
                threads=int(first["spec"]["threads"]),
            ),
            governor=facts.get("governor"),
            clock_mhz=facts.get("clock_mhz"),
            temperature_c=facts.get("temperature_c"),
            throttle=str(facts.get("throttle", "unknown")),
            canary_ratio=facts.get("canary_ratio"),
            samples_sha256=samples_digest([by_id[trial_id] for trial_id in measurement.trial_ids]),
            trial_ids=measurement.trial_ids,
            agent_sha256=agent_sha256,
            measured_at=str(first.get("started_at") or ""),
            emulated=next((r["emulated"] for r in records if r.get("emulated") is not None), None),
            fusion=fusion,
            workload_sha256=workload_of(first["spec"]),
            energy_mj=measurement.energy_mj,
        )

    @classmethod
    def refused(
        cls, layer: Layer, reason: str, context: Context, *, agent_sha256: str, fusion: str | None = None
    ) -> Row:
        """The row of a layer of which the runtime can make no artifact; there was nothing to try on the device."""
        nan = math.nan
        numbers = (nan, nan, nan, (), 0, 0)
        return cls(layer.key, *numbers, "unsupported", (reason,), context, agent_sha256=agent_sha256, fusion=fusion)


def samples_digest(records: Sequence[Mapping[str, Any]]) -> str:
    """SHA-256 of the raw samples of trials: compact JSON of [[trial id, [ns, …]], …]."""
    content = [[record["trial_id"], (record.get("latency") or {}).get("samples_ns", [])] for record in records]
    return hashlib.sha256(json.dumps(content, separators=(",", ":")).encode()).hexdigest()
