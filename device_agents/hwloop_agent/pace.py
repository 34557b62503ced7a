"""At what pace the core runs, told by a fixed loop between the timed blocks; pure decisions, the clock is passed in.

A core that is shared (a hyperthread's sibling, a busy host under a virtual machine), throttled or ramped down runs the
same code at another speed, for milliseconds or minutes, and no file of the system says so. The loop, the *canary*, says
so: it takes a fixed time at the core's full pace. A block counts as `clean` when the canary right before and the one
right after it ran at that pace. All samples are kept in the record; the summary is made of the clean ones.

Seen on a shared two-CPU virtual machine: a ResNet-20's median moved between 1.26 and 1.42 ms from process to process,
the median of its clean blocks between 1.05 and 1.14 ms.
"""

from __future__ import annotations

from typing import Any, Callable, Dict, List, Optional, Sequence

from hwloop_agent import statistics

Clock = Callable[[], int]

# About 0.1 ms on a desktop core, 0.5 ms on a Raspberry Pi: short beside a block, long beside the clock's resolution.
ROUNDS = 1000
# Done before the clock is read. A block of a large network leaves the loop's code out of the caches: without them the
# canary after ResNet-50 was 8 % slow, the one right after that was not; with them 1 %.
WARM_ROUNDS = 200
# A canary at full pace repeats within 2 % here; a shared or throttled core is 10 % to 80 % slower.
TOLERANCE = 0.06
# The pace is a low quantile, not the minimum: one lucky reading must not make all others look slow.
PACE_QUANTILE = 0.02
# Without a pace that is known from earlier trials, the canary runs this long alone to find it.
SEARCH_NS = 250_000_000
# A median of fewer clean blocks is not one.
MIN_CLEAN = 8


def spin(rounds: int = ROUNDS) -> int:
    """Do the fixed work: integer arithmetic, which needs no data from memory, only its own code."""
    value = 1
    for _ in range(rounds):
        value = (value * 1103515245 + 12345) & 0x7FFFFFFF
    return value


def chunk(clock: Clock) -> int:
    """Return how many nanoseconds the fixed work takes now, its code in the caches."""
    spin(WARM_ROUNDS)
    start = clock()
    spin()
    return clock() - start


def search(clock: Clock) -> List[int]:
    """Run the canary alone for `SEARCH_NS` and return its chunks."""
    spin()
    found: List[int] = []
    began = clock()
    while not found or clock() - began < SEARCH_NS:
        found.append(chunk(clock))
    return found


def pace_of(chunks: Sequence[float], known_ns: Optional[float] = None) -> float:
    """Return the full pace in ns per chunk: a low quantile of `chunks`, or what was known when that is faster."""
    own = statistics.quantile(sorted(chunks), PACE_QUANTILE)
    return own if known_ns is None else min(own, known_ns)


def clean_blocks(chunks: Sequence[float], pace_ns: float) -> List[bool]:
    """Say of each block whether the chunks around it ran at full pace; block i lies between chunk i and i + 1."""
    good = [chunk_ns <= pace_ns * (1 + TOLERANCE) for chunk_ns in chunks]
    return [good[i] and good[i + 1] for i in range(len(good) - 1)]


def summary(chunks: Sequence[float]) -> Dict[str, Any]:
    """Return `median_ns`, `mad_ns`, `pace_ns` and `n` of chunks, as the message `canary` answers."""
    return {
        "median_ns": statistics.median(chunks),
        "mad_ns": statistics.mad(chunks),
        "pace_ns": pace_of(chunks),
        "n": len(chunks),
    }
