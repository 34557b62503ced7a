"""Runs under every Python from 3.8: standard library only."""

# Old Pythons have no pytest here, so these are unittest's assertions, and the code is what 3.8 can do.
# ruff: noqa: PT009, PT027

import copy
import unittest

from hwloop_agent.spec import SpecError, check_spec
from hwloop_agent.trialrecord import Start, build_record, verdict
from hwloop_agent.workerprocess import Exit, signal_name, worker_environment

GOOD = {
    "artifact": {"sha256": "a" * 64, "suffix": ".onnx", "size": 3},
    "runtime": "onnxruntime",
    "options": {"free_dimensions": {"batch": 1}, "graph_optimization": "all"},
    "inputs": [{"name": "x", "shape": [1, 3], "dtype": "float32", "distribution": "normal", "seed": 0}],
    "threads": 1,
    "timing": {
        "warmup_s": 0.5,
        "warmup_runs": 5,
        "min_s": 0.5,
        "max_s": 3.0,
        "min_blocks": 15,
        "max_blocks": 2000,
        "block_us": 200,
        "target_relative_interval": 0.02,
        "confidence": 0.95,
    },
    "replicate": 0,
}


class SpecTest(unittest.TestCase):
    def refused(self, *path_and_value):
        spec = copy.deepcopy(GOOD)
        target = spec
        *path, key, value = path_and_value
        for step in path:
            target = target[step]
        target[key] = value
        with self.assertRaises(SpecError) as caught:
            check_spec(spec)
        return str(caught.exception)

    def test_a_good_spec_names_its_artifact(self):
        self.assertEqual(check_spec(GOOD), "a" * 64 + ".onnx")

    def test_what_is_optional_is_asked_for_or_absent(self):
        for key in ("profile", "keep_outputs"):
            self.assertEqual(check_spec(dict(GOOD, **{key: True})), "a" * 64 + ".onnx")
            self.assertIn(key, self.refused(key, False))
            self.assertIn(key, self.refused(key, "yes"))

    def test_only_a_trial_that_asked_for_a_profile_has_one_in_its_record(self):
        parts = {"profile": {"rows": []}}
        outcome = {"status": "ok", "reasons": []}
        plain = build_record(Start("id", GOOD, "now", None), parts, outcome, None)
        self.assertNotIn("profile", plain)
        asked = Start("id", dict(GOOD, profile=True), "now", None)
        self.assertEqual(build_record(asked, parts, outcome, None)["profile"], {"rows": []})
        self.assertIsNone(build_record(asked, {}, outcome, None)["profile"])

    def test_what_is_wrong_is_named(self):
        self.assertIn("keys", self.refused("surprise", 1))
        self.assertIn("sha256", self.refused("artifact", "sha256", "../../etc/passwd"))
        self.assertIn("suffix", self.refused("artifact", "suffix", "/../x"))
        self.assertIn("artifact", self.refused("artifact", None))
        self.assertIn("runtime", self.refused("runtime", ""))
        self.assertIn("options.x", self.refused("options", "x", [1]))
        self.assertIn("free_dimensions.batch", self.refused("options", "free_dimensions", "batch", 0))
        self.assertIn("inputs[0].shape", self.refused("inputs", 0, "shape", [1, -3]))
        self.assertIn("elements", self.refused("inputs", 0, "shape", [1 << 20, 1 << 20]))
        self.assertIn("inputs[0].dtype", self.refused("inputs", 0, "dtype", "object"))
        self.assertIn("inputs[0].distribution", self.refused("inputs", 0, "distribution", "zeros"))
        self.assertIn("inputs[0].seed", self.refused("inputs", 0, "seed", -1))
        self.assertIn("different names", self.refused("inputs", GOOD["inputs"] * 2))
        self.assertIn("threads", self.refused("threads", 0))
        self.assertIn("threads", self.refused("threads", True))
        self.assertIn("timing.max_s", self.refused("timing", "max_s", 1e9))
        self.assertIn("timing.min_s", self.refused("timing", "min_s", 4.0))
        self.assertIn("timing.warmup_runs", self.refused("timing", "warmup_runs", 2.5))
        self.assertIn("timing.max_blocks", self.refused("timing", "max_blocks", 10**6))
        self.assertIn("replicate", self.refused("replicate", -1))

    def test_only_named_runtimes_go_without_an_artifact(self):
        spec = dict(GOOD, artifact=None, runtime="null")
        self.assertIsNone(check_spec(spec, ["null"]))
        with self.assertRaises(SpecError):
            check_spec(spec)


class VerdictTest(unittest.TestCase):
    def verdict(self, result=None, signal=None, code=None, asked="", oom=False):
        return verdict(result, Exit(signal, code, asked), "loading", ["fault"], oom)["status"]

    def test_every_way_to_end_has_its_status(self):
        self.assertEqual(self.verdict(signal="SIGSEGV"), "crashed")
        self.assertEqual(self.verdict(code=3), "crashed")
        self.assertEqual(self.verdict(code=0), "crashed")
        self.assertEqual(self.verdict(signal="SIGKILL"), "crashed")
        self.assertEqual(self.verdict(signal="SIGKILL", oom=True), "oom")
        self.assertEqual(self.verdict(signal="SIGSEGV", oom=True), "crashed")
        self.assertEqual(self.verdict(signal="SIGKILL", asked="timeout", oom=True), "timeout")
        self.assertEqual(self.verdict(signal="SIGTERM", asked="cancelled"), "cancelled")

    def test_what_the_worker_concluded_holds_whatever_happened_on_its_way_out(self):
        done = {"status": "ok", "reasons": []}
        self.assertEqual(self.verdict(done, signal="SIGSEGV"), "ok")
        self.assertEqual(self.verdict(done, signal="SIGTERM", asked="cancelled"), "ok")

    def test_a_record_has_every_field_however_little_is_known(self):
        record = build_record(Start("id", GOOD, "now", None), {}, {"status": "crashed", "reasons": ["x"]}, None)
        for name in ("latency", "memory", "conditions", "phases_s", "signal", "exit_code", "clock_synced"):
            self.assertIsNone(record[name])
        self.assertEqual(record["runtime"], {"name": "onnxruntime", "version": None, "installed": None})

    def test_signals_have_names(self):
        self.assertEqual(signal_name(4), "SIGILL")
        self.assertEqual(signal_name(40), "SIG40")

    def test_hidden_settings_do_not_reach_a_worker(self):
        given = {"PATH": "/bin", "OMP_WAIT_POLICY": "active", "MALLOC_ARENA_MAX": "1", "PYTHONPATH": "/evil"}
        kept = worker_environment(given, 2)
        self.assertEqual(kept["PATH"], "/bin")
        self.assertEqual(kept["OMP_NUM_THREADS"], "2")
        self.assertFalse({"OMP_WAIT_POLICY", "MALLOC_ARENA_MAX", "PYTHONPATH"} & set(kept))


if __name__ == "__main__":
    unittest.main()
