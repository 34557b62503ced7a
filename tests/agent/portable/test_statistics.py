"""Runs under every Python from 3.8: standard library only."""

# Old Pythons have no pytest here, so these are unittest's assertions, and the code is what 3.8 can do.
# ruff: noqa: PT009, PT027

import math
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

    def test_the_places_of_the_interval_are_those_of_the_printed_tables(self):
        # Conover, table A3 (binomial, p = 1/2) read for 95 %; the n of the textbooks' examples.
        for n, low, high in ((6, 0, 5), (10, 1, 8), (16, 3, 12), (20, 5, 14), (40, 13, 26), (100, 39, 60)):
            self.assertEqual(statistics.interval_ranks(n, 0.95), (low, high))
        for n in (2, 3, 5):
            self.assertEqual(statistics.interval_ranks(n, 0.95), (0, n - 1))
        self.assertEqual(statistics.interval_ranks(20000, 0.95), (9860, 10139))

    def test_no_narrower_pair_holds_what_is_asked(self):
        for n in (7, 25, 64, 501):
            for confidence in (0.5, 0.9, 0.95, 0.99):
                low, high = statistics.interval_ranks(n, confidence)
                self.assertEqual(low + high, n - 1)
                chances = [math.factorial(n) // (math.factorial(k) * math.factorial(n - k)) for k in range(n + 1)]
                holds = sum(chances[low + 1 : high + 1]) / 2**n
                narrower = sum(chances[low + 2 : high]) / 2**n
                if low:  # the first and the last sample may hold less than is asked
                    self.assertGreaterEqual(holds, confidence)
                self.assertLess(narrower, confidence)

    def test_the_interval_covers_the_true_median_as_often_as_it_says(self):
        draw = random.Random(2)
        for n in (12, 101):
            covered = 0
            for _ in range(600):
                samples = sorted(draw.expovariate(1.0) for _ in range(n))
                interval = statistics.median_interval(samples, 0.95)
                covered += interval.low <= 0.693147 <= interval.high
            self.assertGreater(covered, 0.94 * 600)
            self.assertLess(covered, 0.99 * 600)

    def test_the_same_samples_give_the_same_interval(self):
        samples = [float(x) for x in range(30)]
        self.assertEqual(statistics.median_interval(samples), statistics.median_interval(samples))
        self.assertEqual(statistics.median_interval([5.0]), (5.0, 5.0))


if __name__ == "__main__":
    unittest.main()
