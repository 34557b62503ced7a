"""What an artifact is fed, and what torch makes of the same values: the measure of every runtime's outputs."""

from __future__ import annotations

import json
from base64 import b64decode
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from hwloop.layers import Layer
from hwloop.runtimes.artifact import Artifact, InputSpec
from hwloop.runtimes.seeding import Array
from hwloop.runtimes.torch_calls import MAGIC
from hwloop.runtimes.torch_layers import layer_calls

if TYPE_CHECKING:
    from torch import nn

TO_NCHW = (0, 3, 1, 2)
INTEGERS_BELOW = 100


def drawn(spec: InputSpec) -> Array:
    """The values that an agent draws for an input (`hwloop_agent.runtimes.inputs`), float32 and integers alike."""
    generator = np.random.default_rng(spec.seed)
    if spec.distribution == "integers":
        return generator.integers(0, INTEGERS_BELOW, size=spec.shape).astype(spec.dtype)
    values = generator.standard_normal(spec.shape) if spec.distribution == "normal" else generator.random(spec.shape)
    return values.astype(spec.dtype)


def fed(artifact: Artifact) -> list[Array]:
    """The inputs of an artifact as an agent draws them, in torch's order of axes."""
    return [in_torch_order(drawn(one), artifact) for one in artifact.inputs]


def in_torch_order(values: Array, artifact: Artifact) -> Array:
    """An input or output of an artifact with its channels where torch has them."""
    return values.transpose(TO_NCHW) if artifact.layout == "NHWC" and values.ndim == 4 else values


def kept_outputs(record: Mapping[str, Any], artifact: Artifact) -> list[Array]:
    """The outputs in a record of a trial with `keep_outputs` that have values, in torch's order of axes."""
    found = []
    for one in record["outputs"] or ():
        if one.get("values") is not None:
            flat = np.frombuffer(b64decode(one["values"]), "<f4")
            found.append(in_torch_order(flat.reshape(one["shape"]), artifact))
    return found


def layer_outputs(layer: Layer, seed: int, inputs: Sequence[Array]) -> Array:
    """What torch computes for a layer with the seeded weights that every runtime's artifact has.

    Args:
        layer: any supported layer.
        seed: of the weights.
        inputs: in the layer's order, a residual last.

    Raises:
        ModelError: torch has no operator for it.
    """
    import torch

    data, _ = layer_calls(layer, seed, "float32", channels_last=False)
    head, _, tensors = data[len(MAGIC) :].partition(b"\n")
    file = json.loads(head)
    constants = [_constant(one, tensors) for one in file["tensors"]]
    values: list[Any] = [torch.from_numpy(np.ascontiguousarray(one)) for one in inputs]

    def resolved(argument: Any) -> Any:
        if isinstance(argument, list):
            return [resolved(one) for one in argument]
        if isinstance(argument, dict):
            return values[argument["value"]] if "value" in argument else constants[argument["tensor"]]
        return argument

    with torch.no_grad():
        for one in file["calls"]:
            name, _, overload = one["op"].partition(".")
            call = getattr(getattr(torch.ops.aten, name), overload)
            values.append(call(*(resolved(argument) for argument in one["args"])))
    return np.asarray(values[-1].numpy())


def _constant(one: Mapping[str, Any], data: bytes) -> Any:
    import torch

    count = int(np.prod(one["shape"], dtype=np.int64))
    array = np.frombuffer(data, np.float32, count, one["offset"]).reshape(one["shape"])
    return torch.from_numpy(array.copy())


def module_outputs(module: nn.Module, inputs: Sequence[Array]) -> list[Array]:
    """What a torch module computes."""
    import torch

    with torch.no_grad():
        result = module(*(torch.from_numpy(np.ascontiguousarray(one)) for one in inputs))
    return [one.numpy() for one in (result if isinstance(result, tuple | list) else (result,))]
