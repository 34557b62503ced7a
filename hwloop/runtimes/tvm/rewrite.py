"""Puts hwloop's kernels in the place of convolutions and matrix products, with what can be fused behind them."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from hwloop.runtimes.tvm import kernels
from hwloop.runtimes.tvm.extra import load
from hwloop.runtimes.tvm.graph import (
    Array,
    bindings_of,
    constant,
    constant_of,
    dtype_of,
    is_tensor,
    name_of,
    rebuild,
    replaced,
    scalar_of,
    shape_of,
    uses_of,
    variables_in,
)
from hwloop.runtimes.tvm.schedule import Schedule
from hwloop.runtimes.tvm.task import ConvTask, DenseTask, Epilogue, Task

WIDEST = 16
"""Values in the widest vector of any target: what rows of data must have room for."""
SITES = ("relax.nn.conv2d", "relax.matmul")
"""Operators that a kernel of hwloop can compute."""
HEAVY = (*SITES, "relax.nn.conv1d", "relax.nn.conv3d", "relax.nn.conv2d_transpose")
"""Operators in which a network spends its time."""

Choose = Callable[[Task], Schedule]


@dataclass
class Site:
    """One convolution or product, what is fused behind it, and where its tensors are.

    Attributes:
        task: what is computed.
        data: the input.
        weight: not yet packed; of shape `task.weight_shape`; a variable where it is data.
        shape: of the output, as the network has it.
        last: the variable that the fused result is bound to.
        bias: one value per output channel, or None.
        residual: a variable, or None.
    """

    task: Task
    data: Any
    weight: Any
    shape: tuple[int, ...]
    last: Any
    bias: Array | None = None
    residual: Any = None
    absorbed: list[Any] = field(default_factory=list)


def find_sites(module: Any) -> list[Site]:
    """Everything in `main` that a kernel of hwloop can compute, in order."""
    function = module["main"]
    bindings = bindings_of(function)
    uses = uses_of(function)
    readers: dict[Any, Any] = {}
    for binding in bindings:
        for variable in variables_in(binding.value):
            readers[variable] = binding
    returned = set(variables_in(function.body.body))
    taken: set[Any] = set()
    sites = []
    for binding in bindings:
        site = _site(binding)
        if site is None:
            continue
        _absorb(site, uses, readers, returned, taken)
        taken.update(site.absorbed)
        sites.append(site)
    return sites


def count_left_over(module: Any) -> int:
    """How many convolutions and products of `main` no kernel of hwloop computes: those of two data tensors, say."""
    heavy = sum(name_of(binding.value) in HEAVY for binding in bindings_of(module["main"]))
    return heavy - len(find_sites(module))


def rewrite(module: Any, choose: Choose, lanes: int) -> Any:
    """Replace every site by a call of its kernel.

    Args:
        module: simplified.
        choose: the schedule of a task.
        lanes: of the target's vectors.

    Returns:
        A new module, in which each kernel is a private function; equal tasks share one.
    """
    sites = {site.last: site for site in find_sites(module)}
    gone = {variable for site in sites.values() for variable in (*site.absorbed,)} - set(sites)
    functions: dict[tuple[Task, Schedule], Any] = {}
    relax = load("tvm.relax")

    def emit(builder: Any, binding: Any, known: dict[Any, Any]) -> Any:
        site = sites.get(binding.var)
        if site is None:
            return None if binding.var in gone else builder.emit(replaced(binding.value, known))
        schedule = choose(site.task)
        if (site.task, schedule) not in functions:
            kind = schedule.kind if isinstance(site.task, DenseTask) else f"conv_{schedule.kind}"
            name = f"{kind}_{len(functions)}"  # profiles show it, and are mapped to layers by the word in it
            functions[site.task, schedule] = builder.add_func(kernels.build(site.task, schedule, lanes, name), name)

        def shaped(value: Any, shape: tuple[int, ...]) -> Any:
            return value if shape_of(value) == shape else builder.emit(relax.op.reshape(value, shape))

        arguments = [shaped(replaced(site.data, known), site.task.input_shape)]
        if isinstance(site.task, DenseTask) and site.task.pairs:
            arguments.append(shaped(replaced(site.weight, known), site.task.weight_shape))
        else:
            arguments.append(constant(kernels.pack(site.task, schedule, lanes, site.weight)))
        if site.bias is not None:
            arguments.append(constant(site.bias))
        if site.residual is not None:
            arguments.append(shaped(replaced(site.residual, known), site.task.output_shape))
        result = relax.TensorType(site.task.output_shape, "float32")
        value = builder.emit(relax.call_tir(functions[site.task, schedule], load("tvm.ir").Tuple(arguments), result))
        return shaped(value, site.shape)

    return rebuild(module, emit)


def _site(binding: Any) -> Site | None:
    value = binding.value
    name = name_of(value)
    if name not in SITES:
        return None
    if not all(is_tensor(one) for one in value.args[:2]) or dtype_of(binding.var) != "float32":
        return None
    shape = shape_of(binding.var)
    weight = constant_of(value.args[1])
    if weight is None:
        pairs = _pairs(value) if name == "relax.matmul" else None
        left, right = value.args[:2]
        return None if pairs is None else Site(pairs, left, right, shape, binding.var, absorbed=[binding.var])
    task = _dense(value, weight) if name == "relax.matmul" else _convolution(value, weight)
    return None if task is None else Site(task, value.args[0], weight, shape, binding.var, absorbed=[binding.var])


def _convolution(call: Any, weight: Array) -> ConvTask | None:
    attributes = call.attrs
    shape = shape_of(call.args[0])
    if (attributes.data_layout, attributes.kernel_layout, len(shape)) != ("NCHW", "OIHW", 4):
        return None
    top, left, bottom, right = (int(one) for one in attributes.padding)
    return ConvTask(
        batch=shape[0],
        channels=shape[1],
        size=(shape[2], shape[3]),
        filters=weight.shape[0],
        kernel=(weight.shape[2], weight.shape[3]),
        stride=_pair(attributes.strides),
        padding=(top, left, bottom, right),
        dilation=_pair(attributes.dilation),
        groups=int(attributes.groups),
    )


def _pair(values: Any) -> tuple[int, int]:
    first, second = (int(one) for one in values)
    return first, second


def _dense(call: Any, weight: Array) -> DenseTask | None:
    shape = shape_of(call.args[0])
    if weight.ndim != 2 or len(shape) < 2:
        return None
    return DenseTask(math.prod(shape[:-1]), shape[-1], weight.shape[1])


def _pairs(call: Any) -> DenseTask | None:
    """Both sides data: pairs of matrices of the same number, whose rows have room for a vector."""
    left, right = shape_of(call.args[0]), shape_of(call.args[1])
    if constant_of(call.args[0]) is not None or len(left) < 3 or left[:-2] != right[:-2] or right[-1] < WIDEST:
        return None
    return DenseTask(left[-2], left[-1], right[-1], pairs=math.prod(left[:-2]))


def _absorb(
    site: Site,
    uses: Counter[Any],
    readers: dict[Any, Any],
    returned: set[Any],
    taken: set[Any],
) -> None:
    """Fuse the operations that follow, as long as each is the only reader of the one before."""
    while uses[site.last] == 1 and site.last not in returned and site.last in readers:
        binding = readers[site.last]
        if binding.var in taken or not _join(site, binding.value):
            return
        site.last = binding.var
        site.absorbed.append(binding.var)


def _join(site: Site, value: Any) -> bool:
    """Make an operation part of the site's epilogue; False when it cannot be."""
    name, epilogue = name_of(value), site.task.epilogue
    if name == "relax.add" and not epilogue.activated:
        first, second = value.args
        return _add(site, second if first.same_as(site.last) else first)
    joined = _activation(name, value, epilogue, site)
    if joined is None:
        return False
    site.task = replace(site.task, epilogue=joined)
    return True


def _activation(name: str, value: Any, epilogue: Epilogue, site: Site) -> Epilogue | None:
    if name == "relax.nn.relu" and epilogue.low is None and epilogue.high is None:
        return replace(epilogue, low=0.0)
    if name == "relax.nn.leakyrelu" and not epilogue.activated:
        return replace(epilogue, slope=float(value.attrs.alpha))
    if name in ("relax.maximum", "relax.minimum"):
        first, second = value.args
        bound = scalar_of(second if first.same_as(site.last) else first)
        if bound is None:
            return None
        if name == "relax.maximum" and epilogue.low is None and epilogue.high is None:
            return replace(epilogue, low=bound)
        if name == "relax.minimum" and epilogue.high is None:
            return replace(epilogue, high=bound)
    return None


def _add(site: Site, other: Any) -> bool:
    """Add a constant per channel (the bias) or a tensor of the output's shape (a residual)."""
    if not is_tensor(other) or dtype_of(other) != "float32":
        return False
    values = constant_of(other)
    if values is not None:
        bias = _per_channel(site, values)
        if bias is None:
            return False
        site.bias = bias if site.bias is None else site.bias + bias
        site.task = replace(site.task, epilogue=replace(site.task.epilogue, bias=True))
        return True
    if site.residual is not None or shape_of(other) != site.shape or other.same_as(site.last):
        return False
    site.residual = other
    site.task = replace(site.task, epilogue=replace(site.task.epilogue, residual=True))
    return True


def _per_channel(site: Site, values: Array) -> Array | None:
    """A constant as one value per output channel; None when it varies along another axis."""
    rank, axis = len(site.shape), 1 if isinstance(site.task, ConvTask) else len(site.shape) - 1
    if values.ndim > rank:
        return None
    shape = (1,) * (rank - values.ndim) + values.shape
    if any(size != 1 for at, size in enumerate(shape) if at != axis):
        return None
    return np.ascontiguousarray(np.broadcast_to(values.reshape(-1), (site.shape[axis],)), np.float32)
