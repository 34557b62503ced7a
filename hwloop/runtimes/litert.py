"""Artifacts for LiteRT (TensorFlow Lite): flatbuffers."""

from __future__ import annotations

from torch import nn

from hwloop.errors import ModelError
from hwloop.layers import Layer
from hwloop.runtimes.artifact import Artifact
from hwloop.runtimes.tflite_layers import layer_model

SUFFIX = ".tflite"


class LiteRtRuntime:
    """LiteRT on a CPU, with XNNPACK unless an option says otherwise; see `hwloop.runtimes.registry.Runtime`.

    On the device the agent takes ai-edge-litert, tflite-runtime or tensorflow, whichever is installed. Writing the
    models takes the extra `hwloop[tflite]` on the host.
    """

    name = "litert"

    def layer(self, layer: Layer, *, seed: int = 0) -> Artifact:
        """A TFLite model of one layer, in the operators that a converted network has; images are NHWC.

        A residual is the convolution and an ADD, since TFLite does not fuse them; see `tflite_layers`.

        Args:
            layer: any supported float32 layer.
            seed: of weights and inputs; the same layer and seed give the same bytes, and the same weights as for
                any other runtime.

        Raises:
            ModelError: the layer is unsupported, or TFLite has no operator for it.
            UserError: the extra is not installed.
        """
        data, inputs = layer_model(layer, seed)
        return Artifact(data, SUFFIX, self.name, inputs, {}, layer.key)

    def module(self, module: nn.Module, input_shape: tuple[int, ...]) -> Artifact:
        """Not there yet: whole networks take a converter.

        Raises:
            ModelError: always.
        """
        raise ModelError(_no_network(type(module).__name__))

    def onnx(self, model: bytes, label: str) -> Artifact:
        """Not there yet: whole networks take a converter.

        Raises:
            ModelError: always.
        """
        raise ModelError(_no_network(label))


def _no_network(label: str) -> str:
    return (
        f"litert measures layers, not yet whole networks: {label} would need the converter litert-torch, "
        "which no extra of hwloop provides; measure it with onnxruntime, or its layers with litert"
    )
