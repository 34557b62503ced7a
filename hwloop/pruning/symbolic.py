"""The graph of a network's forward function by `torch.fx`, and which part of it each module computed."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.fx.passes.shape_prop import ShapeProp
from torch.nn import functional

from hwloop.errors import ModelError


@dataclass(frozen=True)
class Call:
    """One call of a module.

    Attributes:
        path: of the module; "" is the network.
        start: position of its first node in the graph.
        stop: behind its last.
        source: the one tensor that it is given; None where it is given anything else.
        result: the one tensor that it gives; None where it gives anything else.
    """

    path: str
    start: int
    stop: int
    source: fx.Node | None
    result: fx.Node | None


class Symbolic:
    """A traced network.

    Attributes:
        network: that was traced.
        graph: its operations.
        nodes: of the graph, in order.
        calls: of every module that is not one of torch's own layers, inner ones before those around them; last the
            network itself.
    """

    def __init__(self, network: nn.Module) -> None:
        """Trace a network.

        Raises:
            ModelError: its forward function cannot be traced; one line with the reason.
        """
        self.network = network
        tracer = _Tracer()
        try:
            self.graph = tracer.trace(network)
        except Exception as error:  # a user's forward function may do anything with the symbols that it is given
            reason = (str(error).strip() or "no further text").splitlines()[0]
            raise ModelError(f"torch.fx cannot trace its forward function: {type(error).__name__}: {reason}") from error
        self.nodes = list(self.graph.nodes)
        inputs = [node for node in self.nodes if node.op == "placeholder"]
        last = self.nodes[-1].args[0]
        whole = Call(
            "",
            len(inputs),
            len(self.nodes) - 1,
            inputs[0] if len(inputs) == 1 else None,
            last if isinstance(last, fx.Node) else None,
        )
        self.calls = (*tracer.calls, whole)
        self.position = {node: at for at, node in enumerate(self.nodes)}
        self.modules = dict(network.named_modules())

    def shapes(self, images: Tensor) -> dict[fx.Node, torch.Size]:
        """Return the shape of every tensor of the graph for these images.

        Raises:
            ModelError: The graph does not run.
        """
        try:
            with torch.no_grad():
                ShapeProp(fx.GraphModule(self.network, self.graph)).propagate(images)
        except Exception as error:  # as above
            reason = (str(error).strip() or "no further text").splitlines()[0]
            raise ModelError(f"its traced graph does not run: {reason}") from error
        found = {}
        for node in self.nodes:
            meta = node.meta.get("tensor_meta")
            if hasattr(meta, "shape"):
                found[node] = meta.shape
        return found

    def module(self, node: fx.Node) -> nn.Module | None:
        """Return the layer that a node calls, if it calls one."""
        return self.modules.get(str(node.target)) if node.op == "call_module" else None

    def times_called(self, path: str) -> int:
        """Return how often a module is called, under whatever path."""
        layers = [str(node.target) for node in self.nodes if node.op == "call_module"]
        return [*layers, *(call.path for call in self.calls)].count(path)


class _Tracer(fx.Tracer):
    def __init__(self) -> None:
        super().__init__()
        self.calls: list[Call] = []

    def call_module(self, m: nn.Module, forward: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        path, start = self.path_of_module(m), len(self.graph.nodes)
        found = super().call_module(m, forward, args, kwargs)
        if not self.is_leaf_module(m, path):
            single = len(args) == 1 and not kwargs and isinstance(args[0], fx.Proxy)
            source = args[0].node if single else None
            result = found.node if isinstance(found, fx.Proxy) else None
            self.calls.append(Call(path, start, len(self.graph.nodes), source, result))
        return found


_SUMS: tuple[Any, ...] = (operator.add, operator.iadd, torch.add, "add", "add_")
_RELUS: tuple[Any, ...] = (torch.relu, torch.relu_, functional.relu, functional.relu_, "relu", "relu_")
_POSITIVE: tuple[Any, ...] = (
    *(torch.sigmoid, functional.sigmoid, "sigmoid", functional.relu6, functional.hardsigmoid),
    *(torch.softmax, functional.softmax, "softmax"),
)
_POSITIVE_MODULES = (nn.ReLU, nn.ReLU6, nn.Sigmoid, nn.Hardsigmoid, nn.Softmax)
_KEEPS_SIGN: tuple[Any, ...] = (
    *(functional.max_pool2d, functional.avg_pool2d, functional.adaptive_avg_pool2d, functional.adaptive_max_pool2d),
    *(functional.dropout, torch.flatten, "flatten", "view", "reshape", "contiguous", "permute", "transpose"),
    *(operator.getitem, "mean", torch.mean, "clone", torch.clone),
)
_KEEPS_SIGN_MODULES = (
    *(nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d),
    *(nn.Dropout, nn.Dropout2d, nn.Identity, nn.Flatten),
)
_KEEPS_ZERO: tuple[Any, ...] = (
    *(torch.tanh, functional.tanh, "tanh", functional.silu, functional.gelu, functional.hardswish),
    *(functional.leaky_relu, functional.relu6, operator.neg, torch.neg),
)
_KEEPS_ZERO_MODULES = (
    *(nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.PReLU, nn.SiLU, nn.Hardswish, nn.GELU, nn.Tanh),
    *(nn.Dropout, nn.Dropout2d, nn.Identity),
)
_JOINS: tuple[Any, ...] = (*_SUMS, operator.mul, torch.mul, "mul", torch.cat, torch.concat)


def is_sum(node: fx.Node) -> bool:
    """Return whether a node adds two tensors and nothing else."""
    both = len(node.args) == 2 and all(isinstance(operand, fx.Node) for operand in node.args)
    return node.op in ("call_function", "call_method") and node.target in _SUMS and both and not node.kwargs


def is_relu(node: fx.Node, symbolic: Symbolic) -> bool:
    """Return whether a node is a ReLU."""
    if node.op == "call_module":
        return type(symbolic.module(node)) is nn.ReLU
    return node.op in ("call_function", "call_method") and node.target in _RELUS


def never_negative(node: fx.Node, symbolic: Symbolic) -> bool:
    """Return whether a tensor has no negative element, whatever the weights and the images are."""
    sources = node.all_input_nodes
    if node.op == "call_module":
        module = symbolic.module(node)
        if isinstance(module, _POSITIVE_MODULES):
            return True
        return isinstance(module, _KEEPS_SIGN_MODULES) and never_negative(sources[0], symbolic)
    if node.op not in ("call_function", "call_method"):
        return False
    if node.target in _RELUS or node.target in _POSITIVE:
        return True
    if node.target is functional.pad:
        filled = node.kwargs.get("value", node.args[3] if len(node.args) > 3 else 0)
        number = 0 if filled is None else filled
        return isinstance(number, int | float) and number >= 0 and never_negative(sources[0], symbolic)
    if node.target in _KEEPS_SIGN:
        return never_negative(sources[0], symbolic)
    if node.target in _JOINS:
        numbers = [value for value in node.args if isinstance(value, int | float)]
        return min(numbers, default=0) >= 0 and all(never_negative(source, symbolic) for source in sources)
    return False


def silenced_by(node: fx.Node, symbolic: Symbolic) -> str | None:
    """Return the module whose outputs, multiplied by zero, make a tensor zero; None if there is no such module."""
    while True:
        if node.op == "call_module":
            module, path = symbolic.module(node), str(node.target)
            if not isinstance(module, _KEEPS_ZERO_MODULES):
                return path if symbolic.times_called(path) == 1 else None
            node = node.all_input_nodes[0]
        elif node.target in (*_RELUS, *_KEEPS_SIGN, *_KEEPS_ZERO):
            node = node.all_input_nodes[0]
        elif node.target in (operator.mul, torch.mul, "mul"):
            found = [silenced_by(source, symbolic) for source in node.all_input_nodes]
            return next((path for path in found if path), None)
        else:
            return None


def positions(nodes: Sequence[fx.Node], symbolic: Symbolic) -> list[list[int]]:
    """Return what each node reads as positions; placeholders count as the input, -1."""
    return [
        [-1 if source.op == "placeholder" else symbolic.position[source] for source in node.all_input_nodes]
        for node in nodes
    ]
