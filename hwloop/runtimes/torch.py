"""Artifacts for PyTorch: programs of ATen calls, of layers and of exported networks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from hwloop.errors import ModelError
from hwloop.extraction.fusion import TORCH_COMPILED, TORCH_EAGER, FusionRules
from hwloop.layers import Layer
from hwloop.runtimes.artifact import Artifact, InputSpec
from hwloop.runtimes.registry import Runtime
from hwloop.runtimes.torch_calls import SUFFIX
from hwloop.runtimes.torch_layers import layer_calls

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class TorchRuntime(Runtime):
    """PyTorch on a CPU; see `hwloop.runtimes.registry.Runtime`.

    Attributes:
        mode: "eager", or "compiled" by torch's own compiler on the device, which needs a C++ compiler there.
        layout: of images and of the weights of convolutions.
        dtype: of weights and activations.
    """

    name = "torch"
    suffix = SUFFIX
    VARIANTS: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "mode": ("eager", "compiled"),
        "layout": ("contiguous", "channels_last"),
        "dtype": ("float32", "bfloat16"),
    }

    mode: str = "eager"
    layout: str = "contiguous"
    dtype: str = "float32"

    @property
    def fusion(self) -> FusionRules:
        """See `Runtime.fusion`."""
        return TORCH_COMPILED if self.mode == "compiled" else TORCH_EAGER

    def layer(self, layer: Layer, *, seed: int = 0) -> Artifact:
        """One layer as the calls that an exported network has for it; written without torch.

        Raises:
            ModelError: the layer is unsupported, or torch has no operator for it.
        """
        data, inputs = layer_calls(layer, seed, self.dtype, self.layout == "channels_last")
        return self._artifact(data, inputs, layer.key)

    def module(self, module: nn.Module, input_shape: tuple[int, ...]) -> Artifact:
        """A torch module as an exported program with folded batch normalisation; batch 1.

        Raises:
            ModelError: torch cannot export it.
        """
        # Imported here: layers, and ONNX files for other runtimes, are measured without torch.
        from hwloop.runtimes.torch_export import export_calls

        data, names = export_calls(module, input_shape, self.dtype, self.layout == "channels_last")
        inputs = tuple(InputSpec(name, (1, *input_shape)) for name in names)
        return self._artifact(data, inputs, type(module).__name__)

    def onnx(self, model: bytes, label: str) -> Artifact:
        """No maintained package reads ONNX files into torch.

        Raises:
            ModelError: always.
        """
        raise ModelError(f"torch cannot read ONNX files: give {label} as a torch factory, 'package.module:factory'")

    def _artifact(self, data: bytes, inputs: tuple[InputSpec, ...], label: str) -> Artifact:
        options = {"mode": self.mode, "layout": self.layout, "dtype": self.dtype}
        return Artifact(data, SUFFIX, self.name, inputs, options, label, variant=self.variant)
