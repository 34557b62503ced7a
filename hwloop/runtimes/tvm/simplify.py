"""Computes at compile time what an imported ONNX model leaves to run time though it is known.

That is: the shapes of biases, transposed weights, the bounds of a Clip, the factors of a batch normalisation.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from hwloop.runtimes.tvm.extra import load
from hwloop.runtimes.tvm.graph import Array, constant, constant_of, dtype_of, name_of, rebuild, replaced, scalar_of

BOUNDS = {"maximum": "maximum", "minimum": "minimum"}
"""Functions that TVM's importer writes for the bounds of a Clip, and the operators that they are."""


def simplify(module: Any) -> Any:
    """Fold constants and bring bounds back into operators that can be fused.

    Args:
        module: as imported.

    Returns:
        A module whose `main` computes the same.
    """
    return rebuild(module, _emit)


def _emit(builder: Any, binding: Any, known: dict[Any, Any]) -> Any:
    relax = load("tvm.relax")
    value = replaced(binding.value, known)
    if isinstance(value, load("tvm.ir").Var):
        return value
    if isinstance(value, load("tvm.ir").TupleGetItem) and isinstance(value.tuple_value, load("tvm.ir").Tuple):
        return value.tuple_value.fields[value.index]
    name = name_of(value)
    if name in _FOLD and all(constant_of(one) is not None for one in value.args if _is_operand(one)):
        return constant(_FOLD[name](value))
    if name == "relax.nn.max_pool2d" and _does_nothing(value.attrs):
        return value.args[0]
    if name == "relax.sigmoid" and dtype_of(value.args[0]) == "float32":
        return _sigmoid(builder, value.args[0])
    if name == "relax.take" and value.attrs.mode == "fast":  # which reads wherever an index points
        return builder.emit(relax.op.take(*value.args, axis=value.attrs.axis, mode="clip"))
    if name == "relax.nn.batch_norm" and all(constant_of(one) is not None for one in value.args[1:]):
        return _normalised(builder, value)
    bound = _bound(value) if name == "relax.call_tir" else None
    if bound is not None:
        operator, operand, limit = bound
        return builder.emit(getattr(relax.op, operator)(operand, relax.const(limit, "float32")))
    return builder.emit(value)


def _sigmoid(builder: Any, value: Any) -> Any:
    """A sigmoid by the hyperbolic tangent, of which TVM has a rational approximation that vectors can compute."""
    relax = load("tvm.relax")
    half = relax.const(0.5, "float32")
    curve = builder.emit(relax.op.tanh(builder.emit(relax.op.multiply(value, half))))
    return builder.emit(relax.op.add(builder.emit(relax.op.multiply(curve, half)), half))


def _normalised(builder: Any, call: Any) -> Any:
    """A batch normalisation as one factor and one addend per channel; its statistics stay what they are."""
    relax = load("tvm.relax")
    scale, shift, mean, variance = (_array(call, at).astype(np.float64) for at in range(1, 5))
    factor = scale / np.sqrt(variance + float(call.attrs.epsilon))
    shape = [-1 if axis == int(call.attrs.axis) else 1 for axis in range(len(call.args[0].ty.shape))]
    factors, addends = (one.astype(np.float32).reshape(shape) for one in (factor, shift - mean * factor))
    scaled = builder.emit(relax.op.multiply(call.args[0], constant(factors)))
    return load("tvm.ir").Tuple([builder.emit(relax.op.add(scaled, constant(addends))), call.args[3], call.args[4]])


def _is_operand(value: Any) -> bool:
    return not isinstance(value, load("tvm.relax").ShapeExpr)


def _does_nothing(attributes: Any) -> bool:
    """Whether a pool is one pixel wide, as `onnx_layers` writes it for onnxruntime's sake."""
    sizes = (*attributes.pool_size, *attributes.strides)
    return all(int(one) == 1 for one in sizes) and not any(int(one) for one in attributes.padding)


def _bound(call: Any) -> tuple[str, Any, float] | None:
    """Operator, operand and bound of a call of a function that compares a tensor with a constant."""
    kind = BOUNDS.get(call.args[0].name_hint.rstrip("_0123456789"))
    operands = call.args[1].fields
    if kind is None or len(operands) != 2 or str(operands[0].ty.dtype) != "float32":
        return None
    limit = scalar_of(operands[1])
    return None if limit is None else (kind, operands[0], limit)


def _array(call: Any, at: int = 0) -> Array:
    found = constant_of(call.args[at])
    assert found is not None
    return found


_FOLD: dict[str, Callable[[Any], Array]] = {
    "relax.reshape": lambda call: _array(call).reshape([int(size) for size in call.args[1].values]),
    "relax.permute_dims": lambda call: np.transpose(
        _array(call), None if call.attrs.axes is None else [int(axis) for axis in call.attrs.axes]
    ),
    "relax.isnan": lambda call: np.isnan(_array(call)),
    "relax.where": lambda call: np.where(_array(call, 0), _array(call, 1), _array(call, 2)),
}
