"""Runs under every Python from 3.8. Chunks are numbers; nothing spins."""

# Old Pythons have no pytest here, so these are unittest's assertions, and the code is what 3.8 can do.
# ruff: noqa: PT009, PTH118, PTH123

import os
import tempfile
import unittest

from hwloop_agent import pace
from hwloop_agent.pacebook import PaceBook


class PaceTest(unittest.TestCase):
    def test_the_pace_is_low_but_not_the_one_lucky_reading(self):
        self.assertEqual(pace.pace_of([50] + [100] * 99 + [180] * 100), 100)

    def test_what_is_known_from_before_counts_when_it_is_faster(self):
        self.assertEqual(pace.pace_of([100] * 10, 90), 90)
        self.assertEqual(pace.pace_of([100] * 10, 110), 100)

    def test_a_block_is_clean_when_both_its_neighbours_are(self):
        self.assertEqual(pace.clean_blocks([100, 105, 107, 100, 100], 100), [True, False, False, True])

    def test_the_search_ends_and_the_summary_has_its_numbers(self):
        now = [0]

        def clock():
            now[0] += 500_000
            return now[0]

        found = pace.summary(pace.search(clock))
        self.assertEqual((found["median_ns"], found["mad_ns"], found["pace_ns"]), (500_000, 0, 500_000))
        self.assertGreater(found["n"], 100)


class PaceBookTest(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.path = os.path.join(folder.name, "pace.json")

    def near(self, found, expected):
        self.assertLess(abs(found / expected - 1), 0.005)

    def test_the_pace_of_each_set_of_cpus_outlives_the_session(self):
        book = PaceBook(self.path, "boot", "python")
        self.assertIsNone(book.get([1]))
        for nanoseconds in (120.0, 100.0, 110.0):
            book.learn([1], nanoseconds)
        again = PaceBook(self.path, "boot", "python")
        self.near(again.get([1]), 100.0)
        self.assertIsNone(again.get([0, 1]))

    def test_one_fast_moment_among_many_trials_is_not_the_pace(self):
        book = PaceBook(self.path, "boot", "python")
        for nanoseconds in [100.0] * 30 + [90.0] + [180.0] * 60:
            book.learn([1], nanoseconds)
        self.near(book.get([1]), 100.0)

    def test_what_is_no_pace_is_not_counted(self):
        book = PaceBook(self.path, "boot", "python")
        for nanoseconds in (0.0, -1.0, float("nan")):
            book.learn([1], nanoseconds)
        self.assertIsNone(book.get([1]))

    def test_another_boot_or_interpreter_knows_nothing(self):
        PaceBook(self.path, "boot", "python").learn([1], 100.0)
        self.assertIsNone(PaceBook(self.path, "other", "python").get([1]))
        self.assertIsNone(PaceBook(self.path, "boot", "python3.8").get([1]))
        self.assertIsNone(PaceBook(self.path, None, "python").get([1]))

    def test_a_damaged_book_is_an_empty_one(self):
        counts = ("3", '{"x": 1}', '{"5": -1}', "{}")
        kept = '{"boot_id": "boot", "trials": {"python on 1": %s}}'
        for text in ("", "[]", '{"boot_id": "boot"}', "\x00", *[kept % each for each in counts]):
            with open(self.path, "w") as file:
                file.write(text)
            self.assertIsNone(PaceBook(self.path, "boot", "python").get([1]))

    def test_a_folder_that_cannot_be_written_costs_nothing(self):
        book = PaceBook(os.path.join(self.path, "missing", "pace.json"), "boot", "python")
        book.learn([1], 100.0)
        self.near(book.get([1]), 100.0)


if __name__ == "__main__":
    unittest.main()
