"""Runs under every Python from 3.8. The clock is a number that the fake runtime moves; nothing waits."""

# Old Pythons have no pytest here, so these are unittest's assertions, and the code is what 3.8 can do.
# ruff: noqa: PT009

import unittest

from hwloop_agent import pace, timing
from hwloop_agent.statistics import median

SPEC = timing.TimingSpec(
    warmup_s=0.5,
    warmup_runs=5,
    min_s=0.5,
    max_s=3.0,
    min_blocks=15,
    max_blocks=2000,
    block_us=200,
    target_relative_interval=0.02,
    confidence=0.95,
)


class Fake:
    """A runtime whose i-th run takes `duration(i)` nanoseconds of its own clock."""

    def __init__(self, duration):
        self.now = 1000
        self.runs = 0
        self._duration = duration

    def run(self):
        self.now += int(self._duration(self.runs))
        self.runs += 1

    def clock(self):
        self.now += 40  # what asking the time costs
        return self.now


class WarmUpTest(unittest.TestCase):
    def test_a_steady_runtime_is_warm_when_both_floors_are_met(self):
        fake = Fake(lambda i: 1_000_000)
        warm = timing.warm_up(fake.run, SPEC, fake.clock)
        self.assertTrue(warm.steady)
        self.assertEqual(warm.runs, 500)
        self.assertEqual(warm.runs_per_block, 1)

    def test_few_slow_runs_satisfy_the_time_but_not_the_count(self):
        fake = Fake(lambda i: 200_000_000)
        warm = timing.warm_up(fake.run, SPEC, fake.clock)
        self.assertGreaterEqual(warm.runs, 5)

    def test_a_runtime_that_speeds_up_is_warmed_longer(self):
        fake = Fake(lambda i: 3_000_000 if i < 100 else 1_000_000)
        warm = timing.warm_up(fake.run, SPEC, fake.clock)
        self.assertTrue(warm.steady)
        self.assertGreater(warm.runs, 250)

    def test_one_that_never_settles_is_measured_anyway_and_says_so(self):
        fake = Fake(lambda i: 1_000_000 * (1 + i / 100))
        warm = timing.warm_up(fake.run, SPEC, fake.clock)
        self.assertFalse(warm.steady)
        self.assertLess(fake.now, 2 * SPEC.warmup_cap_ns)

    def test_an_inference_longer_than_the_cap_runs_twice(self):
        fake = Fake(lambda i: 10_000_000_000)
        self.assertEqual(timing.warm_up(fake.run, SPEC, fake.clock).runs, 2)

    def test_fast_runs_are_bundled_into_blocks_of_the_asked_length(self):
        spec = SPEC._replace(warmup_s=0.001)
        for duration in (10, 90, 1000, 30_000, 199_999):
            fake = Fake(lambda i, duration=duration: duration)
            warm = timing.warm_up(fake.run, spec, fake.clock)
            self.assertGreaterEqual(warm.runs_per_block * (duration + 41), SPEC.block_ns)
            self.assertTrue(warm.steady)

    def test_no_warm_up_still_finds_the_block(self):
        fake = Fake(lambda i: 10_000)
        warm = timing.warm_up(fake.run, SPEC._replace(warmup_s=0.0, warmup_runs=1), fake.clock)
        self.assertEqual(warm.runs_per_block, 25)

    def test_blocks_are_long_enough_for_their_greatest_number_to_last_the_floor(self):
        self.assertEqual(SPEC.block_ns, 250_000)
        self.assertEqual(SPEC._replace(min_s=0.1).block_ns, 200_000)


class StopTest(unittest.TestCase):
    def measure(self, duration, spec=SPEC, runs=1):
        fake = Fake(duration)
        return timing.measure(fake.run, runs, spec, fake.clock), fake

    def test_a_quiet_runtime_stops_at_the_floor_of_time(self):
        found, fake = self.measure(lambda i: 1_000_000)
        self.assertEqual(found.stopped_by, "interval")
        self.assertGreaterEqual(fake.now, 0.5e9)
        self.assertLess(fake.now, 0.7e9)

    def test_a_slow_one_stops_at_the_floor_of_blocks(self):
        found, _ = self.measure(lambda i: 100_000_000)
        self.assertEqual((found.stopped_by, len(found.samples_ns)), ("interval", 15))

    def test_a_noisy_one_stops_at_the_ceiling_of_time(self):
        found, fake = self.measure(lambda i: 30_000_000 * (1 + (i * 7919 % 13)))
        self.assertEqual(found.stopped_by, "max_s")
        self.assertGreaterEqual(fake.now, 3e9)

    def test_a_noisy_fast_one_stops_at_the_ceiling_of_blocks(self):
        found, _ = self.measure(lambda i: 400_000 if i % 2 else 300_000, SPEC._replace(max_blocks=40, min_s=0.0))
        self.assertEqual((found.stopped_by, len(found.samples_ns)), ("max_blocks", 40))

    def test_the_ceiling_of_time_wins_over_the_floor_of_blocks_but_leaves_a_median(self):
        found, _ = self.measure(lambda i: 5_000_000_000)
        self.assertEqual((found.stopped_by, len(found.samples_ns)), ("max_s", 3))

    def test_a_narrow_interval_at_the_greatest_number_of_blocks_counts_as_the_interval(self):
        spec = SPEC._replace(max_blocks=20, min_blocks=15, min_s=0.0)
        found, _ = self.measure(lambda i: 1_000_000, spec)
        self.assertEqual(found.stopped_by, "interval")

    def test_samples_are_per_inference_whatever_the_block(self):
        found, _ = self.measure(lambda i: 10_000, runs=30)
        self.assertTrue(all(abs(sample - 10_000) < 3 for sample in found.samples_ns))
        self.assertEqual(found.runs_per_block, 30)

    def test_the_interval_is_asked_for_rarely(self):
        asked = []
        rule = timing.StopRule(SPEC)
        original = rule._is_narrow
        rule._is_narrow = lambda samples, canaries: asked.append(len(samples)) or original(samples, canaries)
        samples, canaries = [], [100]
        for i in range(1999):
            samples.append(float(1 + i % 50))
            canaries.append(100)
            self.assertIsNone(rule.decide(samples, canaries, 1_000_000_000))
        self.assertLess(len(asked), 25)


class PaceTest(unittest.TestCase):
    """A core that is shared most of the time: everything on it, the canary too, takes twice as long then."""

    def measure(self, slow_ms, period_ms, known_pace_ns=None):
        now = [0]

        def spend(nanoseconds):
            while nanoseconds > 0:
                shared = now[0] // 1_000_000 % period_ms < slow_ms
                step = min(nanoseconds * (2 if shared else 1), 10_000)
                now[0] += step
                nanoseconds -= step / (2 if shared else 1)

        original = pace.spin
        pace.spin = lambda rounds=pace.ROUNDS: spend(100 * rounds)
        try:
            found = timing.measure(lambda: spend(1_000_000), 1, SPEC, lambda: int(now[0]), known_pace_ns)
        finally:
            pace.spin = original
        return found

    def test_the_clean_median_is_that_of_the_free_core(self):
        found = self.measure(slow_ms=40, period_ms=50)
        self.assertEqual(found.stopped_by, "interval")
        self.assertLess(abs(median(found.used_ns) - 1_000_000), 20_000)
        self.assertGreater(median(found.samples_ns), 1_500_000)
        self.assertEqual(len(found.canary_ns), len(found.samples_ns) + 1)
        self.assertEqual(len(found.clean), len(found.samples_ns))

    def test_a_core_that_is_never_free_is_known_by_the_pace_of_earlier_trials(self):
        found = self.measure(slow_ms=50, period_ms=50, known_pace_ns=100_000)
        self.assertEqual(found.stopped_by, "max_s")
        self.assertEqual(sum(found.clean), 0)
        self.assertEqual(found.used_ns, found.samples_ns)


class ColdCanaryTest(unittest.TestCase):
    """A large network leaves the canary's code out of the caches: its first rounds after a block take longer."""

    def test_a_cold_start_of_the_canary_makes_no_block_doubtful(self):
        now, cold_rounds = [0], [0]

        def run():
            now[0] += 1_000_000
            cold_rounds[0] = 10

        def spin(rounds=pace.ROUNDS):
            slow = min(rounds, cold_rounds[0])
            cold_rounds[0] -= slow
            now[0] += 100 * rounds + 2_000 * slow

        original, pace.spin = pace.spin, spin
        try:
            found = timing.measure(run, 1, SPEC, lambda: now[0], known_pace_ns=100_000)
        finally:
            pace.spin = original
        self.assertTrue(all(found.clean))


class BlockTest(unittest.TestCase):
    def test_runs_for_never_falls_short(self):
        for per_run in (0.0, 0.001, 1, 3, 333, 1e5, 1e9):
            runs = timing.runs_for(per_run, 200_000)
            self.assertTrue(runs * per_run >= 200_000 or runs == timing.MAX_RUNS_PER_BLOCK)

    def test_steady_needs_samples_and_agreement(self):
        self.assertFalse(timing.is_steady([1.0] * 5))
        self.assertTrue(timing.is_steady([1.0] * 6))
        self.assertFalse(timing.is_steady([1.0] * 10 + [1.1] * 10))
        self.assertTrue(timing.is_steady([100.0] * 50 + [1.0] * 400))


if __name__ == "__main__":
    unittest.main()
