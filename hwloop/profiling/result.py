"""What was learned about one network on one device in one runtime: plain data, and its JSON file."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from hwloop.errors import DataError
from hwloop.files import write_atomic
from hwloop.measurement import USABLE, Measurement

OVERHEAD_LIMIT = 0.30
"""A profile that slows the network down by more than this says nothing about single layers."""
SUM_LIMIT = 1.05
"""Rows that together take longer than the run they are parts of, by more than this, were disturbed."""


class _Data(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Timing(_Data):
    """A latency with its interval, or the reason why there is none.

    Attributes:
        status: of the pooled trials, see `hwloop.measurement.Measurement`.
        reasons: why it is not ok.
        latency_ms: median of the processes' medians; None without a number.
        low_ms: of the envelope of the processes' intervals.
        high_ms: likewise.
        process_medians_ms: one for each usable process.
        trial_ids: of all its trials; the raw samples are in the journal.
    """

    status: str
    reasons: tuple[str, ...] = ()
    latency_ms: float | None = None
    low_ms: float | None = None
    high_ms: float | None = None
    process_medians_ms: tuple[float, ...] = ()
    trial_ids: tuple[str, ...] = ()

    @property
    def usable(self) -> bool:
        """Whether there is a latency."""
        return self.status in USABLE

    @property
    def numbers(self) -> tuple[float, float, float]:
        """Low end, latency and high end, in ms; nan without a number."""
        if self.low_ms is None or self.latency_ms is None or self.high_ms is None:
            return (math.nan, math.nan, math.nan)
        return (self.low_ms, self.latency_ms, self.high_ms)

    @classmethod
    def of(cls, measured: Measurement) -> Timing:
        """From a campaign's measurement."""
        if not measured.usable:
            return cls(status=measured.status, reasons=measured.reasons, trial_ids=measured.trial_ids)
        return cls(
            status=measured.status,
            reasons=measured.reasons,
            latency_ms=measured.latency_ms,
            low_ms=min(measured.interval_ms.low, measured.latency_ms),
            high_ms=max(measured.interval_ms.high, measured.latency_ms),
            process_medians_ms=measured.process_medians_ms,
            trial_ids=measured.trial_ids,
        )


class Bytes(_Data):
    """A number of bytes, and how it was found."""

    what: str
    bytes: int
    method: str


class LayerResult(_Data):
    """One distinct layer, measured alone.

    Attributes:
        key: of the layer.
        names: of the nodes of the network that are this layer.
        timing: of the layer alone, in a process of its own.
        memory: weights, activations, and what the runtime needed beyond.
    """

    key: str
    names: tuple[str, ...]
    timing: Timing
    memory: tuple[Bytes, ...] = ()


class ProfileRow(_Data):
    """One operator of the runtime's own profile; `layer` is the node of the network that it belongs to, if any."""

    name: str
    op: str
    layer: str | None
    latency_ms: float
    calls: float
    memory: dict[str, int] = {}


class Profile(_Data):
    """A profile of the whole network, from a process in which latency was not measured.

    Attributes:
        status: of the profiled trial.
        reasons: why there is no profile, or what was wrong with its conditions.
        method: the runtime's profiler and the statistic.
        runs: inferences behind each row.
        profiled_ms: end to end, with the profiler on.
        clean_ms: end to end without it.
        rows: in the order of execution.
    """

    status: str
    reasons: tuple[str, ...] = ()
    method: str = ""
    runs: int = 0
    profiled_ms: float | None = None
    clean_ms: float | None = None
    rows: tuple[ProfileRow, ...] = ()

    @property
    def sum_ms(self) -> float:
        """All rows together."""
        return math.fsum(row.latency_ms for row in self.rows)

    @property
    def unmapped_share(self) -> float:
        """Share of `sum_ms` that belongs to no layer: reorders, and what could not be found."""
        lost = math.fsum(row.latency_ms for row in self.rows if row.layer is None)
        return lost / self.sum_ms if self.sum_ms > 0 else 0.0

    @property
    def overhead(self) -> float | None:
        """How much longer the network takes with the profiler on (0.1: ten per cent)."""
        if self.profiled_ms is None or not self.clean_ms:
            return None
        return self.profiled_ms / self.clean_ms - 1

    @property
    def doubt(self) -> str:
        """Why the rows are not to be read as costs of layers; "" when they are."""
        if not self.rows or self.profiled_ms is None:
            return "there are no rows"
        if self.overhead is None:
            return "what the profiler costs is not known: the network has no latency without it"
        if self.overhead > OVERHEAD_LIMIT:
            return f"the profiler slows the network down by more than {100 * OVERHEAD_LIMIT:.0f} %"
        if self.sum_ms > SUM_LIMIT * self.profiled_ms:
            return "together they take longer than the network, so single ones were interrupted"
        return ""

    @property
    def trusted(self) -> bool:
        """Whether the rows may be read as costs of layers."""
        return not self.doubt


class NetworkResult(_Data):
    """A network in one runtime on one device.

    Attributes:
        model: as it was asked for.
        device: name in the inventory.
        cpu: as the device names it; begins with EMULATED where it is one.
        runtime: with its variant.
        runtime_version: None where it could not be imported.
        threads: of the runtime.
        settings: of the runtime, the defaults too.
        agent_sha256: of the agent that measured.
        measured_at: by the device's clock.
        artifact_sha256: of the file that was loaded; None where there is none.
        artifact_bytes: its size.
        parameters: of the layers; None where they cannot be read.
        macs: multiply-accumulates, likewise.
        end_to_end: the whole network.
        memory: each with its method.
        layers: the distinct layers, measured alone; None where nobody asked.
        missing: layers that have no number, with the reason.
        fusion: name of the rules that made the layers.
        profile: None where nobody asked.
        noise_floor: median relative difference between two processes that measured the same; None when all were
            measured once.
    """

    format: Literal["hwloop-result-1"] = "hwloop-result-1"
    model: str
    device: str
    cpu: str
    runtime: str
    runtime_version: str | None
    threads: int
    settings: dict[str, Any] = {}
    agent_sha256: str
    measured_at: str
    artifact_sha256: str | None
    artifact_bytes: int | None
    parameters: int | None
    macs: int | None
    end_to_end: Timing
    memory: tuple[Bytes, ...] = ()
    layers: tuple[LayerResult, ...] | None = None
    missing: dict[str, str] = {}
    fusion: str | None = None
    profile: Profile | None = None
    noise_floor: float | None = None

    @property
    def sum_ms(self) -> float | None:
        """Sum of the layers, each as often as it occurs; None when there are none, or one has no number."""
        if not self.layers or self.missing:
            return None
        return math.fsum(len(layer.names) * (layer.timing.latency_ms or 0.0) for layer in self.layers)

    @property
    def gap(self) -> float | None:
        """Sum of the layers over end to end, less one: what isolation adds (0.2: twenty per cent)."""
        if self.sum_ms is None or not self.end_to_end.latency_ms:
            return None
        return self.sum_ms / self.end_to_end.latency_ms - 1

    def size(self, what: str) -> Bytes | None:
        """One of the memory figures, by its name."""
        return next((one for one in self.memory if one.what == what), None)


class Collection(_Data):
    """Several results, as a file."""

    format: Literal["hwloop-results-1"] = "hwloop-results-1"
    results: tuple[NetworkResult, ...]


def save_result(result: NetworkResult | Collection, path: Path) -> None:
    """Write a result as JSON, atomically."""
    write_atomic(path, as_json(result))


def as_json(result: NetworkResult | Collection) -> str:
    """A result as JSON text; derived figures (sum, gap, overhead) are written too, and recomputed when it is read."""
    data = result.model_dump(mode="json")
    for one, raw in zip(_all(result), data.get("results", [data]), strict=True):
        raw["derived"] = {"sum_of_layers_ms": one.sum_ms, "gap": one.gap}
        if one.profile is not None:
            raw["derived"] |= {
                "profile_sum_ms": one.profile.sum_ms,
                "profile_unmapped_share": one.profile.unmapped_share,
                "profile_overhead": one.profile.overhead,
                "profile_trusted": one.profile.trusted,
                "profile_doubt": one.profile.doubt,
            }
    return json.dumps(data, indent=1, allow_nan=False)


def load_results(path: Path) -> tuple[NetworkResult, ...]:
    """Read a file of one or several results.

    Raises:
        DataError: it cannot be read, or is none.
    """
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        several = isinstance(data, dict) and "results" in data
        for one in data["results"] if several else [data]:
            one.pop("derived", None)
        return Collection.model_validate(data).results if several else (NetworkResult.model_validate(data),)
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}") from error
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"]) or "the file"
        raise DataError(f"{path}: is no result of `hwloop measure --json`: {place}: {first['msg']}") from error
    except (ValueError, TypeError, AttributeError, KeyError) as error:
        raise DataError(f"{path}: is no result of `hwloop measure --json` ({error})") from error


def _all(result: NetworkResult | Collection) -> tuple[NetworkResult, ...]:
    return result.results if isinstance(result, Collection) else (result,)
