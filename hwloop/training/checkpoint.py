"""Where a training stands, on disk: whole or not at all, and never for another network, recipe or data.

A checkpoint is a dictionary of tensors and plain values, read with `weights_only=True`. Its `state_dict` makes it a
weights file like any other (`hwloop.models.load_weights`). Every step draws from generators of its own, seeded by the
recipe's seed and the step's number (`fit.py`): so the position *is* the state of all random generators.
"""

from __future__ import annotations

import io
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from hwloop.errors import CheckpointError
from hwloop.files import write_atomic
from hwloop.models.weights import load_state, read_checkpoint
from hwloop.training.config import FitConfig

FORMAT = "hwloop checkpoint 1"


@dataclass(frozen=True)
class Position:
    """How far a training is.

    Attributes:
        step: steps done.
        losses: mean training loss of each finished epoch.
        accuracies: share of training images classified correctly in each finished epoch.
        loss_sum: of the steps of the running epoch.
        correct: images that they classified correctly.
    """

    step: int = 0
    losses: tuple[float, ...] = ()
    accuracies: tuple[float, ...] = ()
    loss_sum: float = 0.0
    correct: int = 0


@dataclass(frozen=True)
class Checkpoints:
    """Where and how often a training is saved.

    Attributes:
        path: the file; it is what the training goes on from where it exists.
        about: what else must be the same to go on, by name: the data, the network's description, the teacher.
        every_s: seconds between two savings, besides one after every epoch; 0 saves every step.
        clock: in seconds.
    """

    path: Path
    about: Mapping[str, str] = field(default_factory=dict)
    every_s: float = 30.0
    clock: Callable[[], float] = time.monotonic


def save(
    checkpoints: Checkpoints,
    module: nn.Module,
    optimizer: torch.optim.Optimizer,
    config: FitConfig,
    dtype: str,
    position: Position,
) -> None:
    """Write a checkpoint in the place of the one before.

    Raises:
        CheckpointError: It cannot be written (the disk is full, the folder is gone); the one before is as it was.
    """
    content = {
        "hwloop": FORMAT,
        "state_dict": {name: value.detach().cpu() for name, value in module.state_dict().items()},
        "optimizer": _on_cpu(optimizer.state_dict()),
        "recipe": {**config.to_record(), "dtype": dtype},
        "about": dict(checkpoints.about),
        "position": asdict(position),
    }
    buffer = io.BytesIO()
    torch.save(content, buffer)
    try:
        write_atomic(checkpoints.path, buffer.getvalue())
    except OSError as error:
        kept = "the one before is as it was" if checkpoints.path.exists() else "there is none yet"
        raise CheckpointError(
            f"{checkpoints.path}: the checkpoint after step {position.step} cannot be written ({error.strerror}), "
            f"{kept}: make room and run the same command again to go on"
        ) from error


def restore(
    checkpoints: Checkpoints, module: nn.Module, optimizer: torch.optim.Optimizer, config: FitConfig, dtype: str
) -> Position:
    """Load a checkpoint where there is one, and remove what a killed run left half-written beside it.

    Returns:
        The position; that of the beginning without a checkpoint.

    Raises:
        ModelError: The file cannot be read safely, or holds weights of another network.
        CheckpointError: It is no checkpoint of a training, or one of another recipe or other data.
    """
    path = checkpoints.path
    for left in path.parent.glob(f".{path.name}.*.tmp"):
        left.unlink(missing_ok=True)
    if not path.exists():
        return Position()
    found = read_training(path)
    remedy = "run it as before, or write to another file"
    load_state(module, found["state_dict"], path)
    _require_same(path, found["recipe"], {**config.to_record(), "dtype": dtype}, "another recipe", remedy)
    _require_same(path, found["about"], dict(checkpoints.about), "another training", remedy)
    try:
        optimizer.load_state_dict(found["optimizer"])
        return Position(**found["position"])
    except (ValueError, KeyError, TypeError) as error:
        raise CheckpointError(
            f"{path}: is damaged ({' '.join(str(error).split())}): delete it to begin anew"
        ) from error


def read_training(path: Path) -> dict[str, Any]:
    """Read a checkpoint of a training as plain data.

    Raises:
        ModelError: The file is missing or cannot be read safely.
        CheckpointError: It is something else than a checkpoint of a training, such as weights alone.
    """
    found = read_checkpoint(path)
    if found.get("hwloop") != FORMAT:
        raise CheckpointError(f"{path}: holds no state of a training to go on with: write to another file")
    return found


def _require_same(path: Path, kept: Mapping[str, Any], wanted: Mapping[str, Any], what: str, remedy: str) -> None:
    differing = [name for name in {**wanted, **kept} if kept.get(name) != wanted.get(name)]
    if differing:
        told = "; ".join(
            f"{name} is {_short(kept.get(name))} there and {_short(wanted.get(name))} now" for name in differing[:3]
        )
        raise CheckpointError(f"{path}: is of {what} ({told}): {remedy}")


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 60 else f"{text[:57]}…"


def _on_cpu(state: Any) -> Any:
    if isinstance(state, Tensor):
        return state.detach().cpu()
    if isinstance(state, dict):
        return {key: _on_cpu(value) for key, value in state.items()}
    if isinstance(state, list):
        return [_on_cpu(value) for value in state]
    return state
