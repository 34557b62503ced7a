"""The spec of a trial: what it may contain, checked before anything runs. Names the offending key when it refuses."""

from __future__ import annotations

from typing import Any, Dict, FrozenSet, List, Optional, Sequence, Tuple

from hwloop_agent.protocol import Json, artifact_name
from hwloop_agent.sensors.gate import Rule
from hwloop_agent.timing import TimingSpec

KEYS = frozenset(["artifact", "runtime", "options", "inputs", "threads", "timing", "replicate"])
# Absent unless they are asked for, so that the ids of trials without them stay what they are.
FLAGS = frozenset(["keep_outputs", "profile"])
OPTIONAL_KEYS = FLAGS | {"gate"}
INPUT_KEYS = frozenset(["name", "shape", "dtype", "distribution", "seed"])
DTYPES = ("float32", "float64", "float16", "int64", "int32", "int8", "uint8", "bool")
DISTRIBUTIONS = ("normal", "uniform", "integers")

MAX_SPEC_BYTES = 48 * 1024
MAX_THREADS = 1024
MAX_INPUTS = 64
MAX_RANK = 8
MAX_ELEMENTS = 1 << 28
MAX_ARTIFACT_BYTES = 1 << 31
MAX_SECONDS = 600.0
# A record holds every sample, and a record fits one line of the protocol.
MAX_BLOCKS = 20_000

TIMING_LIMITS: Dict[str, Tuple[float, float]] = {
    "warmup_s": (0, MAX_SECONDS),
    "warmup_runs": (1, 1_000_000),
    "min_s": (0, MAX_SECONDS),
    "max_s": (0, MAX_SECONDS),
    "min_blocks": (1, MAX_BLOCKS),
    "max_blocks": (1, MAX_BLOCKS),
    "block_us": (1, 1e8),
    "target_relative_interval": (0, 1),
    "confidence": (0.5, 0.9999),
}
GATE_LIMITS: Dict[str, Tuple[float, float]] = {"above_c": (0, 50), "timeout_s": (0, 300)}
WHOLE_TIMING = frozenset(["warmup_runs", "min_blocks", "max_blocks"])


class SpecError(ValueError):
    """A spec that the agent will not run; the text names the key and the limit."""


def _need(condition: bool, text: str) -> None:
    if not condition:
        raise SpecError(text)


def _whole(value: Any, low: int, high: int, key: str) -> int:
    _need(isinstance(value, int) and not isinstance(value, bool), f"{key} is a whole number")
    _need(low <= value <= high, f"{key} is between {low} and {high}")
    return int(value)


def _keys(value: Any, keys: Any, name: str, optional: FrozenSet[str] = frozenset()) -> None:
    _need(isinstance(value, dict), f"{name} is an object")
    also = ", and may have {}".format(" ".join(sorted(optional))) if optional else ""
    _need(set(value) - optional == set(keys), "{} has the keys {}{}".format(name, " ".join(sorted(keys)), also))


def check_timing(value: Any) -> TimingSpec:
    """Return the timing of a spec.

    Raises:
        SpecError: a key is missing, unknown or out of its limits.
    """
    _keys(value, TIMING_LIMITS, "timing")
    for key, (low, high) in TIMING_LIMITS.items():
        number = value[key]
        _need(isinstance(number, (int, float)) and not isinstance(number, bool), f"timing.{key} is a number")
        _need(key not in WHOLE_TIMING or isinstance(number, int), f"timing.{key} is a whole number")
        _need(low <= number <= high, f"timing.{key} is between {low:g} and {high:g}")
    _need(value["min_s"] <= value["max_s"], "timing.min_s is at most timing.max_s")
    _need(value["min_blocks"] <= value["max_blocks"], "timing.min_blocks is at most timing.max_blocks")
    return TimingSpec(**value)


def check_gate(value: Any) -> Rule:
    """Return the temperature gate of a spec.

    Raises:
        SpecError: a key is missing, unknown or out of its limits.
    """
    _keys(value, GATE_LIMITS, "gate")
    for key, (low, high) in GATE_LIMITS.items():
        number = value[key]
        _need(isinstance(number, (int, float)) and not isinstance(number, bool), f"gate.{key} is a number")
        _need(low <= number <= high, f"gate.{key} is between {low:g} and {high:g}")
    return Rule(**value)


def _check_input(value: Any, index: int) -> None:
    key = f"inputs[{index}]"
    _keys(value, INPUT_KEYS, key)
    _need(isinstance(value["name"], str) and 0 < len(value["name"]) <= 256, key + ".name is 1 to 256 characters")
    shape = value["shape"]
    _need(isinstance(shape, list) and len(shape) <= MAX_RANK, f"{key}.shape has at most {MAX_RANK} dimensions")
    elements = 1
    for size in shape:
        elements *= _whole(size, 1, MAX_ELEMENTS, key + ".shape")
    _need(elements <= MAX_ELEMENTS, f"{key} has at most {MAX_ELEMENTS} elements")
    _need(value["dtype"] in DTYPES, "{}.dtype is one of {}".format(key, " ".join(DTYPES)))
    _need(value["distribution"] in DISTRIBUTIONS, "{}.distribution is one of {}".format(key, " ".join(DISTRIBUTIONS)))
    _whole(value["seed"], 0, (1 << 32) - 1, key + ".seed")


def _check_options(options: Any) -> None:
    _need(isinstance(options, dict), "options is an object")
    for name, value in options.items():
        if name == "free_dimensions":
            _need(isinstance(value, dict), "options.free_dimensions is an object")
            for dimension, size in value.items():
                _whole(size, 1, MAX_ELEMENTS, "options.free_dimensions." + dimension)
        else:
            _need(isinstance(value, (str, int, float)), f"options.{name} is text, a number or a flag")


def check_spec(spec: Any, without_artifact: Sequence[str] = ()) -> Optional[str]:
    """Check a whole spec; return its artifact's file name, or None for a runtime that needs none.

    Raises:
        SpecError: the first thing that is wrong with it.
    """
    _keys(spec, KEYS, "spec", OPTIONAL_KEYS)
    for key in FLAGS & set(spec):
        _need(spec[key] is True, f"{key} is true or absent")
    if "gate" in spec:
        check_gate(spec["gate"])
    _need(isinstance(spec["runtime"], str) and 0 < len(spec["runtime"]) <= 64, "runtime is a name")
    _check_options(spec["options"])
    inputs: List[Json] = spec["inputs"]
    _need(isinstance(inputs, list) and len(inputs) <= MAX_INPUTS, f"inputs is a list of at most {MAX_INPUTS}")
    for index, one in enumerate(inputs):
        _check_input(one, index)
    _need(len({one["name"] for one in inputs}) == len(inputs), "inputs have different names")
    _whole(spec["threads"], 1, MAX_THREADS, "threads")
    _whole(spec["replicate"], 0, 1 << 31, "replicate")
    check_timing(spec["timing"])
    if spec["artifact"] is None:
        _need(spec["runtime"] in without_artifact, "artifact is needed by " + spec["runtime"])
        return None
    _keys(spec["artifact"], ("sha256", "suffix", "size"), "artifact")
    _whole(spec["artifact"]["size"], 0, MAX_ARTIFACT_BYTES, "artifact.size")
    try:
        return artifact_name(spec["artifact"]["sha256"], spec["artifact"]["suffix"])
    except ValueError as error:
        raise SpecError("artifact." + str(error)) from None
