"""Artifacts for LiteRT (TensorFlow Lite): flatbuffers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from hwloop.errors import ModelError, UserError
from hwloop.extraction.fusion import LITERT, FusionRules
from hwloop.layers import Layer
from hwloop.runtimes.artifact import Artifact, InputSpec
from hwloop.runtimes.registry import Runtime
from hwloop.runtimes.tflite_converter import converted_model
from hwloop.runtimes.tflite_layers import layer_model
from hwloop.runtimes.tflite_layout import TO_NHWC, layout_of
from hwloop.runtimes.tflite_network import network_model
from hwloop.runtimes.tflite_quantisation import PRECISIONS, Feed, quantised, seeded_examples
from hwloop.runtimes.tflite_reading import read_inputs

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class LiteRtRuntime(Runtime):
    """LiteRT on a CPU; see `hwloop.runtimes.registry.Runtime`.

    On the device the agent takes ai-edge-litert, tflite-runtime or tensorflow, whichever is installed. Writing the
    models takes the extra `hwloop[tflite]` on the host.

    Attributes:
        precision: one of `tflite_quantisation.PRECISIONS`. Inputs of an int8 model are still described as real
            numbers: the agent quantises what it feeds, and turns the outputs into real numbers again.
        xnnpack: "default", the package's default delegates, which is XNNPACK where the build has it; or "off",
            TensorFlow Lite's own kernels.
        calibration: of int8 networks: an `.npy` file with examples (n, channels, height, width) as the network takes
            them, whose ranges are kept. Without it seeded normal numbers stand in, which is good for latency only.
    """

    name = "litert"
    suffix = ".tflite"
    VARIANTS: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "precision": PRECISIONS,
        "xnnpack": ("default", "off"),
        "calibration": (),
    }

    precision: str = "float32"
    xnnpack: str = "default"
    calibration: str = ""

    @property
    def fusion(self) -> FusionRules:
        """What the operators of TFLite take in."""
        return LITERT

    def layer(self, layer: Layer, *, seed: int = 0) -> Artifact:
        """A TFLite model of one layer, in the operators that a network has for it; images are NHWC.

        A residual is the convolution and an ADD, since TFLite does not fuse them; see `tflite_layers`.

        Args:
            layer: any supported float32 layer.
            seed: of weights and inputs; the same layer and seed give the same bytes, and the same weights as for
                any other runtime.

        Raises:
            ModelError: the layer is unsupported, or TFLite has no operator for it.
            UserError: the extra is not installed.
        """
        data, inputs = layer_model(layer, seed, signature=self.precision != "float32")
        layout = "NHWC" if layout_of(layer).channels_last else "NCHW"
        return self._artifact(data, inputs, layer.key, lambda: seeded_examples(inputs), layout)

    def module(self, module: nn.Module, input_shape: tuple[int, ...]) -> Artifact:
        """A torch module: written directly; by the converter litert-torch where hwloop does not know an operator.

        Raises:
            ModelError: neither can; the text has both reasons.
            UserError: the extra is not installed, or the calibration data do not fit.
        """
        from hwloop.extraction.export import export_onnx  # not above: an ONNX file is measured without torch

        name = type(module).__name__
        try:
            return self._network(*network_model(export_onnx(module, input_shape, fold=True), name), name)
        except ModelError as reason:
            try:
                data = converted_model(module, input_shape)
            except ModelError as error:
                raise ModelError(f"{reason}; and {error}") from error
        return self._network(data, read_inputs(data, name), name)

    def onnx(self, model: bytes, label: str) -> Artifact:
        """An ONNX file, written directly; the converter takes torch modules only.

        Raises:
            ModelError: it is no ONNX file, or has operators that hwloop does not know.
            UserError: the extra is not installed, or the calibration data do not fit.
        """
        return self._network(*network_model(model, label), label)

    def file(self, data: bytes, label: str) -> Artifact:
        """A TFLite file as it is.

        Raises:
            ModelError: it cannot be read or fed, or a precision is asked for.
            UserError: the extra is not installed.
        """
        if self.precision != "float32":
            raise ModelError(f"{label} is measured as it is: leave precision={self.precision} out")
        return self._artifact(data, read_inputs(data, label), label, list, "NHWC")

    def _network(self, data: bytes, inputs: tuple[InputSpec, ...], label: str) -> Artifact:
        return self._artifact(data, inputs, label, lambda: self._examples(inputs), "NHWC")

    def _examples(self, inputs: Sequence[InputSpec]) -> list[Feed]:
        if not self.calibration:
            return seeded_examples(inputs)
        images = _load(self.calibration)
        if len(inputs) != 1 or inputs[0].shape[1:] != tuple(images.shape[axis] for axis in TO_NHWC[1:]):
            raise UserError(
                f"calibration {self.calibration}: examples of the shape {images.shape[1:]} do not fit the network's "
                f"inputs {[one.shape[1:] for one in inputs]} (height, width, channels)"
            )
        return [{inputs[0].name: np.ascontiguousarray(one[np.newaxis].transpose(TO_NHWC))} for one in images]

    def _artifact(
        self,
        data: bytes,
        inputs: tuple[InputSpec, ...],
        label: str,
        examples: Callable[[], Sequence[Feed]],
        layout: str,
    ) -> Artifact:
        data = quantised(data, self.precision, examples)
        options = {"xnnpack": self.xnnpack} if self.xnnpack != "default" else {}
        if self.precision != "float32":
            options["precision"] = self.precision
        return Artifact(data, self.suffix, self.name, inputs, options, label, layout, self.variant)


def _load(path: str) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    """Examples (n, channels, height, width) from an `.npy` file."""
    try:
        images = np.load(Path(path), allow_pickle=False)
    except (OSError, ValueError) as error:
        raise UserError(f"calibration {path}: cannot be read as an .npy file: {error}") from error
    if images.ndim != 4 or not len(images) or images.dtype.kind != "f":
        raise UserError(
            f"calibration {path}: holds {images.dtype} {images.shape}; give real numbers (n, channels, height, width)"
        )
    converted: np.ndarray[tuple[int, ...], np.dtype[np.float32]] = images.astype(np.float32)
    return converted
