"""Weights from a file, without ever unpickling code."""

from __future__ import annotations

import pickle
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

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
    found = read_checkpoint(path)
    load_state(module, found["state_dict"] if isinstance(found.get("state_dict"), dict) else found, path)


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Read a dictionary of tensors and plain values, nothing that would run code.

    Raises:
        ModelError: No such file, or one that torch cannot read safely.
    """
    if not path.is_file():
        raise ModelError(f"{path}: no such weights file")
    try:
        damaged = _damaged_part(path)
        if damaged:
            raise ModelError(
                f"{path}: is damaged (the checksum of {damaged} is wrong): take it from where it came from"
            )
        found = torch.load(path, map_location="cpu", weights_only=True)
    except (
        zipfile.BadZipFile,
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
    if not isinstance(found, dict):
        raise ModelError(f"{path}: holds no state_dict (a mapping from parameter names to tensors)")
    return found


def _damaged_part(path: Path) -> str | None:
    """Name the first part of a zip file whose checksum is wrong: torch writes checksums, and does not look at them."""
    if not zipfile.is_zipfile(path):
        return None  # the format of old checkpoints has none
    with zipfile.ZipFile(path) as archive:
        return archive.testzip()


def load_state(module: nn.Module, found: Mapping[Any, Any], path: Path) -> None:
    """Load a `state_dict` into a network, in place and strictly; see `load_weights`.

    Args:
        module: the network; unchanged when an error is raised.
        found: the tensors by parameter name.
        path: where they are from, for messages.

    Raises:
        ModelError: No tensors, or weights of another network.
    """
    if not found or not all(isinstance(value, Tensor) for value in found.values()):
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
