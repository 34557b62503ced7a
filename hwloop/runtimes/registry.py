"""What a runtime is to the host, and which runtimes there are."""

from __future__ import annotations

from typing import Protocol

from torch import nn

from hwloop.errors import UserError
from hwloop.layers import Layer
from hwloop.runtimes.artifact import Artifact


class Runtime(Protocol):
    """Turns layers and networks into what the runtime on a device loads. Nothing is executed here."""

    @property
    def name(self) -> str:
        """As in tables, specs and on the command line."""
        ...

    def layer(self, layer: Layer, *, seed: int = 0) -> Artifact:
        """One layer, executed as in a network, with weights and inputs that keep values in a realistic range.

        Raises:
            ModelError: the runtime cannot execute this layer; the text says why.
        """
        ...

    def module(self, module: nn.Module, input_shape: tuple[int, ...]) -> Artifact:
        """A whole torch module, batch 1; `input_shape` without the batch.

        Raises:
            ModelError: the module cannot be converted.
        """
        ...

    def onnx(self, model: bytes, label: str) -> Artifact:
        """A whole network from an ONNX file, batch 1; `label` is for people.

        Raises:
            ModelError: the file cannot be used.
        """
        ...


_RUNTIMES: dict[str, Runtime] = {}


def register(runtime: Runtime) -> None:
    """Make a runtime known under its name.

    Raises:
        ValueError: the name is taken.
    """
    if runtime.name in _RUNTIMES:
        raise ValueError(f"a runtime called {runtime.name!r} is registered already")
    _RUNTIMES[runtime.name] = runtime


def get_runtime(name: str) -> Runtime:
    """The runtime of that name.

    Raises:
        UserError: there is none; the text lists those there are.
    """
    if name not in _RUNTIMES:
        raise UserError(f"unknown runtime {name!r}; known are: {', '.join(list_runtimes())}")
    return _RUNTIMES[name]


def list_runtimes() -> tuple[str, ...]:
    """Names of all runtimes, sorted."""
    return tuple(sorted(_RUNTIMES))
