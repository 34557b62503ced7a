"""The accuracy of an exported file, as a plain user of its runtime would count it; and the files themselves."""

from __future__ import annotations

import io
import json
import warnings

import numpy as np
import torch
from torch import nn

from hwloop.datasets import ImageSet
from hwloop.errors import ModelError
from hwloop.extraction import export_onnx
from hwloop.extraction.reading import load_onnx
from hwloop.runtimes import get_runtime
from hwloop.runtimes.inference import open_exported
from hwloop.study.network import TrainedNetwork


def count_correct(model: bytes, images: ImageSet, suffix: str = ".onnx", label: str = "the exported network") -> int:
    """How many images an exported network classifies correctly, in its runtime on the CPU.

    Args:
        model: the file.
        images: normalised as in training, (n, c, h, w).
        suffix: of the file; see `open_exported`.
        label: for messages.

    Raises:
        ModelError: It cannot be opened, or does not take the images.
        UserError: Its runtime is not installed.
    """
    logits = open_exported(model, suffix, label)(images.images)
    return int((np.argmax(logits, axis=1) == images.labels).sum())


def onnx_file(network: TrainedNetwork) -> bytes:
    """A network as an ONNX file for any number of images, that says how images are normalised and what classes it has.

    Raises:
        ModelError: torch cannot export it.
    """
    about = network.description
    metadata = {
        "hwloop.mean": json.dumps(list(about.mean)),
        "hwloop.std": json.dumps(list(about.std)),
        "hwloop.classes": json.dumps(list(about.classes)),
    }
    if about.pruned is not None:
        metadata["hwloop.candidate"] = about.pruned.text
    return export_onnx(network.module.eval(), about.input_shape, fold=True, metadata=metadata)


def normalisation(model: bytes) -> tuple[tuple[float, ...], tuple[float, ...]] | None:
    """Mean and standard deviation per channel that an ONNX file of hwloop's says its images need; None: it does not.

    Raises:
        ModelError: it is no ONNX file.
    """
    properties = {one.key: one.value for one in load_onnx(model, "the ONNX file").metadata_props}
    try:
        mean, std = (tuple(map(float, json.loads(properties[f"hwloop.{name}"]))) for name in ("mean", "std"))
    except (KeyError, ValueError, TypeError):
        return None
    return mean, std


def tflite_file(module: nn.Module, input_shape: tuple[int, ...]) -> bytes:
    """A module as a TFLite file, batch 1, channels last; raises as `LiteRtRuntime.module`."""
    return get_runtime("litert").module(module, input_shape).data


def tvm_library(module: nn.Module, input_shape: tuple[int, ...]) -> bytes:
    """A module as a TVM library for this machine, batch 1; raises as `TvmRuntime.module`."""
    return get_runtime("tvm").module(module, input_shape).data


def exported_program(module: nn.Module, input_shape: tuple[int, ...]) -> bytes:
    """A module as torch.export writes it (.pt2), for any number of images.

    Raises:
        ModelError: torch cannot export it.
    """
    batch = torch.export.Dim("batch")
    buffer = io.BytesIO()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            # Two images: torch takes a batch of one for a constant.
            example = torch.zeros(2, *input_shape)
            program = torch.export.export(module.eval(), (example,), dynamic_shapes=({0: batch},), strict=False)
            torch.export.save(program, buffer)
    except Exception as error:  # torch raises whatever the module's forward and its own passes raise
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        raise ModelError(f"{type(module).__name__} cannot be exported by torch for {input_shape}: {reason}") from error
    return buffer.getvalue()
