"""What a runtime is to the host, and which runtimes there are."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from hwloop.errors import ModelError, UserError
from hwloop.extraction.fusion import FusionRules
from hwloop.layers import Layer
from hwloop.runtimes.artifact import Artifact

if TYPE_CHECKING:
    from torch import nn


class Runtime(ABC):
    """Turns layers and networks into what the runtime on a device loads. Nothing is executed here.

    An implementation is a frozen dataclass with a field of type `str` for each option of its variants: the precision,
    the execution provider, the mode.

    Attributes:
        name: as the agent knows it, and on the command line.
        suffix: of the runtime's own files (".onnx").
        VARIANTS: for each option the values it may have, the default first; no values: any text, "" by default.
    """

    name: ClassVar[str]
    suffix: ClassVar[str]
    VARIANTS: ClassVar[Mapping[str, tuple[str, ...]]] = {}

    @property
    def variant(self) -> str:
        """The options that are not the default, sorted: "precision=int8,xnnpack=off"; "" for the plain runtime."""
        chosen = ((name, getattr(self, name), [*values, ""][0]) for name, values in sorted(self.VARIANTS.items()))
        return ",".join(f"{name}={value}" for name, value, usual in chosen if value != usual)

    @property
    def label(self) -> str:
        """Name and variant, as tables and results name it, and as `get_runtime` takes it."""
        return f"{self.name}:{self.variant}" if self.variant else self.name

    @property
    def exact(self) -> bool:
        """Whether it computes in float32 throughout, so that its outputs are torch's within 1e-4."""
        return not any(word in self.variant for word in ("int8", "float16"))

    @property
    @abstractmethod
    def fusion(self) -> FusionRules:
        """What the runtime executes as one kernel; layers are extracted, keyed and measured by it."""

    def for_device(self, facts: Mapping[str, Any]) -> Runtime:
        """This runtime for a device, as its agent describes it (`Identity.facts`).

        Raises:
            UserError: the device has no such runtime, or not with these options.
        """
        return self

    @abstractmethod
    def layer(self, layer: Layer, *, seed: int = 0) -> Artifact:
        """One layer, executed as in a network, with weights and inputs that keep values in a realistic range.

        The same layer, seed and options give the same bytes.

        Raises:
            ModelError: the runtime cannot execute this layer; the text says why.
        """

    @abstractmethod
    def module(self, module: nn.Module, input_shape: tuple[int, ...]) -> Artifact:
        """A whole torch module, batch 1; `input_shape` without the batch.

        Raises:
            ModelError: the module cannot be converted.
        """

    @abstractmethod
    def onnx(self, model: bytes, label: str) -> Artifact:
        """A whole network from an ONNX file, batch 1; `label` is for people.

        Raises:
            ModelError: the file cannot be used.
        """

    def file(self, data: bytes, label: str) -> Artifact:
        """A whole network from a file in the runtime's own format, as it is; `label` is for people.

        Raises:
            ModelError: the file cannot be used.
        """
        raise ModelError(f"{label}: hwloop cannot tell the inputs of a {self.suffix} file; give the model itself")


_RUNTIMES: dict[str, type[Runtime]] = {}


def register(runtime: type[Runtime]) -> None:
    """Make a runtime known under its name.

    Raises:
        ValueError: the name is taken.
    """
    if runtime.name in _RUNTIMES:
        raise ValueError(f"a runtime called {runtime.name!r} is registered already")
    _RUNTIMES[runtime.name] = runtime


def get_runtime(text: str, **options: str) -> Runtime:
    """A runtime by its name, in the variant that is asked for.

    Args:
        text: a name, or a name with options behind a colon: "litert:precision=int8,xnnpack=off". A value alone is
            enough where one option only has it: "litert:int8".
        options: of the variant, instead of those in the text or besides them.

    Raises:
        UserError: there is no such runtime, option or value; the text lists those there are.
    """
    name, _, variant = text.partition(":")
    if name not in _RUNTIMES:
        raise UserError(f"unknown runtime {name!r}; known are: {', '.join(list_runtimes())}")
    kind = _RUNTIMES[name]
    chosen: dict[str, str] = {}
    for part in filter(None, variant.split(",")):
        option, _, value = part.rpartition("=")
        chosen[option or _option_with(kind, value)] = value
    chosen.update(options)
    for option, value in chosen.items():
        if option not in kind.VARIANTS:
            raise UserError(f"{name} has no option {option!r}; it has {describe_variants(kind)}")
        known = kind.VARIANTS[option]
        if known and value not in known:
            raise UserError(f"{name}: {option} is one of {', '.join(known)}, not {value!r}")
    return kind(**chosen)


def _option_with(kind: type[Runtime], value: str) -> str:
    """The only option that can have a value."""
    found = [option for option, values in kind.VARIANTS.items() if value in values]
    if len(found) != 1:
        raise UserError(f"{kind.name} has no variant {value!r}; it has {describe_variants(kind)}")
    return found[0]


def describe_variants(kind: type[Runtime]) -> str:
    """The options of a runtime, for people: "precision=float32|int8"; "no options"."""
    parts = [f"{option}={'|'.join(values) or 'TEXT'}" for option, values in kind.VARIANTS.items()]
    return ", ".join(parts) or "no options"


def list_runtimes() -> tuple[str, ...]:
    """Names of all runtimes, sorted."""
    return tuple(sorted(_RUNTIMES))


def own_suffixes() -> tuple[str, ...]:
    """Suffixes of the files that some runtime loads as they are."""
    return tuple(sorted({kind.suffix for kind in _RUNTIMES.values()}))
