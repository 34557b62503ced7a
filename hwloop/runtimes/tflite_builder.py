"""Writes TFLite models: flatbuffers of schema version 3, through LiteRT's generated object API.

No converter is involved, so a model holds exactly the operators that were asked for, and takes milliseconds. The
same calls give the same bytes.
"""

from __future__ import annotations

from functools import cache
from types import ModuleType
from typing import Any

import numpy as np

from hwloop.errors import UserError
from hwloop.runtimes.seeding import Array

SCHEMA_VERSION = 3
FILE_IDENTIFIER = b"TFL3"
SIGNATURE = "serving_default"
"""Name of the one signature of a model that has any: tools such as ai-edge-quantizer ask for inputs by signature."""
ALIGNMENT = 16
"""Of constants in the file, as the schema demands (`force_align`); runtimes map them and compute from there."""
ROOM_FOR_TABLES = 4096
"""Bytes set aside beside the constants; the buffer grows where they do not suffice."""
LAST_OLD_CODE = 127
"""Operators up to this code are also written into the field that readers of the first schema know."""

BINARY = {
    "add": ("ADD", "AddOptions"),
    "sub": ("SUB", "SubOptions"),
    "mul": ("MUL", "MulOptions"),
    "div": ("DIV", "DivOptions"),
}
"""Elementwise operations: their operator and its options in the schema."""

Shape = tuple[int, ...]


@cache
def schema() -> ModuleType:
    """The generated schema, imported when the first model is built: it takes a quarter of a second.

    Raises:
        UserError: LiteRT is not installed.
    """
    try:
        from ai_edge_litert import schema_py_generated
    except ImportError as error:
        raise UserError(
            f"writing TFLite models needs ai-edge-litert ({error}): install it with pip install 'hwloop[tflite]'"
        ) from error
    module: ModuleType = schema_py_generated
    return module


class TfliteBuilder:
    """Operators, constants and inputs of one model with float32 activations; tensors are named by their index."""

    def __init__(self) -> None:
        """Start a model.

        Raises:
            UserError: LiteRT is not installed.
        """
        self._schema = schema()
        self._tensors: list[Any] = []
        self._buffers: list[Any] = [self._schema.BufferT()]  # the first is empty by convention: "no data"
        self._operators: list[Any] = []
        self._codes: dict[str, int] = {}
        self._inputs: list[int] = []

    def shape(self, tensor: int) -> Shape:
        """The shape of a tensor."""
        return tuple(int(size) for size in self._tensors[tensor].shape)

    def input(self, name: str, shape: Shape) -> int:
        """Declare an input."""
        self._inputs.append(self._tensor(name, shape, np.dtype(np.float32), 0))
        return self._inputs[-1]

    def constant(self, values: Array) -> int:
        """Add a constant."""
        buffer = self._schema.BufferT()
        buffer.data = np.frombuffer(np.ascontiguousarray(values).tobytes(), np.uint8)
        self._buffers.append(buffer)
        return self._tensor(f"constant_{len(self._buffers) - 1}", values.shape, values.dtype, len(self._buffers) - 1)

    def scalar(self, value: float) -> int:
        """Add a constant of rank 0."""
        return self.constant(np.array(value, np.float32))

    def integers(self, *values: int) -> int:
        """Add a constant vector of int32: axes, sizes, paddings."""
        return self.constant(np.array(values, np.int32))

    def op(self, name: str, inputs: tuple[int, ...], shape: Shape, options: str = "", **fields: Any) -> int:
        """Add an operator.

        Args:
            name: as in the schema's `BuiltinOperator`: "CONV_2D".
            inputs: its operands.
            shape: of its output.
            options: the schema's table of its options, "Conv2DOptions"; "" for none.
            **fields: of the options, in the object API's spelling; text is the name of a padding or an activation.

        Returns:
            The output's tensor.
        """
        operator = self._schema.OperatorT()
        operator.opcodeIndex = self._codes.setdefault(name, len(self._codes))
        operator.inputs = np.array(inputs, np.int32)
        output = self._tensor(f"tensor_{len(self._operators)}", shape, np.dtype(np.float32), 0)
        operator.outputs = np.array([output], np.int32)
        if options:
            operator.builtinOptionsType = getattr(self._schema.BuiltinOptions, options)
            operator.builtinOptions = self._options(options, fields)
        self._operators.append(operator)
        return output

    def binary(self, name: str, first: int, second: int, activation: str = "NONE") -> int:
        """Add an operator of `BINARY`, with a fused activation."""
        operator, options = BINARY[name]
        shape = np.broadcast_shapes(self.shape(first), self.shape(second))
        return self.op(operator, (first, second), shape, options, fusedActivationFunction=activation)

    def finish(self, *outputs: int, signature: bool = False) -> bytes:
        """The file.

        Args:
            *outputs: the tensors that the model returns.
            signature: whether inputs and outputs are also listed under `SIGNATURE`.
        """
        graph = self._schema.SubGraphT()
        graph.name = "layer"
        graph.tensors, graph.operators = self._tensors, self._operators
        graph.inputs = np.array(self._inputs, np.int32)
        graph.outputs = np.array(outputs, np.int32)
        model = self._schema.ModelT()
        model.version = SCHEMA_VERSION
        model.description = "hwloop"
        model.operatorCodes = [self._code(name) for name in self._codes]
        model.subgraphs, model.buffers = [graph], self._buffers
        if signature:
            model.signatureDefs = [self._signature(outputs)]
        return _pack(model)

    def _tensor(self, name: str, shape: Shape, dtype: np.dtype[Any], buffer: int) -> int:
        tensor = self._schema.TensorT()
        tensor.name, tensor.buffer, tensor.hasRank = name, buffer, True
        tensor.shape = np.array(shape, np.int32)
        tensor.type = getattr(self._schema.TensorType, dtype.name.upper())
        self._tensors.append(tensor)
        return len(self._tensors) - 1

    def _options(self, name: str, fields: dict[str, Any]) -> Any:
        options = getattr(self._schema, name + "T")()
        enums = {"padding": self._schema.Padding, "fusedActivationFunction": self._schema.ActivationFunctionType}
        for field, value in fields.items():
            if not hasattr(options, field):
                raise AttributeError(f"{name} has no field {field}")
            setattr(options, field, getattr(enums[field], value) if isinstance(value, str) else value)
        return options

    def _code(self, name: str) -> Any:
        code = self._schema.OperatorCodeT()
        code.builtinCode = getattr(self._schema.BuiltinOperator, name)
        code.deprecatedBuiltinCode = min(code.builtinCode, LAST_OLD_CODE)
        code.version = 1
        return code

    def _signature(self, outputs: tuple[int, ...]) -> Any:
        signature = self._schema.SignatureDefT()
        signature.signatureKey, signature.subgraphIndex = SIGNATURE, 0
        signature.inputs = [self._named(tensor) for tensor in self._inputs]
        signature.outputs = [self._named(tensor) for tensor in outputs]
        return signature

    def _named(self, tensor: int) -> Any:
        entry = self._schema.TensorMapT()
        entry.name, entry.tensorIndex = self._tensors[tensor].name, tensor
        return entry


def _pack(model: Any) -> bytes:
    writer = schema().flatbuffers.Builder

    class AlignedBuilder(writer):  # type: ignore[misc, valid-type] # flatbuffers has no types
        """Aligns vectors of bytes, which are the constants, as the schema says and the object API does not."""

        def StartVector(self, elemSize: int, numElems: int, alignment: int) -> Any:  # noqa: N802, N803 - overrides
            return super().StartVector(elemSize, numElems, ALIGNMENT if elemSize == 1 else alignment)

    size = sum(len(buffer.data) for buffer in model.buffers if buffer.data is not None)
    builder = AlignedBuilder(size + ROOM_FOR_TABLES)
    builder.Finish(model.Pack(builder), file_identifier=FILE_IDENTIFIER)
    return bytes(builder.Output())
