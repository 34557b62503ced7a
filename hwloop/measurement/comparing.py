"""Two measurements of the same question: which is faster, and whether they may be compared at all. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from hwloop.errors import UserError
from hwloop.measurement.measurement import Interval

Verdict = Literal["faster", "slower", "within noise"]

CONTEXT = ("device", "cpu", "runtime", "runtime_version", "threads")
"""What two results must share to be compared without saying so."""

Numbers = tuple[float, float, float]
"""Low end of the interval, latency, high end; one unit, positive."""


@dataclass(frozen=True)
class Ratio:
    """How B compares with A.

    Attributes:
        value: latency of B over that of A.
        interval: of the ratio: the ends of both latencies' intervals, the most careful reading.
        verdict: on B.
    """

    value: float
    interval: Interval
    verdict: Verdict


def judge(a: Numbers, b: Numbers, noise_floor: float | None) -> Ratio:
    """Compare two latencies.

    B is faster or slower when the whole interval of the ratio says so and the ratio is further from 1 than the noise
    floor.

    Args:
        a: the reference.
        b: what is judged.
        noise_floor: relative difference of two processes that measured the same; None where it is not known.
    """
    (a_low, a_ms, a_high), (b_low, b_ms, b_high) = a, b
    value, interval = b_ms / a_ms, Interval(b_low / a_high, b_high / a_low)
    margin = noise_floor or 0.0
    if interval.high < 1 and value < 1 - margin:
        return Ratio(value, interval, "faster")
    if interval.low > 1 and value > 1 + margin:
        return Ratio(value, interval, "slower")
    return Ratio(value, interval, "within noise")


def context_differences(a: Any, b: Any, across: Sequence[str], what: str) -> tuple[str, ...]:
    """Return what differs between the contexts of two results, as "field: A / B".

    Args:
        a: has the attributes `CONTEXT`.
        b: likewise.
        across: fields that are meant to differ. Another processor comes with another device, another version with
            another runtime.
        what: the two are, for the message: "results".

    Raises:
        UserError: a field differs that was not meant to; all of them are named.
    """
    allowed = set(across)
    unknown = sorted(allowed - set(CONTEXT))
    if unknown:
        raise UserError(f"--across {unknown[0]}: name some of {', '.join(CONTEXT)}")
    if "device" in allowed:
        allowed.add("cpu")
    if "runtime" in allowed:
        allowed.add("runtime_version")
    differing = {
        name: f"{name}: {getattr(a, name)} / {getattr(b, name)}"
        for name in CONTEXT
        if getattr(a, name) != getattr(b, name)
    }
    refused = [name for name in differing if name not in allowed]
    if refused:
        named = "; ".join(differing[name] for name in refused)
        wish = ",".join(dict.fromkeys({"cpu": "device"}.get(name, name) for name in refused))
        raise UserError(f"these {what} are not of one kind: {named}; compare them knowingly with --across {wish}")
    return tuple(differing.values())
