"""Weights from a file, without ever unpickling code."""

from __future__ import annotations

import pickle
from pathlib import Path

import torch
from torch import Tensor, nn

from hwloop.errors import ModelError

_PARALLEL_PREFIX = "module."  # left in the keys by nn.DataParallel


def load_weights(module: nn.Module, path: Path | str) -> None:
    """Load a checkpoint into a network, in place and strictly.

    Reads a plain `state_dict`, or a checkpoint that holds one under `state_dict`; a `module.` prefix on every
    key is dropped. Only tensors are read (`weights_only=True`): a file that would run code is refused.

    Args:
        module: the network; unchanged when an error is raised.
        path: the checkpoint.

    Raises:
        ModelError: No such file, a file that torch cannot read safely, or weights of another network (the
            first keys that differ are named).
    """
    path = Path(path)
    if not path.is_file():
        raise ModelError(f"{path}: no such weights file")
    try:
        found = torch.load(path, map_location="cpu", weights_only=True)
    except (
        pickle.UnpicklingError,
        RuntimeError,
        EOFError,
        OSError,
        ValueError,
        KeyError,
        TypeError,
    ) as error:
        raise ModelError(
            f"{path}: not a checkpoint of tensors that torch can load safely ({type(error).__name__})"
        ) from error
    if isinstance(found, dict) and isinstance(found.get("state_dict"), dict):
        found = found["state_dict"]
    if not isinstance(found, dict) or not found or not all(isinstance(value, Tensor) for value in found.values()):
        raise ModelError(f"{path}: holds no state_dict (a mapping from parameter names to tensors)")
    state: dict[str, Tensor] = {str(key): value for key, value in found.items()}
    if all(key.startswith(_PARALLEL_PREFIX) for key in state):
        state = {key.removeprefix(_PARALLEL_PREFIX): value for key, value in state.items()}
    wanted: dict[str, Tensor] = module.state_dict()
    for key in wanted:
        if key.endswith("num_batches_tracked"):  # older checkpoints lack these counters; they change nothing
            state.setdefault(key, wanted[key])
    _check(path, wanted, state)
    module.load_state_dict(state, strict=True)


def _check(path: Path, wanted: dict[str, Tensor], given: dict[str, Tensor]) -> None:
    problems = [
        *(f"{key} is missing" for key in wanted if key not in given),
        *(f"{key} is unknown to the network" for key in given if key not in wanted),
        *(
            f"{key} has shape {tuple(given[key].shape)}, the network wants {tuple(tensor.shape)}"
            for key, tensor in wanted.items()
            if key in given and given[key].shape != tensor.shape
        ),
    ]
    if problems:
        more = f" and {len(problems) - 3} more" if len(problems) > 3 else ""
        raise ModelError(f"{path}: weights of another network: {'; '.join(problems[:3])}{more}")
