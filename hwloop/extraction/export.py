"""The one place where a torch module becomes an ONNX file."""

from __future__ import annotations

import io
import logging
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import MappingProxyType
from typing import Any

import onnx
import torch
from torch import nn

from hwloop.errors import ModelError

OPSET = 17
BATCH_AXIS = "batch"
INPUT_NAME = "input"
OUTPUT_NAME = "output"

_NO_METADATA: Mapping[str, str] = MappingProxyType({})


def export_onnx(
    module: nn.Module,
    input_shape: tuple[int, ...],
    *,
    fold: bool,
    metadata: Mapping[str, str] = _NO_METADATA,
) -> bytes:
    """Write a module as an ONNX model in inference mode with a symbolic batch.

    Uses torch's TorchScript exporter: it is 10 to 20 times faster than the torch.export based one, and names the
    weights by module path. The same module gives the same bytes.

    Args:
        module: left as it was: weights, device, training flag of every submodule.
        input_shape: of one example, without the batch: (channels, height, width).
        fold: True folds batch normalisation into convolutions, which is what is shipped and measured. False keeps
            every batch normalisation and every parameter under its own name, which is what is read.
        metadata: written into the model's `metadata_props`.

    Returns:
        The serialised model; its input is called "input", its output "output", the first axis "batch"; opset 17.

    Raises:
        ModelError: torch cannot export the module; the text is one line with torch's reason.
    """
    mode = torch.onnx.TrainingMode.EVAL if fold else torch.onnx.TrainingMode.PRESERVE
    file: Any = io.BytesIO()  # accepted by this exporter, though torch's annotation only knows paths
    axes = {INPUT_NAME: {0: BATCH_AXIS}, OUTPUT_NAME: {0: BATCH_AXIS}}
    try:
        with _inference_mode(module), _silence():
            torch.onnx.export(
                module,
                (_example(module, input_shape),),
                file,
                dynamo=False,
                opset_version=OPSET,
                training=mode,
                do_constant_folding=fold,
                input_names=[INPUT_NAME],
                output_names=[OUTPUT_NAME],
                dynamic_axes=axes,
            )
    except Exception as error:  # torch raises whatever the module's forward and its own passes raise
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        raise ModelError(
            f"{type(module).__name__} cannot be exported to ONNX for an input of {tuple(input_shape)}: {reason}"
        ) from error
    exported: bytes = file.getvalue()
    if not metadata:
        return exported
    proto = onnx.load_model_from_string(exported)
    onnx.helper.set_model_props(proto, dict(sorted(metadata.items())))
    return bytes(proto.SerializeToString(deterministic=True))


def _example(module: nn.Module, input_shape: tuple[int, ...]) -> torch.Tensor:
    parameter = next(module.parameters(), None)
    if parameter is None:
        return torch.zeros(1, *input_shape)
    return torch.zeros(1, *input_shape, dtype=parameter.dtype, device=parameter.device)


@contextmanager
def _inference_mode(module: nn.Module) -> Iterator[None]:
    """Evaluation mode, then every submodule's own flag again (`train(True)` would flip the frozen ones)."""
    training = [(part, part.training) for part in module.modules()]
    module.eval()
    try:
        yield
    finally:
        for part, flag in training:
            part.training = flag


@contextmanager
def _silence() -> Iterator[None]:
    """Keep the exporter's deprecation and tracing warnings, and its log lines, from the user."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
