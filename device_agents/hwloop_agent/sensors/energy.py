"""Energy per inference, where the board has a power sensor: mean power over the timed part, times the time of a run.

A RAPL counter is read before and after the timed part and nothing is done in between. A rail has to be sampled: a
process of its own does that, forked before the runtime is imported (so it is small and has no threads to copy), on a
CPU that the trial does not use; where no CPU is left, rails are not sampled. It wakes once in a sensor's period, 20 ms
at least, for two reads over I2C.

The timed part holds the canaries between the blocks too. They are not taken out: the power is the mean over both, and
`run_share` says how much of the time the runs had. The power is the whole board's (or package's), idle power included.
Nothing is said over fewer than 20 periods of the sensor, nor when a single read has failed.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import time
from typing import Any, Callable, Dict, List, NamedTuple, Optional, Sequence, Union

from hwloop_agent.sensors.profile import Profile
from hwloop_agent.sensors.rails import Counter, Rail, find_counters, find_rails, read_counters, total_mw
from hwloop_agent.sysfiles import SysFiles

MIN_PERIODS = 20
# RAPL counters move about every millisecond (Intel SDM 3B, 15.10).
COUNTER_PERIOD_MS = 1.0
MIN_SAMPLE_MS = 20.0
# Fewer watts than this per package: a counter that this could have taken around more than once says nothing.
MOST_WATTS = 1000.0
# The sampled time may miss this many periods of the timed part, at its ends or in a gap.
MAX_GAP_PERIODS = 3

Json = Dict[str, Any]
Reader = Callable[[], Optional[float]]
Seconds = Callable[[], float]


class Span(NamedTuple):
    """The timed part: when it began and ended on the monotonic clock, the runs in it and the time they took."""

    began_s: float
    ended_s: float
    runs: int
    busy_s: float


def unknown(reason: str, method: Optional[str] = None, rails: Sequence[str] = ()) -> Json:
    """Return the `energy` of a record that has none."""
    return _told(method, rails, None, None, 0, None, None, reason)


def _told(
    method: Optional[str],
    rails: Sequence[str],
    joules: Optional[float],
    watts: Optional[float],
    periods: int,
    period_ms: Optional[float],
    share: Optional[float],
    reason: str,
) -> Json:
    return {
        "method": method,
        "rails": list(rails),
        "joules_per_run": joules,
        "mean_w": watts,
        "periods": periods,
        "period_ms": period_ms,
        "run_share": share,
        "reason": reason,
    }


def conclude(method: str, rails: Sequence[str], watts: float, period_ms: float, span: Span) -> Json:
    """Return the `energy` of a record from the mean power over a span, unless the span was too short."""
    elapsed = span.ended_s - span.began_s
    periods = int(elapsed * 1000 / period_ms)
    if periods < MIN_PERIODS:
        needed = MIN_PERIODS * period_ms / 1000
        text = (
            f"the timed part of {elapsed:.2f} s has {periods} periods of the sensor ({period_ms:g} ms), {MIN_PERIODS}"
            f" are needed: min_s of at least {needed:.2g}"
        )
        return _told(method, rails, None, None, periods, period_ms, None, text)
    joules = watts * span.busy_s / max(span.runs, 1)
    share = round(min(span.busy_s / elapsed, 1.0), 4)
    return _told(method, rails, float(f"{joules:.5g}"), round(watts, 4), periods, period_ms, share, "")


class NoMeter:
    """There is nothing to measure with, and why."""

    def __init__(self, reason: str) -> None:
        self._reason = reason

    def start(self) -> None:
        """The timed part begins."""

    def stop(self, runs: int, busy_s: float) -> Json:
        """The timed part has ended, with this many runs that took this long; return the `energy` of the record."""
        return unknown(self._reason)

    def close(self) -> None:
        """Nothing to close."""


def counted_uj(before: Sequence[int], after: Sequence[int], counters: Sequence[Counter], elapsed_s: float) -> float:
    """Return the microjoules between two readings of counters that start again from 0 at their range.

    Raises:
        ValueError: a counter has no range and went backwards, or may have gone around more than once.
    """
    total = 0
    for first, last, counter in zip(before, after, counters):
        if counter.range_uj and counter.range_uj < elapsed_s * MOST_WATTS * 1e6:
            raise ValueError(f"{counter.name} may have gone around more than once in {elapsed_s:.0f} s")
        if last < first:
            if not counter.range_uj:
                raise ValueError(f"{counter.name} went backwards, and where it starts again is not told")
            last += counter.range_uj
        total += last - first
    return float(total)


class CounterMeter:
    """Energy counters, read before and after."""

    method = "rapl"

    def __init__(self, counters: Sequence[Counter], clock: Seconds = time.monotonic) -> None:
        self._counters = counters
        self._clock = clock
        self._names = [counter.name for counter in counters]
        self._before: List[int] = []
        self._reason = ""
        self._began = 0.0

    def start(self) -> None:
        """See `NoMeter.start`."""
        self._before, self._reason = read_counters(self._counters)
        self._began = self._clock()

    def stop(self, runs: int, busy_s: float) -> Json:
        """See `NoMeter.stop`."""
        after, reason = read_counters(self._counters)
        span = Span(self._began, self._clock(), runs, busy_s)
        reason = self._reason or reason
        if not reason:
            elapsed = span.ended_s - span.began_s
            try:
                watts = counted_uj(self._before, after, self._counters, elapsed) / 1e6 / max(elapsed, 1e-9)
            except ValueError as error:
                reason = str(error)
            else:
                if watts > 0:
                    return conclude(self.method, self._names, watts, COUNTER_PERIOD_MS, span)
                reason = "the counters did not move"
        return unknown(reason, self.method, self._names)

    def close(self) -> None:
        """See `NoMeter.close`."""


class Tally:
    """Integrates samples of power by trapezoids as they come, and notes what would make the sum worthless."""

    def __init__(self) -> None:
        self._first: Optional[float] = None
        self._last = 0.0
        self._last_mw = 0.0
        self._millijoules = 0.0
        self._gap = 0.0
        self._samples = 0
        self._failed = 0

    def add(self, now_s: float, power_mw: Optional[float]) -> None:
        """Take one sample; None for a read that failed."""
        if power_mw is None:
            self._failed += 1
            return
        if self._first is None:
            self._first = now_s
        else:
            self._millijoules += (now_s - self._last) * (power_mw + self._last_mw) / 2
            self._gap = max(self._gap, now_s - self._last)
        self._last, self._last_mw = now_s, power_mw
        self._samples += 1

    def summary(self) -> Json:
        """Return what the worker needs to judge it."""
        length = 0.0 if self._first is None else self._last - self._first
        return {
            "first_s": self._first,
            "last_s": self._last,
            "gap_s": self._gap,
            "samples": self._samples,
            "failed": self._failed,
            "mean_w": self._millijoules / 1000 / length if length > 0 else None,
        }


def judge(tally: Json, rails: Sequence[str], period_ms: float, span: Span, method: str) -> Json:
    """Return the `energy` of a record from the summary of a tally. Pure."""
    slack = MAX_GAP_PERIODS * period_ms / 1000
    reason = ""
    if tally["failed"]:
        total = tally["failed"] + tally["samples"]
        reason = f"{tally['failed']} of {total} reads of {'+'.join(rails)} failed"
    elif tally["mean_w"] is None:
        reason = "the sensor was read only once"
    elif tally["gap_s"] > slack or tally["first_s"] - span.began_s > slack or span.ended_s - tally["last_s"] > slack:
        reason = f"the sensor was not read for more than {MAX_GAP_PERIODS} of its periods"
    elif tally["mean_w"] <= 0:
        reason = "the sensor says that no power flows"
    if reason:
        return unknown(reason, method, rails)
    return conclude(method, rails, float(tally["mean_w"]), period_ms, span)


class RailMeter:
    """Rails, sampled by a forked helper on other CPUs while it is asked to."""

    method = "rails"

    def __init__(self, rails: Sequence[Rail], period_ms: float, cpus: Sequence[int]) -> None:
        """Fork the helper. Raises `OSError`."""
        self._labels = [rail.label for rail in rails]
        self._period_ms = period_ms
        self._began = 0.0
        self._answers, answers = os.pipe()
        orders, self._orders = os.pipe()
        self._child = os.fork()
        if self._child == 0:
            try:
                _let_go_of_all_but(orders, answers)
                os.sched_setaffinity(0, cpus)
                serve(lambda: total_mw(rails), period_ms / 1000, orders, answers, time.monotonic)
            finally:
                os._exit(0)
        os.close(orders)
        os.close(answers)

    def start(self) -> None:
        """See `NoMeter.start`; returns when the first sample has been taken."""
        self._ask(b"s")
        self._began = time.monotonic()

    def stop(self, runs: int, busy_s: float) -> Json:
        """See `NoMeter.stop`."""
        span = Span(self._began, time.monotonic(), runs, busy_s)
        answer = self._ask(b"e")
        if not answer:
            return unknown("the process that reads the sensor has died", self.method, self._labels)
        return judge(json.loads(answer), self._labels, self._period_ms, span, self.method)

    def _ask(self, order: bytes) -> bytes:
        answer = b""
        try:
            os.write(self._orders, order)
            while not answer.endswith(b"\n"):
                piece = os.read(self._answers, 4096)
                if not piece:
                    return b""
                answer += piece
        except OSError:
            return b""
        return answer

    def close(self) -> None:
        """End the helper."""
        os.close(self._orders)
        os.close(self._answers)
        os.waitpid(self._child, 0)


def _let_go_of_all_but(*kept: int) -> None:
    """Close what the helper has inherited: it must not keep the worker's pipes open after the worker."""
    for descriptor in os.listdir("/proc/self/fd"):
        if int(descriptor) > 2 and int(descriptor) not in kept:
            with contextlib.suppress(OSError):  # the one that listed them is gone
                os.close(int(descriptor))


def serve(read: Reader, period_s: float, orders: int, answers: int, clock: Seconds) -> None:
    """Sample from `s` to `e` and answer with the tally, until the orders end."""
    while os.read(orders, 1) == b"s":
        tally = Tally()
        tally.add(clock(), read())
        os.write(answers, b"\n")
        due = clock()
        while True:
            due = max(due + period_s, clock())
            over = bool(select.select([orders], [], [], max(due - clock(), 0.0))[0])
            tally.add(clock(), read())
            if over:
                break
        if not os.read(orders, 1):
            return
        os.write(answers, json.dumps(tally.summary()).encode() + b"\n")


Meter = Union[NoMeter, CounterMeter, RailMeter]


def _chosen(rails: Sequence[Rail], profile: Profile) -> Union[List[Rail], str]:
    if not rails:
        return f"no power sensor of this board was found ({profile.name} has {', '.join(profile.rails)})"
    by_label = {rail.label: rail for rail in rails}
    missing = [label for label in profile.rails if label not in by_label]
    if missing:
        return f"the board has no rail {', '.join(missing)} (it has {', '.join(sorted(by_label))})"
    return [by_label[label] for label in profile.rails]


def open_meter(files: SysFiles, profile: Profile, cpus: Sequence[int]) -> Meter:
    """Return the meter that the board allows; call it before any import.

    Args:
        files: where the sensors are.
        profile: which rails there should be.
        cpus: that the trial leaves alone.
    """
    counters = find_counters(files)
    if counters:
        return CounterMeter(counters)
    rails = find_rails(files)
    if not profile.rails:
        if rails:
            labels = ", ".join(rail.label for rail in rails)
            return NoMeter(f"the profile {profile.name} does not say which of the rails {labels} make up the total")
        return NoMeter("no power sensor")
    chosen = _chosen(rails, profile)
    if isinstance(chosen, str):
        return NoMeter(chosen)
    if not cpus:
        return NoMeter("the trial uses all CPUs, none is left to read the power sensor: fewer threads")
    interval_ms = max([rail.interval_ms or profile.period_ms for rail in chosen])
    return RailMeter(chosen, max(float(interval_ms), MIN_SAMPLE_MS), cpus)
