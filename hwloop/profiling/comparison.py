"""Two results of the same question: which is faster, and by how much. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from hwloop.errors import UserError
from hwloop.measurement import Interval
from hwloop.profiling.result import NetworkResult, Timing

Verdict = Literal["faster", "slower", "within noise"]

CONTEXT = ("device", "cpu", "runtime", "runtime_version", "threads")
"""What two results must share to be compared without saying so; the model may differ, that is what is compared."""

EMULATED = "EMULATED"


@dataclass(frozen=True)
class Comparison:
    """How B compares with A.

    Attributes:
        ratio: latency of B over that of A.
        interval: of the ratio: the ends of both latencies' intervals, the most careful reading.
        noise_floor: the larger of both; a ratio closer to 1 than this is noise. None where neither was measured twice.
        verdict: on B.
        differences: what else differs, as "field: A / B"; the same context when empty.
        layers: ratios of the layers that both have, by key, largest change first.
    """

    ratio: float
    interval: Interval
    noise_floor: float | None
    verdict: Verdict
    differences: tuple[str, ...]
    layers: tuple[tuple[str, float, Verdict], ...] = ()


def compare(a: NetworkResult, b: NetworkResult, *, across: Sequence[str] = ()) -> Comparison:
    """Compare two results.

    Args:
        a: the reference.
        b: what is judged.
        across: fields of `CONTEXT` that are meant to differ: "runtime", "threads", "device".

    Raises:
        UserError: a field differs that was not meant to (all of them are named), or one of the two has no latency.
    """
    allowed = set(across)
    unknown = sorted(allowed - set(CONTEXT))
    if unknown:
        raise UserError(f"--across {unknown[0]}: name some of {', '.join(CONTEXT)}")
    # Another processor comes with another device, another version with another runtime.
    if "device" in allowed:
        allowed.add("cpu")
    if "runtime" in allowed:
        allowed.add("runtime_version")
    differing = [name for name in CONTEXT if getattr(a, name) != getattr(b, name)]
    refused = [name for name in differing if name not in allowed]
    if refused:
        named = "; ".join(_difference(name, a, b) for name in refused)
        wish = ",".join(dict.fromkeys({"cpu": "device"}.get(name, name) for name in refused))
        raise UserError(f"these results are not of one kind: {named}; compare them knowingly with --across {wish}")
    for one, name in ((a, "first"), (b, "second")):
        if not one.end_to_end.usable:
            reasons = "; ".join(one.end_to_end.reasons) or "no reason given"
            raise UserError(f"the {name} result, {one.model}, has no latency: {one.end_to_end.status} ({reasons})")
    floors = [one.noise_floor for one in (a, b) if one.noise_floor is not None]
    floor = max(floors) if floors else None
    ratio, interval, verdict = _judge(a.end_to_end, b.end_to_end, floor)
    return Comparison(
        ratio, interval, floor, verdict, tuple(_difference(name, a, b) for name in differing), _layers(a, b, floor)
    )


def _difference(name: str, a: NetworkResult, b: NetworkResult) -> str:
    return f"{name}: {getattr(a, name)} / {getattr(b, name)}"


def _judge(a: Timing, b: Timing, floor: float | None) -> tuple[float, Interval, Verdict]:
    (a_low, a_ms, a_high), (b_low, b_ms, b_high) = a.numbers, b.numbers
    ratio, interval = b_ms / a_ms, Interval(b_low / a_high, b_high / a_low)
    margin = floor or 0.0
    if interval.high < 1 and ratio < 1 - margin:
        return ratio, interval, "faster"
    if interval.low > 1 and ratio > 1 + margin:
        return ratio, interval, "slower"
    return ratio, interval, "within noise"


def _layers(a: NetworkResult, b: NetworkResult, floor: float | None) -> tuple[tuple[str, float, Verdict], ...]:
    mine = {layer.key: layer.timing for layer in a.layers or () if layer.timing.usable}
    theirs = {layer.key: layer.timing for layer in b.layers or () if layer.timing.usable}
    found = []
    for key in mine.keys() & theirs.keys():
        ratio, _, verdict = _judge(mine[key], theirs[key], floor)
        found.append((key, ratio, verdict))
    return tuple(sorted(found, key=lambda one: -abs(math.log(one[1]))))
