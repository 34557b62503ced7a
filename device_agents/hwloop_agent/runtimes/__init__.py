"""The runtimes that a worker can measure. One file each; nothing is imported before the worker asks for it.

A runtime is imported, loaded and run by the worker only: the supervisor never imports one, because runtimes die by
signal, at import too.
"""

from __future__ import annotations

from typing import Any, Callable, Dict, List, NamedTuple, Tuple

OUTPUT_MIN, OUTPUT_MAX = 1e-6, 1e6


class UnsupportedError(Exception):
    """The runtime is not installed, or says that it cannot do what the spec asks."""


class InvalidArtifactError(Exception):
    """The artifact is not what its suffix says."""


class Output(NamedTuple):
    """What one output of the network looked like: its largest magnitude, and whether all of it is finite."""

    name: str
    shape: Tuple[int, ...]
    finite: bool
    max_abs: float

    def to_json(self) -> Dict[str, Any]:
        """Return it as it goes into a record; a magnitude that is not finite is None there."""
        return {
            "name": self.name,
            "shape": list(self.shape),
            "finite": self.finite,
            "max_abs": self.max_abs if self.finite else None,
        }


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

    A probe asks for `import_`, `version`, `try_out`.
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
        """Return every setting that the number depends on, the defaults too."""
        raise NotImplementedError

    def runner(self) -> Callable[[], object]:
        """Return the callable that does one inference, as thin as a plain user's loop body."""
        raise NotImplementedError

    def outputs(self) -> List[Output]:
        """Run once and describe the outputs that are real numbers."""
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


RUNTIMES: Dict[str, Callable[[], Runtime]] = {"litert": _litert, "onnxruntime": _onnxruntime, "null": _null}
# Runtimes that a trial may run without an artifact, and those that `facts` has no reason to probe.
WITHOUT_ARTIFACT = frozenset(["null"])
