"""The anchor: one subject of a campaign that is measured again and again, so that drift of the device shows.

Between two anchors lie about twenty trials, a *span*. An anchor that stands apart from the campaign's anchors (their
median) by more than `LIMIT`, with its whole interval, says that the device was another one just then: the spans before
and after it are measured again. benchmark_tools.md, section 2, rule 9; google/benchmark interleaves for this reason.

False alarms would cost more than drift. Therefore the numbers are medians of clean blocks, an anchor that looks off is
confirmed by a second fresh process before it counts, and the limit is never below what the campaign's anchors scatter
by themselves. An anchor costs one trial in twenty; campaigns of fewer trials have none.

Anchors are ordinary trials in the journal, told by their `replicate`: `FIRST_ANCHOR`, 16 bits that name the
campaign, 13 bits for the position, one for the process.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from zlib import crc32

from hwloop.devices.replay import FIRST_ANCHOR
from hwloop.measurement.store import EVENT

Json = Mapping[str, Any]

LIMIT = 0.03
# Standard deviations' worth of the anchors' own scatter, by their median absolute deviation.
SCATTER = 3.0
FEWEST = 3
# Two processes at the first positions: they make the reference that later ones are held against.
BASE_POSITIONS = 2
MAX_POSITION = (1 << 13) - 1
DRIFT = "drift"


def salt_of(digests: Iterable[str]) -> int:
    """Return 16 bits that name a campaign by its specs' digests."""
    return crc32("".join(sorted(digests)).encode()) & 0xFFFF


def replicate_of(salt: int, position: int, process: int) -> int:
    """Return the replicate of an anchor. Raises `ValueError` beyond the last position."""
    if not 0 <= position <= MAX_POSITION:
        raise ValueError(f"a campaign has at most {MAX_POSITION + 1} anchors")
    return FIRST_ANCHOR + (salt << 14) + (position << 1) + process


def position_of(entry: Json, salt: int) -> int | None:
    """Return the position of an anchor of campaign `salt`; None for everything else in a journal."""
    if EVENT in entry:
        return None
    code = int(entry["spec"]["replicate"]) - FIRST_ANCHOR
    return (code >> 1) & MAX_POSITION if code >= 0 and code >> 14 == salt else None


@dataclass(frozen=True)
class Point:
    """One anchor: where it stands and what its processes said.

    Attributes:
        position: from 0.
        median_ns: median of the processes' medians.
        low_ns: the lowest end of their intervals; `high_ns`: the highest.
        processes: how many gave a number under good conditions.
        gap: how far its processes, which ran one right after the other, lie apart, relative to their median.
    """

    position: int
    median_ns: float
    low_ns: float
    high_ns: float
    processes: int
    gap: float

    def ratio(self, reference_ns: float) -> float:
        """Return how far it stands from the reference: 0.05 is five per cent slower."""
        return self.median_ns / reference_ns - 1

    def stands_apart(self, reference_ns: float, limit: float) -> bool:
        """Say whether even the near end of its interval is beyond the limit."""
        return self.low_ns > reference_ns * (1 + limit) or self.high_ns < reference_ns * (1 - limit)


def points_of(entries: Iterable[Json], salt: int) -> list[Point]:
    """Return the anchors of a campaign that have a number, by position."""
    found: dict[int, list[Json]] = {}
    for entry in entries:
        position = position_of(entry, salt)
        if position is not None and entry["status"] == "ok":
            found.setdefault(position, []).append(entry["latency"])
    points: list[Point] = []
    for position, latencies in sorted(found.items()):
        medians = [latency["median_ns"] for latency in latencies]
        middle = statistics.median(medians)
        low_ns, high_ns = min(one["low_ns"] for one in latencies), max(one["high_ns"] for one in latencies)
        points.append(Point(position, middle, low_ns, high_ns, len(medians), (max(medians) - min(medians)) / middle))
    return points


def reference_of(points: Sequence[Point]) -> tuple[float, float] | None:
    """Return the campaign's median anchor in ns and the relative limit; None while there are too few anchors.

    The limit is `LIMIT`, or what the anchors scatter by, or what two processes at one moment differ by, if larger.
    """
    if len(points) < FEWEST:
        return None
    medians = [point.median_ns for point in points]
    middle = statistics.median(medians)
    scatter = statistics.median(abs(median - middle) for median in medians) / middle
    return middle, max(LIMIT, SCATTER * scatter, *(point.gap for point in points))


def wants_second_process(points: Sequence[Point], position: int) -> bool:
    """Say whether the anchor at `position`, of one process so far, needs another one."""
    if position < BASE_POSITIONS:
        return True
    reference = reference_of(points)
    mine = next((point for point in points if point.position == position), None)
    return reference is not None and mine is not None and mine.processes < 2 and mine.stands_apart(*reference)


def trials_since_anchor(entries: Iterable[Json], salt: int, trial_ids: set[str]) -> int | None:
    """Return how many of the campaign's trials came after its last anchor; None when it has no anchor."""
    count: int | None = None
    for entry in entries:
        if position_of(entry, salt) is not None:
            count = 0
        elif count is not None and EVENT not in entry and entry["trial_id"] in trial_ids:
            count += 1
    return count


def drifting_trials(entries: Sequence[Json], salt: int, trial_ids: set[str]) -> dict[str, float]:
    """Return the trials of spans that drifted, with the ratio of the anchor that says so.

    Args:
        entries: of the journal, in order.
        salt: of the campaign.
        trial_ids: the trials that are asked about.
    """
    points = points_of(entries, salt)
    reference = reference_of(points)
    if reference is None:
        return {}
    off: dict[int | None, float] = {
        point.position: point.ratio(reference[0])
        for point in points
        if point.processes >= 2 and point.stands_apart(*reference)
    }
    found: dict[str, float] = {}
    span: list[str] = []
    before: int | None = None
    for entry in entries:
        position = position_of(entry, salt)
        if position is not None:
            # Two processes of one anchor have nothing between them.
            found |= {trial_id: off[end] for end in (before, position) if end in off for trial_id in span}
            span, before = [], position
        elif EVENT not in entry and entry["trial_id"] in trial_ids:
            span.append(entry["trial_id"])
    if before in off:
        found |= dict.fromkeys(span, off[before])
    return found
