"""When is a runtime warm, how many runs make one sample, when are there enough samples: decisions, and the thin loop.

The clock is passed in, so every decision is tested without waiting. All durations are nanoseconds.
"""

from __future__ import annotations

from itertools import repeat
from typing import Callable, List, NamedTuple, Optional, Sequence

from hwloop_agent import pace
from hwloop_agent.statistics import median, median_interval, quantile, relative_width

Clock = Callable[[], int]
Run = Callable[[], object]

NS_PER_S = 1_000_000_000

# Warm-up ends when the later half of it looks like the earlier half (psf/pyperf, test_calibrate_warmups: median and
# first quartile within 5 %; its third rule, MAD within 10 %, is left out: it was made for values of 100 ms and more,
# and blocks of 200 µs on a shared machine never meet it).
STEADY_TOLERANCE = 0.05
STEADY_MIN_BLOCKS = 6
STEADY_WINDOW = 200
# A runtime that never looks steady is measured anyway, and the record says `warmup_steady: false`.
WARMUP_CAP_FACTOR = 4
WARMUP_CAP_EXTRA_NS = 3 * NS_PER_S // 10
WARMUP_CAP_MIN_RUNS = 2

# The ceiling `max_s` wins over the floor `min_blocks`, but a median of fewer samples than this is not one.
ABSOLUTE_MIN_BLOCKS = 3
CHECK_GROWTH = 1.3
MAX_RUNS_PER_BLOCK = 1_000_000


class TimingSpec(NamedTuple):
    """The `timing` part of a trial's spec; `README.md` explains each field."""

    warmup_s: float
    warmup_runs: int
    min_s: float
    max_s: float
    min_blocks: int
    max_blocks: int
    block_us: float
    target_relative_interval: float
    confidence: float

    @property
    def block_ns(self) -> float:
        """The shortest block: long enough for the clock, and for `max_blocks` of them to last `min_s`."""
        return max(self.block_us * 1e3, self.min_s * NS_PER_S / self.max_blocks)

    @property
    def warmup_cap_ns(self) -> float:
        """When warm-up ends even though the runtime does not look steady."""
        return WARMUP_CAP_FACTOR * self.warmup_s * NS_PER_S + WARMUP_CAP_EXTRA_NS


class WarmUp(NamedTuple):
    """How the warm-up went: inferences run, whether they ended steady, and the block size found on the way."""

    runs: int
    steady: bool
    runs_per_block: int


class Samples(NamedTuple):
    """What the timed part saw.

    `samples_ns`: nanoseconds per inference of each block, in order; `canary_ns`: the canary before the first block and
    after each; `clean`: which blocks ran at the core's full pace, `pace_ns`; `stopped_by`: why there are no more.
    """

    samples_ns: List[float]
    canary_ns: List[int]
    clean: List[bool]
    pace_ns: float
    runs_per_block: int
    stopped_by: str

    @property
    def used_ns(self) -> List[float]:
        """The samples that the summary is made of: the clean ones, or all where too few are clean to have a median."""
        kept = [sample for sample, good in zip(self.samples_ns, self.clean) if good]
        return kept if len(kept) >= min(pace.MIN_CLEAN, len(self.samples_ns)) else list(self.samples_ns)


def runs_for(per_run_ns: float, block_ns: float) -> int:
    """Return how many runs of `per_run_ns` fill a block of at least `block_ns`."""
    if per_run_ns * MAX_RUNS_PER_BLOCK <= block_ns:
        return MAX_RUNS_PER_BLOCK
    runs = int(block_ns / per_run_ns)
    return max(1, runs if runs * per_run_ns >= block_ns else runs + 1)


def is_steady(samples: Sequence[float]) -> bool:
    """Say whether the later half of `samples` agrees with the earlier half in median and first quartile."""
    recent = samples[-STEADY_WINDOW:]
    if len(recent) < STEADY_MIN_BLOCKS:
        return False
    half = len(recent) // 2
    earlier, later = sorted(recent[:half]), sorted(recent[half:])
    for fraction in (0.5, 0.25):
        before, after = quantile(earlier, fraction), quantile(later, fraction)
        if abs(after - before) > STEADY_TOLERANCE * before:
            return False
    return True


def time_block(run: Run, runs: int, clock: Clock) -> int:
    """Return how long `runs` runs took. The loop is what a plain user's loop is, and nothing more."""
    start = clock()
    for _ in repeat(None, runs):
        run()
    return clock() - start


def warm_up(run: Run, spec: TimingSpec, clock: Clock) -> WarmUp:
    """Run until `warmup_s` *and* `warmup_runs` are reached and the samples are steady, or the cap is.

    The block grows on the way until one lasts `spec.block_ns`, as TVM's time_evaluator and pyperf calibrate theirs.
    """
    began = clock()
    done, runs = 0, 1
    samples: List[float] = []
    next_check = STEADY_MIN_BLOCKS
    while True:
        block = time_block(run, runs, clock)
        done += runs
        elapsed = clock() - began
        if block < spec.block_ns and runs < MAX_RUNS_PER_BLOCK:
            runs = min(max(runs_for(max(block, 1) / runs, spec.block_ns), runs + 1), 64 * runs, MAX_RUNS_PER_BLOCK)
            samples.clear()
            next_check = STEADY_MIN_BLOCKS
        else:
            samples.append(block / runs)
        steady = False
        if elapsed >= spec.warmup_s * NS_PER_S and done >= spec.warmup_runs and len(samples) >= next_check:
            steady = is_steady(samples)
            next_check = int(len(samples) * CHECK_GROWTH) + 1
        if steady or (elapsed >= spec.warmup_cap_ns and done >= WARMUP_CAP_MIN_RUNS):
            typical = median(samples[-STEADY_WINDOW:]) if samples else max(block, 1) / runs
            return WarmUp(done, steady, runs_for(typical, spec.block_ns))


class StopRule:
    """Decides after each block whether the timed part is over; asks for the interval only as the blocks grow in number.

    The interval is that of the clean blocks' median (see `pace`), and there must be `min_blocks` of them; the ceilings
    count all blocks.
    """

    def __init__(self, spec: TimingSpec, known_pace_ns: Optional[float] = None) -> None:
        self._spec = spec
        self._known_pace_ns = known_pace_ns
        self._min_ns = spec.min_s * NS_PER_S
        self._max_ns = spec.max_s * NS_PER_S
        self._next_check = min(max(spec.min_blocks, ABSOLUTE_MIN_BLOCKS), spec.max_blocks)

    def _is_narrow(self, samples: Sequence[float], canaries: Sequence[int]) -> bool:
        good = pace.clean_blocks(canaries, pace.pace_of(canaries, self._known_pace_ns))
        ordered = sorted(sample for sample, clean in zip(samples, good) if clean)
        if len(ordered) < max(self._spec.min_blocks, 2):
            return False
        interval = median_interval(ordered, self._spec.confidence)
        return relative_width(interval, quantile(ordered, 0.5)) <= self._spec.target_relative_interval

    def decide(self, samples: Sequence[float], canaries: Sequence[int], elapsed_ns: int) -> Optional[str]:
        """Return why to stop (`interval`, `max_s`, `max_blocks`), or None to go on."""
        n = len(samples)
        ceiling = "max_blocks" if n >= self._spec.max_blocks else ""
        if elapsed_ns >= self._max_ns and n >= min(ABSOLUTE_MIN_BLOCKS, self._spec.max_blocks):
            ceiling = ceiling or "max_s"
        if n < self._next_check and not ceiling:
            return None
        floors_met = elapsed_ns >= self._min_ns and n >= self._spec.min_blocks
        if floors_met and n >= 2 and self._is_narrow(samples, canaries):
            return "interval"
        if ceiling:
            return ceiling
        # Below the floors the check cost nothing, so look again soon; above them, when it can have changed.
        self._next_check = int(n * CHECK_GROWTH) + 1 if floors_met else n + 1 + n // 16
        return None


def measure(
    run: Run, runs_per_block: int, spec: TimingSpec, clock: Clock, known_pace_ns: Optional[float] = None
) -> Samples:
    """Time blocks of `runs_per_block` runs, a canary between them, until the stop rule says so.

    Garbage collection is the caller's to stop. `known_pace_ns` is the core's full pace as earlier trials found it.
    """
    rule = StopRule(spec, known_pace_ns)
    samples: List[float] = []
    began = clock()
    canaries = [pace.chunk(clock)]
    while True:
        start = clock()
        for _ in repeat(None, runs_per_block):
            run()
        end = clock()
        canaries.append(pace.chunk(clock))
        samples.append((end - start) / runs_per_block)
        stopped_by = rule.decide(samples, canaries, end - began)
        if stopped_by is not None:
            pace_ns = pace.pace_of(canaries, known_pace_ns)
            rounded = [round(sample, 1) for sample in samples]
            good = pace.clean_blocks(canaries, pace_ns)
            return Samples(rounded, canaries, good, pace_ns, runs_per_block, stopped_by)
