"""Running a network for a criterion: on a copy, with one tensor of logits, with errors that name the criterion."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from hwloop.errors import ModelError


def working_copy(module: nn.Module) -> nn.Module:
    """Return a copy to work on, in evaluation mode and without gradients: the original stays as it is."""
    return copy.deepcopy(module).eval().requires_grad_(False)


def device_of(module: nn.Module) -> torch.device:
    """Return the device of a network's parameters; the processor where it has none."""
    return next((parameter.device for parameter in module.parameters()), torch.device("cpu"))


def logits_of(module: nn.Module, images: Tensor, criterion: str) -> Tensor:
    """Return a network's logits, (n, k).

    Raises:
        ModelError: It gives something else, from which no loss can be computed.
    """
    found = module(images)
    if not isinstance(found, Tensor) or found.dim() != 2:
        raise ModelError(
            f"criterion {criterion!r} needs a network that gives one tensor of logits (n, classes), and "
            f"{type(module).__name__} does not: wrap it in a module that does, or choose a criterion that looks at "
            "weights or activations"
        )
    return found


@contextmanager
def explained(module: nn.Module, criterion: str) -> Iterator[None]:
    """Turn what a network or a loss raises on images that do not fit into one clear line."""
    try:
        yield
    except (RuntimeError, IndexError, ValueError, TypeError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ModelError(
            f"criterion {criterion!r}: {type(module).__name__} fails on the images it was given: {reason}"
        ) from error
