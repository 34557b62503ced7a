"""A network to measure, wherever it comes from: the zoo, a torch factory, an ONNX file, a runtime's own file.

torch is imported only where a torch module is asked for: an ONNX file is measured without it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from hwloop.errors import DataError, ModelError, UserError
from hwloop.extraction.fusion import FusionRules
from hwloop.layers import Network
from hwloop.runtimes import Artifact, Runtime

if TYPE_CHECKING:
    from torch import nn

WEIGHTS_SEED = 0


class Model(ABC):
    """Something that a runtime can make an artifact of.

    Attributes:
        name: for people: as it was asked for.
    """

    name: str

    @abstractmethod
    def artifact(self, runtime: Runtime) -> Artifact:
        """What the runtime loads.

        Raises:
            ModelError: the runtime cannot have this network; the text says why.
        """

    @abstractmethod
    def network(self, rules: FusionRules) -> Network:
        """The layers that a runtime with these rules executes.

        Raises:
            ModelError: they cannot be read; the text says why.
        """


@dataclass(frozen=True)
class TorchModel(Model):
    """A network of the zoo, or of a user's factory; untrained, with weights from a fixed seed.

    Attributes:
        name: of the zoo, or "package.module:factory".
        input_shape: (channels, height, width) of an image.
        classes: outputs.
        folder: where a user's package is looked for.
    """

    name: str
    input_shape: tuple[int, int, int]
    classes: int
    folder: Path

    @cached_property
    def module(self) -> nn.Module:
        """The module, in evaluation mode, with batch statistics that keep its values in a realistic range."""
        import torch

        from hwloop.models import build_model, settle

        channels, height, _ = self.input_shape
        with torch.random.fork_rng():
            torch.manual_seed(WEIGHTS_SEED)
            module = build_model(
                self.name, num_classes=self.classes, in_channels=channels, image_size=height, folder=self.folder
            )
        settle(module, self.input_shape)
        return module.eval()

    @cached_property
    def exported(self) -> bytes:
        """The module as an ONNX file, nothing folded, as `network_from_torch` reads it."""
        from hwloop.extraction import export_onnx

        return export_onnx(self.module, self.input_shape, fold=False)

    def artifact(self, runtime: Runtime) -> Artifact:
        """See `Model.artifact`."""
        return runtime.module(self.module, self.input_shape)

    def network(self, rules: FusionRules) -> Network:
        """See `Model.network`."""
        from hwloop.extraction import network_from_onnx

        return network_from_onnx(self.exported, rules=rules)


@dataclass(frozen=True)
class OnnxModel(Model):
    """An ONNX file."""

    name: str
    data: bytes

    def artifact(self, runtime: Runtime) -> Artifact:
        """See `Model.artifact`."""
        return runtime.onnx(self.data, self.name)

    def network(self, rules: FusionRules) -> Network:
        """See `Model.network`."""
        from hwloop.extraction import network_from_onnx

        return network_from_onnx(self.data, rules=rules)


@dataclass(frozen=True)
class OwnFile(Model):
    """A file in one runtime's own format, such as `.tflite`; measured as it is, its layers are not read."""

    name: str
    suffix: str
    data: bytes

    def artifact(self, runtime: Runtime) -> Artifact:
        """See `Model.artifact`."""
        if runtime.suffix != self.suffix:
            raise ModelError(f"{self.name}: {runtime.name} loads {runtime.suffix} files, not {self.suffix}")
        return runtime.file(self.data, self.name)

    def network(self, rules: FusionRules) -> Network:
        """See `Model.network`."""
        raise ModelError(f"{self.name}: hwloop reads the layers of torch modules and ONNX files, not of {self.suffix}")


def open_model(
    text: str, own_suffixes: Sequence[str], *, input_shape: tuple[int, int, int] | None, classes: int | None
) -> Model:
    """Find the network that a user means.

    Args:
        text: a name of the zoo, "package.module:factory", or a file.
        own_suffixes: of the runtimes' own files, with the dot.
        input_shape: of networks of the zoo and factories, (channels, height, width); None: what it was published for.
        classes: likewise.

    Raises:
        UserError: a file that cannot be read, or a shape for a file, which has its own.
        ModelError: no such network.
    """
    suffix = Path(text).suffix
    if ":" not in text and (suffix == ".onnx" or suffix in own_suffixes):
        if input_shape is not None:
            raise UserError(f"--input: {text} has its own input shape; leave the option out")
        try:
            data = Path(text).read_bytes()
        except OSError as error:
            raise DataError(f"{text}: {error.strerror}") from error
        return OnnxModel(text, data) if suffix == ".onnx" else OwnFile(text, suffix, data)
    from hwloop.models import model_defaults

    usual = model_defaults(text)
    return TorchModel(text, input_shape or usual.input_shape, classes or usual.num_classes, Path.cwd())
