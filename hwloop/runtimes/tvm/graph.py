"""Reading and rebuilding Relax functions of one dataflow block: what importing an ONNX model gives."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hwloop.runtimes.tvm.extra import load

Array = NDArray[Any]
Emit = Callable[[Any, Any], Any]
"""(builder, value) → the variable or constant that stands for the value from now on."""


def name_of(value: Any) -> str:
    """The operator that a value calls: "relax.add"; "" for what is no call of an operator."""
    operator = getattr(value, "op", None)
    return str(operator.name) if operator is not None and hasattr(operator, "name") else ""


def shape_of(value: Any) -> tuple[int, ...]:
    """The sizes of a tensor, all known."""
    return tuple(int(size) for size in value.ty.shape)


def is_tensor(value: Any) -> bool:
    """Whether a value is a tensor whose shape is known."""
    kind = getattr(value, "ty", None)
    if not isinstance(kind, load("tvm.relax").TensorType) or kind.shape is None:
        return False
    return all(hasattr(size, "value") or isinstance(size, int) for size in kind.shape)


def dtype_of(value: Any) -> str:
    """Name of a tensor's type, as numpy has it."""
    return str(value.ty.dtype)


def constant_of(value: Any) -> Array | None:
    """The values of a constant tensor, or None."""
    if not isinstance(value, load("tvm.ir").GenericConst) or not hasattr(value.value, "numpy"):
        return None
    array: Array = value.value.numpy()
    return array


def scalar_of(value: Any) -> float | None:
    """The number that a constant of one element is, or None."""
    array = constant_of(value)
    return None if array is None or array.size != 1 else float(array.reshape(-1)[0])


def bindings_of(function: Any) -> list[Any]:
    """The variable bindings of a function, in order."""
    return [binding for block in function.body.blocks for binding in block.bindings]


def uses_of(function: Any) -> Counter[Any]:
    """How often each variable is read, the function's result included."""
    counts: Counter[Any] = Counter()
    for binding in bindings_of(function):
        counts.update(variables_in(binding.value))
    counts.update(variables_in(function.body.body))
    return counts


def variables_in(value: Any) -> Iterator[Any]:
    """Every variable that an expression reads, as often as it does."""
    tvm = load()
    if isinstance(value, tvm.ir.Var):
        yield value
    elif isinstance(value, tvm.ir.Tuple):
        for field in value.fields:
            yield from variables_in(field)
    elif isinstance(value, tvm.ir.TupleGetItem):
        yield from variables_in(value.tuple_value)
    elif isinstance(value, tvm.ir.Call):
        for argument in value.args:
            yield from variables_in(argument)


def replaced(value: Any, known: Mapping[Any, Any]) -> Any:
    """An expression with other variables."""
    tvm = load()
    if isinstance(value, tvm.ir.Var):
        return known.get(value, value)
    if isinstance(value, tvm.ir.Tuple):
        return tvm.ir.Tuple([replaced(field, known) for field in value.fields])
    if isinstance(value, tvm.ir.TupleGetItem):
        return tvm.ir.TupleGetItem(replaced(value.tuple_value, known), value.index)
    if isinstance(value, tvm.ir.Call):
        arguments = [replaced(argument, known) for argument in value.args]
        return tvm.ir.Call(value.op, arguments, value.attrs, value.ty_args, ret_ty=value.ty)
    return value


def constant(array: Array) -> Any:
    """A constant tensor."""
    return load("tvm.relax").const(np.ascontiguousarray(array), str(array.dtype))


def rebuild(module: Any, emit: Callable[[Any, Any, dict[Any, Any]], Any]) -> Any:
    """Write `main` again, binding by binding.

    Args:
        module: with a function `main` of one dataflow block; its other functions are kept.
        emit: (builder, binding, known) → what stands for the binding's variable from now on, or None to leave it out;
            `known` maps the variables of the old function.

    Returns:
        A new module.
    """
    relax = load("tvm.relax")
    function = module["main"]
    others = {variable: other for variable, other in module.functions.items() if variable.name_hint != "main"}
    builder = relax.BlockBuilder(load().IRModule(others, attrs=module.attrs))
    known: dict[Any, Any] = {}
    with builder.function("main", list(function.params), attrs=dict(function.attrs or {})):
        with builder.dataflow():
            for binding in bindings_of(function):
                value = emit(builder, binding, known)
                if value is not None:
                    known[binding.var] = value
            result = builder.emit_output(replaced(function.body.body, known))
        builder.emit_func_output(result)
    return builder.get()
