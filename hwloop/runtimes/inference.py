"""Exported networks, called on this machine as a plain user of their runtime calls them: images in, logits out.

For counting right answers; nothing here is timed. What an exported file computes is all that is looked at, so a wrong
export cannot hide behind the module that it was made from.
"""

from __future__ import annotations

import io
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hwloop.errors import HwloopError, ModelError, UserError
from hwloop.runtimes.tvm.extra import load as load_tvm

Floats = NDArray[np.float32]
Classifier = Callable[[Floats], Floats]
"""Images (n, c, h, w) to logits (n, k)."""

BATCH = 250
"""Images per call where the file takes any number: large enough for speed."""

REMEDY = "pip install 'hwloop[tflite]'"


def open_exported(data: bytes, suffix: str, label: str) -> Classifier:
    """Open an exported network.

    A TVM library and what torch.export wrote are programs: open such files of people whom you trust.

    Args:
        data: the file.
        suffix: ".onnx", ".tflite", ".pt2" (torch.export) or ".so" (TVM, for this machine's processor).
        label: for messages.

    Returns:
        The network; it raises `ModelError` on images that it does not take.

    Raises:
        ModelError: The file cannot be opened, or has another kind of inputs than images.
        UserError: The runtime is not installed, or there is none for this suffix.
    """
    if suffix not in _OPENERS:
        raise UserError(
            f"{label}: exported networks are called as {', '.join(_OPENERS)}, not {suffix or 'without suffix'}"
        )
    try:
        once, batch = _OPENERS[suffix](data)
    except HwloopError:
        raise
    except Exception as error:  # every runtime has errors of its own
        raise ModelError(f"{label}: cannot be opened ({_line(error)})") from error

    def classify(images: Floats) -> Floats:
        try:
            parts = [once(images[start : start + batch]) for start in range(0, len(images), batch)]
            return np.concatenate(parts).astype(np.float32)
        except Exception as error:
            raise ModelError(f"{label}: does not take images of shape {images.shape[1:]}: {_line(error)}") from error

    return classify


def _onnx(data: bytes) -> tuple[Classifier, int]:
    import onnxruntime

    session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
    first = session.get_inputs()[0]

    def once(images: Floats) -> Floats:
        logits: Floats = session.run(None, {first.name: images})[0]
        return logits

    return once, first.shape[0] if isinstance(first.shape[0], int) else BATCH


def _tflite(data: bytes) -> tuple[Classifier, int]:
    try:
        from ai_edge_litert.interpreter import Interpreter
    except ImportError as error:
        raise UserError(
            f"TFLite files are called by ai-edge-litert, which cannot be imported ({error}): {REMEDY}"
        ) from error
    interpreter = Interpreter(model_content=data, num_threads=1)
    interpreter.allocate_tensors()
    entry, result = interpreter.get_input_details()[0], interpreter.get_output_details()[0]

    def once(images: Floats) -> Floats:
        interpreter.set_tensor(entry["index"], _stored(np.ascontiguousarray(images.transpose(0, 2, 3, 1)), entry))
        interpreter.invoke()
        return _real(interpreter.get_tensor(result["index"]), result)

    return once, int(entry["shape"][0])


def _stored(values: Floats, tensor: dict[str, Any]) -> NDArray[Any]:
    """Real numbers as a tensor holds them: as integers where it is quantised."""
    scale, zero = tensor["quantization"]
    if not scale:
        return values
    limits = np.iinfo(tensor["dtype"])
    stored: NDArray[Any] = np.clip(np.round(values / scale + zero), limits.min, limits.max).astype(tensor["dtype"])
    return stored


def _real(values: NDArray[Any], tensor: dict[str, Any]) -> Floats:
    scale, zero = tensor["quantization"]
    real: Floats = ((values.astype(np.float32) - zero) * scale) if scale else values.astype(np.float32)
    return real


def _exported_program(data: bytes) -> tuple[Classifier, int]:
    import torch

    program: Any = torch.export.load(io.BytesIO(data)).module()

    def once(images: Floats) -> Floats:
        with torch.inference_mode():
            logits: Floats = program(torch.from_numpy(np.ascontiguousarray(images))).numpy()
        return logits

    return once, BATCH


def _tvm(data: bytes) -> tuple[Classifier, int]:
    tvm, relax = load_tvm(), load_tvm("tvm.relax")
    folder = tempfile.TemporaryDirectory(prefix="hwloop-")
    path = Path(folder.name) / "network.so"
    path.write_bytes(data)
    machine = relax.VirtualMachine(tvm.runtime.load_module(str(path)), tvm.cpu())

    def once(images: Floats) -> Floats:
        assert folder  # lives as long as the library is used
        found = machine["main"](tvm.runtime.tensor(np.ascontiguousarray(images)))
        logits: Floats = (found if hasattr(found, "numpy") else found[0]).numpy()
        return logits

    return once, 1


_OPENERS: dict[str, Callable[[bytes], tuple[Classifier, int]]] = {
    ".onnx": _onnx,
    ".tflite": _tflite,
    ".pt2": _exported_program,
    ".so": _tvm,
}
SUFFIXES = tuple(_OPENERS)
"""Of the files that `open_exported` opens."""


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())[:300] or type(error).__name__
