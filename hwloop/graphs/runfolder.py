"""The folder of a pruning run: what was asked for, a journal of rounds, a checkpoint for each; one process at a time.

::

    run.json           the settings, with the fingerprint of the data
    rounds.ndjson      journal: one record for each finished round, round 0 being the network unpruned
    round-03.pt        masks, kept edges, the ticket's and the masker's weights after round 3
"""

from __future__ import annotations

import fcntl
import io
import json
import os
import pickle
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor

from hwloop.errors import StudyError
from hwloop.files import write_atomic
from hwloop.graphs.masks import Masks
from hwloop.graphs.training import State
from hwloop_agent.journal import Journal


@dataclass(frozen=True)
class Round:
    """A finished round.

    Attributes:
        round: 0 is the network and its graphs unpruned.
        edge_sparsity: share of all edges that is cut.
        weight_sparsity: share of all weights that is cut.
        validation: accuracy of the ticket at its best epoch.
        validation_loss: its loss there.
        test: its accuracy on the test split; nothing is chosen by it.
        epoch: the best, from 0.
        seconds: the round took.
    """

    round: int
    edge_sparsity: float
    weight_sparsity: float
    validation: float
    validation_loss: float
    test: float
    epoch: int
    seconds: float


@dataclass(frozen=True)
class Checkpoint:
    """What the next round needs, and what a finished one is exported from.

    Attributes:
        masks: of the weights.
        edges: for each graph of the set, a bool mask over its original edges.
        ticket: the trained network's state.
        masker: the state of ICPG's masker; None for other methods and round 0.
    """

    masks: Masks
    edges: list[Tensor]
    ticket: State
    masker: State | None

    def to_bytes(self) -> bytes:
        """The file."""
        buffer = io.BytesIO()
        sizes = [len(one) for one in self.edges]
        content = {"masks": self.masks, "edges": torch.cat(self.edges), "sizes": sizes}
        torch.save({**content, "ticket": self.ticket, "masker": self.masker}, buffer)
        return buffer.getvalue()

    @classmethod
    def load(cls, path: Path) -> Checkpoint:
        """Read a checkpoint; tensors only, nothing in it is run.

        Raises:
            StudyError: it is missing or damaged.
        """
        try:
            content = torch.load(path, weights_only=True)
            edges = list(torch.split(content["edges"], content["sizes"]))
            return cls(content["masks"], edges, content["ticket"], content["masker"])
        except (OSError, RuntimeError, KeyError, EOFError, pickle.UnpicklingError) as error:
            reason = " ".join(str(error).split())[:120]
            raise StudyError(f"{path}: is missing or damaged ({reason}); begin in another folder") from error


class ClaimedFolder:
    """An open folder of a run; a context manager that holds its lock.

    Args:
        root: the folder; made when absent.
        settings: of the run; a folder with others is refused.

    Raises:
        StudyError: the folder belongs to another run, is in use, or cannot be used.
    """

    def __init__(self, root: Path, settings: Mapping[str, Any]) -> None:
        self.root = root
        try:
            root.mkdir(parents=True, exist_ok=True)
            self._lock = os.open(root / ".lock", os.O_CREAT | os.O_RDWR, 0o644)
        except OSError as error:
            raise StudyError(f"{root}: cannot be used as folder of a run ({error.strerror})") from error
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._claim(settings)
        except BlockingIOError:
            os.close(self._lock)
            raise StudyError(f"{root}: another run works here; wait until it has ended") from None
        except BaseException:
            os.close(self._lock)
            raise

    def _claim(self, settings: Mapping[str, Any]) -> None:
        path = self.root / "run.json"
        wanted = json.loads(json.dumps(settings))
        if not path.exists():
            write_atomic(path, json.dumps(wanted, indent=1, sort_keys=True) + "\n")
            return
        try:
            known = json.loads(path.read_text())
        except ValueError as error:
            raise StudyError(f"{path}: is damaged ({error}); begin in another folder") from error
        differing = sorted(name for name in known.keys() | wanted.keys() if known.get(name) != wanted.get(name))
        if differing:
            raise StudyError(f"{self.root}: holds a run with another {', '.join(differing)}; choose another folder")

    def close(self) -> None:
        """Release the lock."""
        os.close(self._lock)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


class RunFolder(ClaimedFolder):
    """The folder of a run of rounds; see `ClaimedFolder`."""

    def __init__(self, root: Path, settings: Mapping[str, Any]) -> None:
        super().__init__(root, settings)
        try:
            self._journal = Journal.open(root / "rounds.ndjson")
        except BaseException:
            super().close()
            raise

    @property
    def rounds(self) -> Sequence[Round]:
        """The finished rounds, from 0."""
        return [Round(**record) for record in self._journal.records]

    def checkpoint(self, number: int) -> Checkpoint:
        """What round `number` left.

        Raises:
            StudyError: its file is missing or damaged.
        """
        return Checkpoint.load(self._path(number))

    def add(self, finished: Round, left: Checkpoint) -> None:
        """Keep a finished round: its checkpoint, whole, then its record."""
        write_atomic(self._path(finished.round), left.to_bytes())
        self._journal.append(asdict(finished))

    def _path(self, number: int) -> Path:
        return self.root / f"round-{number:02d}.pt"

    def close(self) -> None:
        """See `ClaimedFolder.close`."""
        self._journal.close()
        super().close()
