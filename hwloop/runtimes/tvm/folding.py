"""Folds what is constant in an ONNX file, with onnxruntime's own optimiser: computed shapes, pads, batch normalisation.

TVM's importer takes pads and shapes from constants only, and torch exports some as small computations.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path

import onnx

from hwloop.errors import ModelError

ERRORS_ONLY = 3


def folded(model: bytes, free_dimensions: Mapping[str, int], label: str) -> onnx.ModelProto:
    """The same network in plain ONNX operators, with every size known.

    Args:
        model: serialised.
        free_dimensions: sizes of symbolic dimensions.
        label: for errors.

    Raises:
        ModelError: onnxruntime cannot read it.
    """
    import onnxruntime  # here, since those who measure layers do not need it

    options = onnxruntime.SessionOptions()
    options.log_severity_level = ERRORS_ONLY
    options.intra_op_num_threads = 1
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    for name, size in sorted(free_dimensions.items()):
        options.add_free_dimension_override_by_name(name, size)
    with tempfile.TemporaryDirectory(prefix="hwloop-tvm-") as folder:
        path = Path(folder) / "folded.onnx"
        options.optimized_model_filepath = str(path)
        try:
            onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime's errors have no common base
            reason = str(error).splitlines()[0][:300]
            raise ModelError(f"{label} cannot be prepared for TVM: {reason}") from error
        return onnx.load(path)
