"""onnxruntime, driven exactly as a plain user drives it: `session.run(None, feed)`."""

from __future__ import annotations

import json
import os
from base64 import b64decode
from functools import partial
from typing import Any, Callable, Dict, Iterable, List, Tuple

from hwloop_agent.runtimes import InvalidArtifactError, Output, Runtime, UnsupportedError

LEVELS = {
    "all": "ORT_ENABLE_ALL",
    "extended": "ORT_ENABLE_EXTENDED",
    "basic": "ORT_ENABLE_BASIC",
    "disabled": "ORT_DISABLE_ALL",
}
OPTIONS = frozenset(["free_dimensions", "graph_optimization", "inter_op_threads", "providers"])
KERNEL = "_kernel_time"
PROFILE = "onnxruntime_profile"
# What the profile tells of a node's memory: sizes of its tensors; since 1.28 also how much of the arena was in use.
NODE_MEMORY = {
    "parameter_size": "parameter_bytes",
    "activation_size": "activation_bytes",
    "output_size": "output_bytes",
    "mem_bytes_in_use": "arena_bytes",
}
QUIET = 3  # errors only: version 1.23 prints a warning about device discovery on every board

# The smallest network that does arithmetic: a 1x1 convolution over four channels of 4x4, without a bias.
TINY_INPUT, TINY_SHAPE = "x", (1, 4, 4, 4)
TINY_MODEL = (
    "CAcSADqfAQoPCgF4CgF3EgF5IgRDb252EgFnKk8IBAgECAEIARABQgF3SkAAAAA/AAAAPwAAAD8AAAA/AAAAPwAAAD8AAAA/AAAAPwAAAD8AAAA/"
    "AAAAPwAAAD8AAAA/AAAAPwAAAD8AAAA/WhsKAXgSFgoUCAESEAoCCAEKAggECgIIBAoCCARiGwoBeRIWChQIARIQCgIIAQoCCAQKAggECgIIBEIE"
    "CgAQDQ=="
)


class OnnxRuntime(Runtime):
    """See `Runtime`.

    Options: `free_dimensions` (name → size, for symbolic dimensions), `graph_optimization` (`all`, the default,
    `extended`, `basic`, `disabled`), `inter_op_threads` (default 1), `providers` (default `CPUExecutionProvider`).
    """

    name = "onnxruntime"
    _profile_prefix = ""

    def prepare(self, options: Dict[str, Any]) -> None:
        """See `Runtime.prepare`."""
        unknown = sorted(set(options) - OPTIONS)
        if unknown:
            raise UnsupportedError("onnxruntime has no option " + ", ".join(unknown))

    def import_(self) -> None:
        """See `Runtime.import_`."""
        import onnxruntime

        # Not before onnxruntime: this imports numpy, whose import belongs to this phase too.
        from hwloop_agent.runtimes import inputs

        self._ort: Any = onnxruntime
        self._draw, self._describe = inputs.draw, inputs.describe

    def version(self) -> str:
        """See `Runtime.version`."""
        return str(self._ort.__version__)

    def about(self) -> Dict[str, Any]:
        """See `Runtime.about`."""
        return {"providers": self._ort.get_available_providers()}

    def try_out(self) -> bool:
        """See `Runtime.try_out`."""
        spec = {"name": TINY_INPUT, "shape": list(TINY_SHAPE), "dtype": "float32", "distribution": "normal", "seed": 0}
        settings = self._ort.SessionOptions()
        settings.intra_op_num_threads = 1
        settings.log_severity_level = QUIET
        session = self._ort.InferenceSession(b64decode(TINY_MODEL), settings, providers=["CPUExecutionProvider"])
        session.run(None, {TINY_INPUT: self._draw(spec)})
        return True

    def load(self, path: str, inputs: List[Dict[str, Any]], threads: int, options: Dict[str, Any]) -> None:
        """See `Runtime.load`."""
        level = options.get("graph_optimization", "all")
        if level not in LEVELS:
            raise UnsupportedError("graph_optimization is one of " + " ".join(sorted(LEVELS)))
        providers = options.get("providers", "CPUExecutionProvider").split(",")
        missing = sorted(set(providers) - set(self._ort.get_available_providers()))
        if missing:
            raise UnsupportedError("this onnxruntime has no " + ", ".join(missing))
        settings = self._ort.SessionOptions()
        settings.intra_op_num_threads = threads
        settings.inter_op_num_threads = options.get("inter_op_threads", 1)
        settings.execution_mode = self._ort.ExecutionMode.ORT_SEQUENTIAL
        settings.graph_optimization_level = getattr(self._ort.GraphOptimizationLevel, LEVELS[level])
        settings.log_severity_level = QUIET
        if self._profile_prefix:
            settings.enable_profiling = True
            settings.profile_file_prefix = self._profile_prefix
        for name, size in sorted(options.get("free_dimensions", {}).items()):
            settings.add_free_dimension_override_by_name(name, size)
        try:
            session = self._ort.InferenceSession(path, settings, providers=providers)
        except MemoryError:
            raise
        except Exception as error:
            _explain(error)
            raise
        self._settings = {
            "threads": threads,
            "intra_op_threads": threads,
            "inter_op_threads": settings.inter_op_num_threads,
            "execution_mode": "sequential",
            "graph_optimization": level,
            "providers": session.get_providers(),
            "free_dimensions": options.get("free_dimensions", {}),
            "allow_spinning": "default",
        }
        expected = {declared.name for declared in session.get_inputs()}
        given = {one["name"] for one in inputs}
        if expected != given:
            raise UnsupportedError(f"the model's inputs are {sorted(expected)}, the spec feeds {sorted(given)}")
        self._session = session
        self._feed = {one["name"]: self._draw(one) for one in inputs}

    def settings(self) -> Dict[str, Any]:
        """See `Runtime.settings`."""
        return self._settings

    def runner(self) -> Callable[[], object]:
        """See `Runtime.runner`."""
        return partial(self._session.run, None, self._feed)

    def outputs(self) -> List[Output]:
        """See `Runtime.outputs`."""
        names = [declared.name for declared in self._session.get_outputs()]
        values = self._session.run(None, self._feed)
        return [output for output in map(self._describe, names, values) if output is not None]

    def start_profile(self, folder: str) -> None:
        """See `Runtime.start_profile`; onnxruntime appends the time to the name of its file."""
        for left in os.listdir(folder):
            if left.startswith(PROFILE):  # by a process that was killed
                os.unlink(os.path.join(folder, left))
        self._profile_prefix = os.path.join(folder, PROFILE)

    def profile(self) -> Dict[str, Any]:
        """See `Runtime.profile`."""
        path = self._session.end_profiling()
        try:
            with open(path, encoding="utf-8", errors="replace") as file:
                found = read_profile(file)
        finally:
            os.unlink(path)
        found["method"] = "onnxruntime's profiler, mean of the faster half of the runs"
        return found


def read_profile(lines: Iterable[str]) -> Dict[str, Any]:
    """Return `runs` and `rows` of a profile, one event a line; a run that ends in the middle is left out.

    Times are whole microseconds, so a mean is taken, and of the faster half of the runs, which was not interrupted.
    """
    nodes: Dict[str, Dict[str, Any]] = {}
    runs: List[Tuple[int, Dict[str, int]]] = []
    now: Dict[str, int] = {}
    for line in lines:
        text = line.strip().rstrip(",")
        if not text.endswith("}"):
            continue
        event = json.loads(text)
        if event["cat"] == "Node" and event["name"].endswith(KERNEL):
            name, facts = event["name"][: -len(KERNEL)], event["args"]
            if name not in nodes:
                memory = {ours: int(facts[theirs]) for theirs, ours in NODE_MEMORY.items() if facts.get(theirs)}
                nodes[name] = {"name": name, "op": facts["op_name"], "calls": 0, "memory": memory}
            if not runs:
                nodes[name]["calls"] += 1
            now[name] = now.get(name, 0) + event["dur"]
        elif event["name"] == "model_run":
            runs.append((event["dur"], now))
            now = {}
    faster = sorted(runs, key=lambda run: run[0])[: (len(runs) + 1) // 2]
    for name, row in nodes.items():
        row["ns"] = round(1e3 * sum(run.get(name, 0) for _, run in faster) / max(len(faster), 1), 1)
    return {"runs": len(runs), "rows": list(nodes.values())}


def _explain(error: Exception) -> None:
    """Raise what a refusal to load means; return when the error tells nothing."""
    kind = type(error).__name__
    text = "{}: {}".format(kind, str(error).split("\n", 1)[0][:300])
    if kind in ("InvalidProtobuf", "NoSuchFile", "NoModel"):
        raise InvalidArtifactError(text) from error
    if kind in ("NotImplemented", "InvalidGraph", "InvalidArgument", "Fail"):
        raise UnsupportedError(text) from error
