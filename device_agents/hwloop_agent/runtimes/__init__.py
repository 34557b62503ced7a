"""The runtimes that a worker can measure. One file each; nothing is imported before the worker asks for it.

A runtime is imported, loaded and run by the worker only: the supervisor never imports one, because runtimes die by
signal, at import too.
"""

from __future__ import annotations

from base64 import b64encode
from typing import Any, Callable, Dict, List, NamedTuple, Optional, Tuple

OUTPUT_MIN, OUTPUT_MAX = 1e-6, 1e6


class UnsupportedError(Exception):
    """The runtime is not installed, or says that it cannot do what the spec asks."""


class InvalidArtifactError(Exception):
    """The artifact is not what its suffix says."""


class Output(NamedTuple):
    """What one output of the network looked like: its largest magnitude, and whether all of it is finite.

    `data` are its values as little-endian float32; None where there are too many of them.
    """

    name: str
    shape: Tuple[int, ...]
    finite: bool
    max_abs: float
    data: Optional[bytes] = None

    def to_json(self, values: bool = False) -> Dict[str, Any]:
        """Return it as it goes into a record, with its `values` if asked for (base64).

        A magnitude that is not finite is None there.
        """
        found: Dict[str, Any] = {
            "name": self.name,
            "shape": list(self.shape),
            "finite": self.finite,
            "max_abs": self.max_abs if self.finite else None,
        }
        if values:
            found["values"] = None if self.data is None else b64encode(self.data).decode()
        return found


def output_faults(outputs: List[Output]) -> List[str]:
    """Return what is wrong with a network's outputs; [] when their numbers are in a sane band.

    Weights or inputs of the wrong scale make subnormal numbers, which fake a slow-down of 9 to 14 times; an output
    that is exactly zero, or far from one, is how such a model shows itself.
    """
    faults = []
    for output in outputs:
        if not output.finite:
            faults.append(f"output {output.name:.64} is not finite")
        elif not OUTPUT_MIN <= output.max_abs <= OUTPUT_MAX:
            text = "max|%.64s| is %.3g, outside %g to %g"
            faults.append(text % (output.name, output.max_abs, OUTPUT_MIN, OUTPUT_MAX))
    return faults


class Runtime:
    """What a worker asks of a runtime, in this order: `prepare`, `import_`, `version`, `load`, `runner`, `outputs`.

    A profiled trial asks for `start_profile` before `load`, and for `profile` at the end. A probe asks for `import_`,
    `version`, `about`, `try_out`.
    """

    name = ""

    def prepare(self, options: Dict[str, Any]) -> None:
        """Take what the import depends on; most runtimes need nothing before `load`.

        Raises:
            UnsupportedError: an option that can be refused without the library.
        """

    def import_(self) -> None:
        """Import the library. `ImportError` means that it is not installed; dying here is a result like any other."""
        raise NotImplementedError

    def version(self) -> str:
        """Return the library's version."""
        raise NotImplementedError

    def about(self) -> Dict[str, Any]:
        """Return what `facts` lists besides the version, such as the execution providers of this build."""
        return {}

    def try_out(self) -> bool:
        """Run the smallest network once, for builds that import well and die in their first run; False without one."""
        return False

    def load(self, path: str, inputs: List[Dict[str, Any]], threads: int, options: Dict[str, Any]) -> None:
        """Load the artifact at `path` and draw the inputs.

        Raises:
            UnsupportedError: the runtime cannot do this.
            InvalidArtifactError: the artifact is damaged.
        """
        raise NotImplementedError

    def settings(self) -> Dict[str, Any]:
        """Return every setting that the number depends on, the defaults too; `threads` is one of them."""
        raise NotImplementedError

    def runner(self) -> Callable[[], object]:
        """Return the callable that does one inference, as thin as a plain user's loop body."""
        raise NotImplementedError

    def outputs(self) -> List[Output]:
        """Run once and describe the outputs that are real numbers."""
        raise NotImplementedError

    def memory_stats(self) -> Dict[str, Any]:
        """Return the runtime's own memory figures, in bytes, and their `method`; {} where it has none."""
        return {}

    def start_profile(self, folder: str) -> None:
        """Have every inference from `load` on profiled, operator by operator; `folder` may hold files.

        Raises:
            UnsupportedError: this runtime has no profiler.
        """
        raise UnsupportedError(f"{self.name} has no profiler")

    def profile(self) -> Dict[str, Any]:
        """Return `method`, `runs` and `rows`: one per operator, in the order in which they run.

        A row has `name` (as the runtime calls it), `op`, `ns` and `calls` per inference, and may have `memory_bytes`.
        """
        raise NotImplementedError


def _onnxruntime() -> Runtime:
    from hwloop_agent.runtimes.onnxruntime_runtime import OnnxRuntime

    return OnnxRuntime()


def _litert() -> Runtime:
    from hwloop_agent.runtimes.litert_runtime import LiteRtRuntime

    return LiteRtRuntime()


def _null() -> Runtime:
    from hwloop_agent.runtimes.null_runtime import NullRuntime

    return NullRuntime()


def _torch() -> Runtime:
    from hwloop_agent.runtimes.torch_runtime import TorchRuntime

    return TorchRuntime()


def _tvm() -> Runtime:
    from hwloop_agent.runtimes.tvm_runtime import TvmRuntime

    return TvmRuntime()


RUNTIMES: Dict[str, Callable[[], Runtime]] = {
    "litert": _litert,
    "onnxruntime": _onnxruntime,
    "torch": _torch,
    "tvm": _tvm,
    "null": _null,
}
# Runtimes that a trial may run without an artifact, and those that `facts` has no reason to probe.
WITHOUT_ARTIFACT = frozenset(["null"])
