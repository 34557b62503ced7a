"""A small pruning problem whose costs and errors are formulas: the fixture `toy`."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from hwloop.predictors import Prediction
from hwloop.progress import Silent
from hwloop.pruning import Candidate
from hwloop.search import OneByOne, SearchResult, run_search


@dataclass(frozen=True)
class Space:
    widths: tuple[int, ...] = (16, 32, 32, 64, 64, 64)
    step: int = 8
    blocks: tuple[SimpleNamespace, ...] = ()

    @property
    def base(self) -> Candidate:
        return Candidate(self.widths)

    def levels(self, group: int) -> tuple[int, ...]:
        return tuple(range(self.step, self.widths[group] + 1, self.step))

    def candidate(self, widths: Sequence[int], remains: Sequence[bool] | None = None) -> Candidate:
        flags = remains or [True] * len(self.blocks)
        names = tuple(block.name for block, flag in zip(self.blocks, flags, strict=True) if not flag)
        return Candidate(tuple(widths), names)

    def arrays(self, candidates: Sequence[Candidate]) -> tuple[np.ndarray, np.ndarray]:
        flags = [[block.name not in each.removed for block in self.blocks] for each in candidates]
        return np.array([each.widths for each in candidates]), np.array(flags, dtype=bool)

    def text(self, candidate: Candidate) -> str:
        widths = [f"g{group}={width}" for group, width in enumerate(candidate.widths)]
        return " ".join([*widths, *(f"-{name}" for name in candidate.removed)])

    def every(self) -> np.ndarray:
        return np.array(list(itertools.product(*[self.levels(group) for group in range(len(self.widths))])))


class Sizes:
    def parameters(self, widths: Any, blocks: Any = None) -> np.ndarray:
        w = np.asarray(widths)
        removed = 0 if blocks is None else (~np.asarray(blocks)).sum(axis=1)
        return (w[:, :-1] * w[:, 1:]).sum(axis=1) * 9 - 500 * removed

    def macs(self, widths: Any, blocks: Any = None) -> np.ndarray:
        return self.parameters(widths, blocks) * 64


@dataclass
class Model:
    """Latency is a staircase with an interval of `spread` to each side, memory a line; `calls` counts predictions."""

    slowdown: float = 1.0
    memory: bool = True
    spread: float = 0.0
    watts: float | None = None
    scalable: Sizes = field(default_factory=Sizes)
    calls: int = 0

    def predict(self, widths: Any, blocks: Any = None) -> Prediction:
        self.calls += 1
        w = np.asarray(widths)
        latency = self.slowdown * (0.1 + 1e-4 * (np.ceil(w[:, :-1] / 16) * np.ceil(w[:, 1:] / 16)).sum(axis=1))
        if blocks is not None:
            latency = latency - self.slowdown * 2e-4 * (~np.asarray(blocks)).sum(axis=1)
        peak = 60e6 + 1e4 * w.sum(axis=1) if self.memory else np.full(len(w), np.nan)
        low, high = latency * (1 - self.spread), latency * (1 + self.spread)
        energy = None if self.watts is None else self.watts * latency
        return Prediction(latency, low, high, peak, latency, np.zeros(len(w)), (), (), 0.0, energy, 0.1)


def error_of(candidate: Candidate) -> float:
    """Grows as channels are cut, more in the first groups, and with each block; a bump makes it not quite monotone."""
    w = np.asarray(candidate.widths, dtype=np.float64)
    kept = w / np.array(Space().widths)
    importance = np.array([3.0, 2.0, 2.0, 1.0, 0.7, 0.4])
    lost = 0.01 * len(candidate.removed)
    return float(lost + 0.05 + 0.08 * (importance * (1 - kept) ** 2).sum() + 0.004 * np.sin(7 * w).sum() ** 2 / len(w))


class MemoryJournal:
    """The journal's interface, without a file; raises after `limit` appended evaluations."""

    def __init__(self, records: Sequence[dict[str, Any]] = ()) -> None:
        self.records = list(records)

    def append(self, rec: dict[str, Any]) -> int:
        self.records.append(rec)
        return len(self.records)


class Judge:
    """Counts evaluations and fails when asked for one too many."""

    def __init__(self, fail_after: int | None = None) -> None:
        self.seen: list[Candidate] = []
        self._fail_after = fail_after

    def __call__(self, candidate: Candidate) -> float:
        if self._fail_after is not None and len(self.seen) == self._fail_after:
            raise InterruptedError("killed")
        self.seen.append(candidate)
        return error_of(candidate)


def evaluator(judge: Callable[[Candidate], float]) -> OneByOne:
    """With a clock that stands still, so that records can be compared bit by bit."""
    return OneByOne(judge, clock=lambda: 0.0)


def search(journal: Any, judge: Callable[[Candidate], float] = error_of, **options: Any) -> SearchResult:
    given: dict[str, Any] = {
        "objectives": ("error", "latency_ms", "peak_memory_mb"),
        "population": 16,
        "generations": 8,
        "seed": 7,
        "space": Space(),
        "predictor": Model(),
        "evaluator": evaluator(judge),
        "progress": Silent(),
    }
    return run_search(journal=journal, **(given | options))


@pytest.fixture(scope="session")
def toy() -> SimpleNamespace:
    """The helpers of this file (test modules cannot import a conftest)."""
    return SimpleNamespace(
        Space=Space,
        Model=Model,
        MemoryJournal=MemoryJournal,
        Judge=Judge,
        error_of=error_of,
        evaluator=evaluator,
        search=search,
    )
