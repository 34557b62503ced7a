"""Runs under every Python from 3.8: standard library only."""

# Old Pythons have no pytest here, so these are unittest's assertions, and the code is what 3.8 can do.
# ruff: noqa: PT009, PT027

import random
import unittest

from hwloop_agent import statistics


class StatisticsTest(unittest.TestCase):
    def test_quantiles_interpolate_between_neighbours(self):
        self.assertEqual(statistics.quantile([1.0, 2.0, 3.0, 4.0], 0.5), 2.5)
        self.assertEqual(statistics.quantile([1.0, 2.0, 4.0], 1.0), 4.0)
        self.assertEqual(statistics.quantile([7.0], 0.9), 7.0)
        with self.assertRaises(ValueError):
            statistics.quantile([], 0.5)

    def test_the_mad_ignores_one_wild_sample(self):
        self.assertEqual(statistics.mad([1.0, 1.0, 2.0, 2.0, 4.0, 6.0, 9.0]), 1.0)
        self.assertEqual(statistics.mad([1.0, 1.0, 2.0, 2.0, 4.0, 6.0, 9e9]), 1.0)

    def test_p90_is_withheld_below_its_floor(self):
        self.assertIsNone(statistics.summarize([1.0] * 63).p90)
        self.assertEqual(statistics.summarize([1.0] * 64).p90, 1.0)

    def test_the_interval_agrees_with_resampling_done_the_long_way(self):
        draw = random.Random(1)
        for n in (9, 40, 41):
            samples = sorted(draw.lognormvariate(0, 0.5) for _ in range(n))
            medians = sorted(statistics.median([draw.choice(samples) for _ in range(n)]) for _ in range(20000))
            low, high = statistics.quantile(medians, 0.025), statistics.quantile(medians, 0.975)
            found = statistics.median_interval(samples, 0.95)
            spread = samples[-1] - samples[0]
            self.assertLess(abs(found.low - low), 0.05 * spread)
            self.assertLess(abs(found.high - high), 0.05 * spread)

    def test_the_interval_covers_the_true_median_about_as_often_as_it_says(self):
        draw = random.Random(2)
        covered = 0
        for _ in range(300):
            samples = sorted(draw.expovariate(1.0) for _ in range(101))
            interval = statistics.median_interval(samples, 0.95)
            covered += interval.low <= 0.693147 <= interval.high
        self.assertGreater(covered, 0.90 * 300)
        self.assertLess(covered, 0.99 * 300)

    def test_the_same_samples_give_the_same_interval(self):
        samples = [float(x) for x in range(30)]
        self.assertEqual(statistics.median_interval(samples), statistics.median_interval(samples))
        self.assertEqual(statistics.median_interval([5.0]), (5.0, 5.0))


if __name__ == "__main__":
    unittest.main()
