"""LiteRT, once TensorFlow Lite, on the CPU, driven exactly as a plain user drives it: `interpreter.invoke()`.

Three packages hold the same interpreter; the first of `PACKAGES` that imports is taken, and named in the version.
"""

from __future__ import annotations

import sys
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
OPTIONS = frozenset(["xnnpack"])
DELEGATE = "DELEGATE"
DAMAGED_TEXTS = ("not a valid flatbuffer", "model identifier", "could not open", "mapping file", "model is empty")


class LiteRtRuntime(Runtime):
    """See `Runtime`.

    Options: `xnnpack` (`default`: the package's default delegates, which is XNNPACK where the build has it; `off`:
    TensorFlow Lite's own kernels).
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
            wanted = (tensor["shape"].tolist(), tensor["dtype"].__name__)
            fed = (list(given[name]["shape"]), given[name]["dtype"])
            if wanted != fed:
                raise UnsupportedError("input {} is {} {}, the spec feeds {} {}".format(name, *wanted, *fed))
            interpreter.set_tensor(tensor["index"], self._draw(given[name]))
        self._interpreter = interpreter
        self._settings = {
            "package": self._package,
            "passed_over": self._passed_over,
            "threads": threads,
            "xnnpack": xnnpack,
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
        values = [(one["name"], self._interpreter.get_tensor(one["index"])) for one in tensors]
        return [output for output in (self._describe(name, value) for name, value in values) if output is not None]


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
