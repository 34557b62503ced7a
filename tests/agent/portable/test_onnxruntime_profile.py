"""Runs under every Python from 3.8: standard library only."""

# Old Pythons have no pytest here, so these are unittest's assertions, and the code is what 3.8 can do.
# ruff: noqa: PT009

import json
import unittest

from hwloop_agent.runtimes.onnxruntime_runtime import read_profile


def node(name, duration, **facts):
    args = {"op_name": "Conv", "output_size": "40", "parameter_size": "0", **facts}
    return {"cat": "Node", "name": name + "_kernel_time", "dur": duration, "ts": 0, "args": args}


def run(duration):
    return {"cat": "Session", "name": "model_run", "dur": duration, "ts": 0, "args": {}}


def lines(*events):
    """As onnxruntime writes them: a list with one event a line."""
    return ["[\n", *(json.dumps(event) + ",\n" for event in events[:-1]), json.dumps(events[-1]) + "\n", "]\n"]


class ReadProfileTest(unittest.TestCase):
    def test_a_row_is_the_mean_of_the_faster_half_of_the_runs(self):
        found = read_profile(
            lines(
                {"cat": "Session", "name": "session_initialization", "dur": 900, "ts": 0, "args": {}},
                *(node("a", 10), node("b", 4), run(20)),
                *(node("a", 13), node("b", 5), run(22)),
                *(node("a", 500), node("b", 90), run(700)),  # interrupted
                *(node("a", 700), node("b", 90), run(900)),
            )
        )
        self.assertEqual(found["runs"], 4)
        self.assertEqual(
            [(row["name"], row["ns"], row["calls"]) for row in found["rows"]], [("a", 11500, 1), ("b", 4500, 1)]
        )

    def test_a_run_that_ends_in_the_middle_is_left_out(self):
        found = read_profile([*lines(node("a", 10), run(20)), json.dumps(node("a", 99)) + ",\n", '{"cat": "Node", "na'])
        self.assertEqual((found["runs"], found["rows"][0]["ns"]), (1, 10000))

    def test_calls_of_one_node_are_added_within_a_run(self):
        found = read_profile(lines(node("body", 3), node("body", 4), run(9), node("body", 5), node("body", 6), run(12)))
        self.assertEqual((found["rows"][0]["calls"], found["rows"][0]["ns"]), (2, 7000))

    def test_memory_is_that_of_the_first_run_and_only_what_this_version_tells(self):
        new = read_profile(
            lines(node("a", 1, mem_bytes_in_use="500"), run(2), node("a", 1, mem_bytes_in_use="9"), run(2))
        )
        self.assertEqual(new["rows"][0]["memory"], {"output_bytes": 40, "parameter_bytes": 0, "arena_bytes": 500})
        old = read_profile(lines(node("a", 1), run(2)))
        self.assertEqual(old["rows"][0]["memory"], {"output_bytes": 40, "parameter_bytes": 0})

    def test_a_profile_without_a_run_has_no_rows_to_believe(self):
        self.assertEqual(read_profile(["[\n", "]\n"]), {"runs": 0, "rows": []})
