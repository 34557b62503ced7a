"""The accuracy of an exported file, as a plain onnxruntime user would count it."""

from __future__ import annotations

import numpy as np
import onnxruntime

from hwloop.datasets import ImageSet

#: Images per call: large enough for speed; the symbolic batch of the exported file takes any number.
BATCH = 250


def count_correct(model: bytes, images: ImageSet) -> int:
    """How many images the exported network classifies correctly, in onnxruntime on the CPU.

    Args:
        model: an ONNX file with one input (batch, c, h, w) and one output (batch, classes).
        images: normalised as in training, (n, c, h, w).
    """
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    correct = 0
    for start in range(0, len(images.labels), BATCH):
        (logits,) = session.run(None, {name: images.images[start : start + BATCH]})
        correct += int((np.argmax(logits, axis=1) == images.labels[start : start + BATCH]).sum())
    return correct
