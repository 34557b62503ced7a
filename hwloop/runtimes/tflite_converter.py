"""Whole torch modules as TFLite models by Google's converter, litert-torch: for what hwloop cannot write itself.

It takes torch modules only (through torch.export), seconds a network and more than a gigabyte of packages; hwloop's
own way (`tflite_network`) takes milliseconds. Both give the same operators where both can.
"""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from hwloop.errors import ModelError
from hwloop.runtimes.silence import silence

if TYPE_CHECKING:
    from torch import Tensor, nn

MISSING = "install the converter with pip install 'hwloop[tflite-converter]'"


def converted_model(module: nn.Module, input_shape: tuple[int, ...]) -> bytes:
    """Convert a module, batch 1; an image is taken with its channels last, and so are results of four axes.

    Args:
        module: left as it was.
        input_shape: of one example, without the batch.

    Raises:
        ModelError: the converter is not installed, or cannot convert the module; the text has its reason.
    """
    try:
        with silence():
            import litert_torch
    except ImportError as error:
        raise ModelError(f"litert-torch cannot be imported ({error}): {MISSING}") from error
    import torch

    name = type(module).__name__
    training = [(part, part.training) for part in module.modules()]
    try:
        module.eval()
        example = torch.zeros(1, *input_shape)
        wrapped = module
        if len(input_shape) == 3:
            images = _image_outputs(module, example)
            wrapped = litert_torch.to_channel_last_io(module, args=[0], outputs=images).eval()
            example = example.permute(0, 2, 3, 1).contiguous()
        with silence(), TemporaryDirectory(prefix="hwloop-") as folder:
            path = Path(folder) / "model.tflite"
            litert_torch.convert(wrapped, (example,)).export(str(path))
            return path.read_bytes()
    except Exception as error:  # the converter raises whatever torch, JAX and MLIR raise
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        raise ModelError(f"litert-torch cannot convert {name}: {reason}") from error
    finally:
        for part, flag in training:
            part.training = flag


def _image_outputs(module: nn.Module, example: Tensor) -> list[int]:
    """Which results have four axes."""
    import torch

    with torch.no_grad():
        results = module(example)
    listed = results if isinstance(results, (tuple, list)) else [results]
    return [at for at, one in enumerate(listed) if isinstance(one, torch.Tensor) and one.ndim == 4]
