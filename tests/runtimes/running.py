"""Runs artifacts in the installed runtimes as a plain user would, and looks at the values."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime
from ai_edge_litert.interpreter import Interpreter, OpResolverType

from hwloop.layers import Layer
from hwloop.runtimes import Artifact
from hwloop.runtimes.tflite_layout import TO_NHWC, is_image, output_shape

Arrays = dict[str, np.ndarray]


def session_of(artifact: Artifact, saved: Path | None = None) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    for name, size in artifact.options.get("free_dimensions", {}).items():
        options.add_free_dimension_override_by_name(name, size)
    if saved:
        options.optimized_model_filepath = str(saved)
    return onnxruntime.InferenceSession(artifact.data, options, providers=["CPUExecutionProvider"])


def draw(artifact: Artifact) -> Arrays:
    """Inputs as the agent draws them."""
    feed = {}
    for one in artifact.inputs:
        generator = np.random.default_rng(one.seed)
        values = {
            "normal": generator.standard_normal,
            "uniform": generator.random,
            "integers": lambda shape, generator=generator: generator.integers(0, 100, shape),
        }[one.distribution](one.shape)
        feed[one.name] = np.asarray(values).astype(one.dtype)
    return feed


def assert_sane(output: np.ndarray) -> None:
    assert np.isfinite(output).all()
    assert 1e-6 <= np.abs(output).max() <= 1e6
    tiny = np.abs(output[output != 0])
    assert not (tiny < np.finfo(np.float32).tiny).any(), "subnormal values"


def run_onnx(artifact: Artifact, feed: Arrays) -> np.ndarray:
    (output,) = session_of(artifact).run(None, feed)
    return output


def interpreter_of(artifact: Artifact, feed: Arrays, *, xnnpack: bool = True) -> Interpreter:
    resolver = OpResolverType.AUTO if xnnpack else OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    interpreter = Interpreter(model_content=artifact.data, num_threads=1, experimental_op_resolver_type=resolver)
    interpreter.allocate_tensors()
    for tensor in interpreter.get_input_details():
        interpreter.set_tensor(tensor["index"], feed[tensor["name"]])
    return interpreter


def run_tflite(artifact: Artifact, feed: Arrays, *, xnnpack: bool = True) -> np.ndarray:
    interpreter = interpreter_of(artifact, feed, xnnpack=xnnpack)
    interpreter.invoke()
    (tensor,) = interpreter.get_output_details()
    return interpreter.get_tensor(tensor["index"])


def to_nhwc(layer: Layer, values: np.ndarray) -> np.ndarray:
    """Values in the layer's order as TFLite orders them."""
    return values.transpose(TO_NHWC) if is_image(layer, values.shape) else values


RUN: dict[str, Callable[[Artifact, Arrays], np.ndarray]] = {"onnxruntime": run_onnx, "litert": run_tflite}
"""Runs an artifact in the plain runtime of that name."""
SHAPE: dict[str, Callable[[Layer], tuple[int, ...]]] = {
    "onnxruntime": lambda layer: layer.output_shape,
    "litert": output_shape,
}
"""The output's shape in the runtime of that name."""
