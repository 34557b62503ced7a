"""Batch normalisation folded into the convolution before it."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd
from torch.nn.utils.fusion import fuse_conv_bn_weights

from hwloop.pruning.tracing import flat_tensors


def foldable_pairs(module: nn.Module, input_shape: Sequence[int]) -> tuple[tuple[str, str], ...]:
    """Find the batch normalisations that read a convolution's output which nothing else reads.

    Walks the autograd graph of one forward pass, so it needs no symbolic trace; pairs stay valid for every network
    that is sliced from this one.

    Args:
        module: the network; left untouched.
        input_shape: of one image.

    Returns:
        Paths of convolution and batch normalisation.
    """
    network = copy.deepcopy(module).eval().requires_grad_(True)
    produced: dict[str, list[Any]] = {}
    hooks = []
    for path, layer in network.named_modules():
        if isinstance(layer, _ConvNd | _BatchNorm):

            def record(_layer: nn.Module, _inputs: object, outputs: torch.Tensor, path: str = path) -> None:
                produced.setdefault(path, []).append(outputs.grad_fn)

            hooks.append(layer.register_forward_hook(record))
    with torch.enable_grad():
        outputs = flat_tensors(network(torch.zeros(1, *input_shape)))
    for hook in hooks:
        hook.remove()
    readers = _readers([tensor.grad_fn for tensor in outputs])
    modules = dict(network.named_modules())
    convolutions = {
        functions[0]: path
        for path, functions in produced.items()
        if isinstance(modules[path], nn.Conv1d | nn.Conv2d | nn.Conv3d) and len(functions) == 1
    }
    pairs = []
    for path, functions in produced.items():
        if not isinstance(modules[path], _BatchNorm) or len(functions) != 1 or functions[0] is None:
            continue
        source = functions[0].next_functions[0][0] if functions[0].next_functions else None
        if source in convolutions and readers.get(source) == 1 and modules[path].track_running_stats:
            pairs.append((convolutions[source], path))
    return tuple(pairs)


def fold(module: nn.Module, pairs: Sequence[tuple[str, str]]) -> None:
    """Fold batch normalisations into their convolutions, in place, for evaluation only.

    Args:
        module: the network, which is put into evaluation mode.
        pairs: as `foldable_pairs` found them; each batch normalisation becomes an identity. Those of removed blocks
            are passed over.
    """
    module.eval()
    modules = dict(module.named_modules())
    for convolution_path, normalisation_path in pairs:
        if normalisation_path not in modules:
            continue
        convolution, normalisation = modules[convolution_path], modules[normalisation_path]
        assert isinstance(convolution, _ConvNd)  # what foldable_pairs promises
        assert isinstance(normalisation, _BatchNorm)
        assert normalisation.running_mean is not None
        assert normalisation.running_var is not None
        with torch.no_grad():
            weight, bias = fuse_conv_bn_weights(
                convolution.weight,
                convolution.bias,
                normalisation.running_mean,
                normalisation.running_var,
                normalisation.eps,
                normalisation.weight,
                normalisation.bias,
            )
        convolution.weight, convolution.bias = weight, bias
        owner, _, name = normalisation_path.rpartition(".")
        setattr(modules[owner], name, nn.Identity())


def _readers(functions: Sequence[Any]) -> dict[Any, int]:
    """Count how often the result of each autograd function is read; being an output counts too."""
    readers: dict[Any, int] = {}
    waiting = [function for function in functions if function is not None]
    for function in waiting:
        readers[function] = readers.get(function, 0) + 1
    seen: set[Any] = set()
    while waiting:
        function = waiting.pop()
        if function in seen:
            continue
        seen.add(function)
        for source, _ in function.next_functions:
            if source is not None:
                readers[source] = readers.get(source, 0) + 1
                waiting.append(source)
    return readers
