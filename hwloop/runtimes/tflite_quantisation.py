"""Post-training quantisation of TFLite models, by Google's ai-edge-quantizer."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from hwloop.errors import ModelError, UserError
from hwloop.runtimes.artifact import InputSpec
from hwloop.runtimes.seeding import Array
from hwloop.runtimes.silence import silence
from hwloop.runtimes.tflite_builder import SIGNATURE

CALIBRATION_THREADS = 1
"""Of the interpreter that observes the ranges: with more, sums come in another order, and so do the bytes."""
SEEDED_EXAMPLES = 8
"""Examples drawn for the ranges where none are given."""

PRECISIONS = ("float32", "float16", "int8", "int8_dynamic")
"""float16: weights only, computed in float32. int8: weights per channel and activations per tensor, inputs and outputs
too. int8_dynamic: weights per channel, activations as they come, float32 inputs and outputs."""

Feed = Mapping[str, Array]


def quantised(model: bytes, precision: str, examples: Callable[[], Sequence[Feed]]) -> bytes:
    """A model with other numbers in it.

    Args:
        model: float32, with the signature `SIGNATURE`.
        precision: one of `PRECISIONS`.
        examples: gives inputs by name, whose activations' ranges an int8 model keeps; asked for that only.

    Returns:
        The model; the same arguments give the same bytes.

    Raises:
        ModelError: the quantiser cannot do it.
        UserError: ai-edge-quantizer is not installed.
    """
    if precision == "float32":
        return model
    try:
        from ai_edge_quantizer import qtyping, quantizer, recipe
    except ImportError as error:
        raise UserError(
            f"{precision} models need ai-edge-quantizer ({error}): install it with pip install 'hwloop[tflite]'"
        ) from error
    work = quantizer.Quantizer(model)
    if precision == "float16":
        half = qtyping.TensorQuantizationConfig(num_bits=16, dtype=qtyping.TensorDataType.FLOAT)
        work.update_quantization_recipe(
            regex=".*",
            operation_name=qtyping.TFLOperationName.ALL_SUPPORTED,
            op_config=qtyping.OpQuantizationConfig(
                weight_tensor_config=half, compute_precision=qtyping.ComputePrecision.FLOAT
            ),
            algorithm_key="float_casting",
        )
    else:
        work.load_quantization_recipe(recipe.static_wi8_ai8() if precision == "int8" else recipe.dynamic_wi8_afp32())
    try:
        with silence():
            ranges: Any = None
            if precision == "int8":
                ranges = work.calibrate({SIGNATURE: examples()}, num_threads=CALIBRATION_THREADS)
            result = work.quantize(ranges, enable_progress_bar=False, enable_progress_report=False)
    except (ValueError, RuntimeError, KeyError, TypeError, NotImplementedError) as error:
        reason = " ".join(str(error).split())[:300]
        raise ModelError(f"ai-edge-quantizer cannot make it {precision}: {type(error).__name__}: {reason}") from error
    return bytes(result.quantized_model)


def seeded_examples(inputs: Sequence[InputSpec], count: int = SEEDED_EXAMPLES) -> list[Feed]:
    """Inputs as the agent draws them: those of the measurement first, then of other seeds."""
    return [{one.name: _drawn(one, 1000 * at) for one in inputs} for at in range(count)]


def _drawn(one: InputSpec, offset: int) -> Array:
    random = np.random.default_rng(one.seed + offset)
    values = random.random(one.shape) if one.distribution == "uniform" else random.standard_normal(one.shape)
    return values.astype(np.float32)
