"""LiteRT, once TensorFlow Lite, on the CPU, driven exactly as a plain user drives it: `interpreter.invoke()`.

Three packages hold the same interpreter; the first of `PACKAGES` that imports is taken, and named in the version.
"""

from __future__ import annotations

import sys
from base64 import b64decode
from collections import Counter
from importlib import import_module
from typing import Any, Callable, Dict, List, NoReturn, Tuple

from hwloop_agent.runtimes import InvalidArtifactError, Output, Runtime, UnsupportedError

# Top-level package and the module with `Interpreter` and `OpResolverType`.
PACKAGES = (
    ("ai_edge_litert", "ai_edge_litert.interpreter"),
    ("tflite_runtime", "tflite_runtime.interpreter"),
    ("tensorflow", "tensorflow.lite.python.interpreter"),
)
RESOLVERS = {"default": "AUTO", "off": "BUILTIN_WITHOUT_DEFAULT_DELEGATES"}
OPTIONS = frozenset(["xnnpack", "precision"])
DELEGATE = "DELEGATE"
# The smallest values and the largest that quantised inputs can have.
LIMITS = {"int8": (-128, 127), "uint8": (0, 255), "int16": (-32768, 32767)}
# The smallest network that does arithmetic: a 1x1 convolution over four channels of 4x4.
TINY_INPUT = {"name": "x", "shape": [1, 4, 4, 4], "dtype": "float32", "distribution": "normal", "seed": 0}
TINY_MODEL = (
    "DAAAAFRGTDMAAAAANv///xQAAACsAAAAtAAAAGQCAAADAAAAAwAAAJQAAAA4AAAABAAAANb///8EAAAAEAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
    "AAAAAAAAAAAAAAYACAAEAAYAAAAEAAAAQAAAAAAAAD8AAAA/AAAAPwAAAD8AAAA/AAAAPwAAAD8AAAA/AAAAPwAAAD8AAAA/AAAAPwAAAD8AAAA/"
    "AAAAPwAAAD8AAAAAAAAAAAQABAAEAAAABgAAAGh3bG9vcAAAAQAAABQAAAAAAA4AGAAUABAADAAIAAQADgAAABQAAAAcAAAAeAAAAHwAAACAAAAA"
    "BQAAAGxheWVyAAAAAQAAABQAAAAAAA4AFgAAABAADAALAAQADgAAABwAAAAAAAABJAAAACgAAAAAAAoAEAAPAAgABAAKAAAAAQAAAAEAAAAAAAAB"
    "AQAAAAMAAAADAAAAAAAAAAEAAAACAAAAAQAAAAMAAAABAAAAAAAAAAQAAADYAAAAhAAAADwAAAAEAAAATv///wAAAAEIAAAAFAAAAAgAAAB0ZW5z"
    "b3JfMAAAAAAEAAAAAQAAAAQAAAAEAAAABAAAANL///8AAAABDAAAAAIAAAAUAAAACgAAAGNvbnN0YW50XzIAAAEAAAAEAAAAAAAWABQAEAAAAAwA"
    "CAAAAAAAAAAAAAcAFgAAAAAAAAEMAAAAAQAAABQAAAAKAAAAY29uc3RhbnRfMQAABAAAAAQAAAABAAAAAQAAAAQAAAAAABYAEAAMAAAAAAAIAAAA"
    "AAAAAAAABwAWAAAAAAAAAQgAAAAMAAAAAQAAAHgAAAAEAAAAAQAAAAQAAAAEAAAABAAAAAEAAAAQAAAADAAMAAsAAAAAAAQADAAAAAMAAAAAAAAD"
)
DAMAGED_TEXTS = ("not a valid flatbuffer", "model identifier", "could not open", "mapping file", "model is empty")


class LiteRtRuntime(Runtime):
    """See `Runtime`.

    Options: `xnnpack` (`default`: the package's default delegates, which is XNNPACK where the build has it; `off`:
    TensorFlow Lite's own kernels), `precision` (of the model, for the record).

    Quantised inputs are fed the real numbers that the spec describes, quantised as the model says; quantised outputs
    are described as the real numbers that they stand for.
    """

    name = "litert"

    def prepare(self, options: Dict[str, Any]) -> None:
        """See `Runtime.prepare`."""
        unknown = sorted(set(options) - OPTIONS)
        if unknown:
            raise UnsupportedError("litert has no option " + ", ".join(unknown))
        if options.get("xnnpack", "default") not in RESOLVERS:
            raise UnsupportedError("xnnpack is one of " + " ".join(sorted(RESOLVERS)))

    def import_(self) -> None:
        """See `Runtime.import_`; a package that is installed and fails to import is passed over, and recorded."""
        self._package, self._module, self._passed_over = import_first(PACKAGES)

        # Not before the runtime: this imports numpy, whose import belongs to this phase too.
        from hwloop_agent.runtimes import inputs

        self._draw, self._describe = inputs.draw, inputs.describe

    def version(self) -> str:
        """See `Runtime.version`; with the package, since their numbers are not comparable: "ai_edge_litert 2.3.0"."""
        return "{} {}".format(self._package, getattr(sys.modules[self._package], "__version__", "unknown"))

    def try_out(self) -> bool:
        """See `Runtime.try_out`."""
        interpreter = self._module.Interpreter(model_content=b64decode(TINY_MODEL), num_threads=1)
        interpreter.allocate_tensors()
        interpreter.set_tensor(interpreter.get_input_details()[0]["index"], self._draw(TINY_INPUT))
        interpreter.invoke()
        return True

    def load(self, path: str, inputs: List[Dict[str, Any]], threads: int, options: Dict[str, Any]) -> None:
        """See `Runtime.load`."""
        xnnpack = options.get("xnnpack", "default")
        resolver = getattr(self._module.OpResolverType, RESOLVERS[xnnpack], None)
        if resolver is None:
            raise UnsupportedError(f"{self.version()} cannot have xnnpack {xnnpack}")
        try:
            interpreter = self._module.Interpreter(
                model_path=path, num_threads=threads, experimental_op_resolver_type=resolver
            )
            interpreter.allocate_tensors()
        except (ValueError, RuntimeError) as error:
            _explain(error)
        declared = {one["name"]: one for one in interpreter.get_input_details()}
        given = {one["name"]: one for one in inputs}
        if set(declared) != set(given):
            raise UnsupportedError(f"the model's inputs are {sorted(declared)}, the spec feeds {sorted(given)}")
        for name, tensor in declared.items():
            real = is_quantised(tensor) and given[name]["dtype"] == "float32"
            wanted = (tensor["shape"].tolist(), "float32" if real else tensor["dtype"].__name__)
            fed = (list(given[name]["shape"]), given[name]["dtype"])
            if wanted != fed:
                raise UnsupportedError("input {} is {} {}, the spec feeds {} {}".format(name, *wanted, *fed))
            values = self._draw(given[name])
            interpreter.set_tensor(tensor["index"], quantised(values, tensor) if real else values)
        self._interpreter = interpreter
        self._settings = {
            "package": self._package,
            "passed_over": self._passed_over,
            "threads": threads,
            "xnnpack": xnnpack,
            "precision": options.get("precision", "float32"),
            **_executed(interpreter, xnnpack),
        }

    def settings(self) -> Dict[str, Any]:
        """See `Runtime.settings`; `delegated` is described at `coverage`."""
        return self._settings

    def runner(self) -> Callable[[], object]:
        """See `Runtime.runner`; the inputs stay set, since the interpreter never writes over them."""
        invoke: Callable[[], object] = self._interpreter.invoke
        return invoke

    def outputs(self) -> List[Output]:
        """See `Runtime.outputs`."""
        self._interpreter.invoke()
        tensors = self._interpreter.get_output_details()
        values = [(one["name"], real_numbers(self._interpreter.get_tensor(one["index"]), one)) for one in tensors]
        return [output for output in (self._describe(name, value) for name, value in values) if output is not None]

    def memory_stats(self) -> Dict[str, Any]:
        """See `Runtime.memory_stats`: where the tensors lie that the interpreter itself planned."""
        return planned(self._interpreter)

    def start_profile(self, folder: str) -> None:
        """See `Runtime.start_profile`."""
        raise UnsupportedError("litert has no profiler of operators in its Python packages")


def is_quantised(tensor: Dict[str, Any]) -> bool:
    """Return whether a tensor holds integers that stand for real numbers, with one scale for all."""
    return bool(tensor["quantization"][0]) and tensor["dtype"].__name__ in LIMITS


def quantised(values: Any, tensor: Dict[str, Any]) -> Any:
    """Return real numbers as the integers that stand for them in `tensor`."""
    scale, zero = tensor["quantization"]
    low, high = LIMITS[tensor["dtype"].__name__]
    return (values / scale + zero).round().clip(low, high).astype(tensor["dtype"])


def real_numbers(values: Any, tensor: Dict[str, Any]) -> Any:
    """Return the real numbers that the integers of a quantised tensor stand for; other values as they are."""
    if not is_quantised(tensor):
        return values
    scale, zero = tensor["quantization"]
    return (values.astype("float32") - zero) * scale


def planned(interpreter: Any) -> Dict[str, Any]:
    """Return the bytes of the interpreter's arena, constants and scratch tensors; {} where it does not tell.

    The arena is as large as the stretch of memory between its first tensor's begin and its last tensor's end. Scratch
    tensors, which kernels ask for and which have no name, are summed. Tensors inside a delegate are not there: they
    lie in the delegate's own memory, which nothing tells.
    """
    list_operators = getattr(interpreter, "_get_ops_details", None)
    if list_operators is None:
        return {}
    computed = {int(one["index"]) for one in interpreter.get_input_details()}
    computed.update(int(tensor) for one in list_operators() for tensor in one["outputs"])
    spans, sums = [], {"constant_bytes": 0, "scratch_bytes": 0}
    for one in interpreter.get_tensor_details():
        try:
            values = interpreter.tensor(one["index"])()
        except (ValueError, RuntimeError):  # it is the delegate's
            continue
        if one["index"] in computed:
            begin = values.__array_interface__["data"][0]
            spans.append((begin, begin + values.nbytes))
        else:
            sums["constant_bytes" if one["name"] else "scratch_bytes"] += values.nbytes
    arena = max(end for _, end in spans) - min(begin for begin, _ in spans) if spans else 0
    method = "addresses of the interpreter's tensors; not what a delegate holds"
    return {"method": method, "arena_bytes": arena, **sums}


def import_first(packages: Tuple[Tuple[str, str], ...]) -> Tuple[str, Any, Dict[str, str]]:
    """Import the first package that can be; return its name, its module, and why others before it could not.

    Raises:
        ModuleNotFoundError: none is installed.
        Exception: what the first of those that are installed raised, when none imports.
    """
    broken: Dict[str, Exception] = {}
    for package, module in packages:
        try:
            return package, import_module(module), {name: str(error)[:300] for name, error in broken.items()}
        except Exception as error:
            # Its own absence is nothing to report; a missing dependency of it is.
            if not (isinstance(error, ModuleNotFoundError) and error.name == package):
                broken[package] = error
    if broken:
        raise next(iter(broken.values()))
    names = " or ".join(package for package, _ in packages)
    raise ModuleNotFoundError(f"none of {names} is installed", name=names)


def _explain(error: Exception) -> NoReturn:
    """Raise what a refusal to load means.

    Raises:
        InvalidArtifactError: the file is damaged.
        UnsupportedError: any other reason; the text is the runtime's own.
    """
    text = " ".join(str(error).split())[:300]
    if any(words in text.lower() for words in DAMAGED_TEXTS):
        raise InvalidArtifactError(text) from error
    raise UnsupportedError(text) from error


def _executed(interpreter: Any, xnnpack: str) -> Dict[str, Any]:
    """Return which operators the model has and how far delegates execute them."""
    list_operators = getattr(interpreter, "_get_ops_details", None)
    if list_operators is None:
        delegated = "none" if xnnpack == "off" else "unknown"
        return {"delegated": delegated, "delegate_nodes": None, "operators": None}
    operators = list_operators()
    results = {int(tensor["index"]) for tensor in interpreter.get_output_details()}
    names = Counter(one["op_name"] for one in operators)
    nodes = names.pop(DELEGATE, 0)
    return {"delegated": coverage(operators, results), "delegate_nodes": nodes, "operators": dict(names)}


def coverage(operators: List[Dict[str, Any]], results: Any) -> str:
    """Return how much of a model delegates execute: `whole`, `part` or `none`.

    After loading, the interpreter lists the model's operators and behind them one named DELEGATE for each part that a
    delegate took over; the only delegate that is there by default is XNNPACK. One such node that yields all results
    and takes nothing that an operator computes is the whole model.

    Args:
        operators: as the interpreter lists them.
        results: the tensors that the model yields.
    """
    nodes = [one for one in operators if one["op_name"] == DELEGATE]
    if not nodes:
        return "none"
    computed = {int(tensor) for one in operators if one["op_name"] != DELEGATE for tensor in one["outputs"]}
    taken = {int(tensor) for tensor in nodes[0]["inputs"]}
    given = {int(tensor) for tensor in nodes[0]["outputs"]}
    return "whole" if len(nodes) == 1 and set(results) <= given and not taken & computed else "part"
