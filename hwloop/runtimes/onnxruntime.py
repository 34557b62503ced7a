"""Artifacts for onnxruntime: ONNX files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

import onnx
from onnx import helper

from hwloop.errors import ModelError, UserError
from hwloop.extraction.fusion import ONNXRUNTIME_ARM, ONNXRUNTIME_X86, FusionRules
from hwloop.extraction.reading import load_onnx
from hwloop.layers import Layer
from hwloop.runtimes.artifact import Artifact, InputSpec
from hwloop.runtimes.onnx_layers import layer_model
from hwloop.runtimes.registry import Runtime

if TYPE_CHECKING:
    from torch import nn

SUFFIX = ".onnx"
CPU = "CPUExecutionProvider"
PROVIDERS = {
    "cpu": CPU,
    "cuda": "CUDAExecutionProvider",
    "tensorrt": "TensorrtExecutionProvider",
    "xnnpack": "XnnpackExecutionProvider",
    "acl": "ACLExecutionProvider",
    "dnnl": "DnnlExecutionProvider",
    "openvino": "OpenVINOExecutionProvider",
}
"""Execution providers by the short names of the command line; what a device has of them, `facts` lists."""


@dataclass(frozen=True)
class OnnxRuntime(Runtime):
    """onnxruntime; see `hwloop.runtimes.registry.Runtime`.

    Attributes:
        provider: the execution provider that gets every node it can do; the CPU does the others.
        arch: of the device's processor, as its agent says ("aarch64").
    """

    name = "onnxruntime"
    suffix = SUFFIX
    VARIANTS: ClassVar[Mapping[str, tuple[str, ...]]] = {"provider": tuple(PROVIDERS)}

    provider: str = "cpu"
    arch: str = "x86_64"

    @property
    def fusion(self) -> FusionRules:
        """See `Runtime.fusion`; the blocked channel layout exists on x86 only."""
        return ONNXRUNTIME_ARM if self.arch.startswith(("aarch64", "arm")) else ONNXRUNTIME_X86

    def for_device(self, facts: Mapping[str, Any]) -> OnnxRuntime:
        """See `Runtime.for_device`."""
        there = facts.get("runtimes", {}).get(self.name, {}).get("providers")
        wanted = PROVIDERS[self.provider]
        if there is not None and wanted not in there:
            raise UserError(f"this device's onnxruntime has no {wanted}; it has {', '.join(there)}")
        return replace(self, arch=str(facts.get("arch") or self.arch))

    def _artifact(self, data: bytes, inputs: tuple[InputSpec, ...], options: dict[str, Any], label: str) -> Artifact:
        if self.provider != "cpu":
            options = {**options, "providers": f"{PROVIDERS[self.provider]},{CPU}"}
        return Artifact(data, SUFFIX, self.name, inputs, options, label, variant=self.variant)

    def layer(self, layer: Layer, *, seed: int = 0) -> Artifact:
        """An ONNX model of one layer, which onnxruntime fuses as it does inside a network.

        Args:
            layer: any supported float32 layer.
            seed: of weights and inputs; the same layer and seed give the same bytes.

        Raises:
            ModelError: the layer is unsupported.
        """
        data, inputs = layer_model(layer, seed)
        return self._artifact(data, inputs, {}, layer.key)

    def module(self, module: nn.Module, input_shape: tuple[int, ...]) -> Artifact:
        """A torch module with folded batch normalisation; batch 1.

        Raises:
            ModelError: torch cannot export it.
        """
        # Imported here: an ONNX file is measured without torch.
        from hwloop.extraction.export import BATCH_AXIS, INPUT_NAME, export_onnx

        data = export_onnx(module, input_shape, fold=True)
        inputs = (InputSpec(INPUT_NAME, (1, *input_shape)),)
        return self._artifact(data, inputs, {"free_dimensions": {BATCH_AXIS: 1}}, type(module).__name__)

    def onnx(self, model: bytes, label: str) -> Artifact:
        """An ONNX file as it is; a symbolic first axis of an input is the batch and becomes 1.

        Raises:
            ModelError: it is no ONNX file, or an input has another symbolic size.
        """
        graph = load_onnx(model, label).graph
        constants = {tensor.name for tensor in graph.initializer}
        free: dict[str, int] = {}
        inputs = tuple(
            _input_spec(value, seed, free, label)
            for seed, value in enumerate(value for value in graph.input if value.name not in constants)
        )
        if not inputs:
            raise ModelError(f"{label} has no input: nothing to measure")
        options: dict[str, Any] = {"free_dimensions": free} if free else {}
        return self._artifact(model, inputs, options, label)

    def file(self, data: bytes, label: str) -> Artifact:
        """See `onnx`."""
        return self.onnx(data, label)


def _input_spec(value: onnx.ValueInfoProto, seed: int, free: dict[str, int], label: str) -> InputSpec:
    """What to feed an input; symbols that become 1 are noted in `free`."""
    tensor = value.type.tensor_type
    if not tensor.HasField("shape"):
        raise ModelError(f"{label}: input {value.name!r} has no known rank; export it with a fixed shape")
    shape = []
    for axis, dim in enumerate(tensor.shape.dim):
        if dim.HasField("dim_value"):
            shape.append(dim.dim_value)
        elif dim.dim_param and (axis == 0 or dim.dim_param in free):
            free[dim.dim_param] = 1
            shape.append(1)
        else:
            raise ModelError(
                f"{label}: input {value.name!r} has the symbolic size {dim.dim_param or '?'!r} at axis {axis}; "
                "export it with a fixed shape"
            )
    dtype = helper.tensor_dtype_to_np_dtype(tensor.elem_type).name
    return InputSpec(value.name, tuple(shape), dtype, "normal" if dtype.startswith("float") else "integers", seed)
