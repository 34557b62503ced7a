"""Two results of the same question: which is faster, and by how much. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from hwloop.errors import UserError
from hwloop.measurement import Interval, Verdict, context_differences, judge
from hwloop.profiling.result import NetworkResult


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
        across: fields of `hwloop.measurement.comparing.CONTEXT` that are meant to differ, such as "runtime".

    Raises:
        UserError: a field differs that was not meant to (all of them are named), or one of the two has no latency.
    """
    differences = context_differences(a, b, across, "results")
    for one, name in ((a, "first"), (b, "second")):
        if not one.end_to_end.usable:
            reasons = "; ".join(one.end_to_end.reasons) or "no reason given"
            raise UserError(f"the {name} result, {one.model}, has no latency: {one.end_to_end.status} ({reasons})")
    floors = [one.noise_floor for one in (a, b) if one.noise_floor is not None]
    floor = max(floors) if floors else None
    found = judge(a.end_to_end.numbers, b.end_to_end.numbers, floor)
    return Comparison(found.value, found.interval, floor, found.verdict, differences, _layers(a, b, floor))


def _layers(a: NetworkResult, b: NetworkResult, floor: float | None) -> tuple[tuple[str, float, Verdict], ...]:
    mine = {layer.key: layer.timing for layer in a.layers or () if layer.timing.usable}
    theirs = {layer.key: layer.timing for layer in b.layers or () if layer.timing.usable}
    found = []
    for key in mine.keys() & theirs.keys():
        ratio = judge(mine[key].numbers, theirs[key].numbers, floor)
        found.append((key, ratio.value, ratio.verdict))
    return tuple(sorted(found, key=lambda one: -abs(math.log(one[1]))))
