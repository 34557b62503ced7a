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
from hwloop.search import OneByOne, SearchResult, run_search


@dataclass(frozen=True)
class Space:
    base: tuple[int, ...] = (16, 32, 32, 64, 64, 64)
    step: int = 8

    def levels(self, group: int) -> tuple[int, ...]:
        return tuple(range(self.step, self.base[group] + 1, self.step))

    def text(self, widths: Sequence[int]) -> str:
        return " ".join(f"g{group}={width}" for group, width in enumerate(widths))

    def every(self) -> np.ndarray:
        return np.array(list(itertools.product(*[self.levels(group) for group in range(len(self.base))])))


class Sizes:
    def parameters(self, widths: Any) -> np.ndarray:
        w = np.asarray(widths)
        return (w[:, :-1] * w[:, 1:]).sum(axis=1) * 9

    def macs(self, widths: Any) -> np.ndarray:
        return self.parameters(widths) * 64


@dataclass
class Model:
    """Latency is a staircase, memory a line; `calls` counts predictions."""

    slowdown: float = 1.0
    memory: bool = True
    scalable: Sizes = field(default_factory=Sizes)
    calls: int = 0

    def predict(self, widths: Any) -> Prediction:
        self.calls += 1
        w = np.asarray(widths)
        latency = self.slowdown * (0.1 + 1e-4 * (np.ceil(w[:, :-1] / 16) * np.ceil(w[:, 1:] / 16)).sum(axis=1))
        peak = 60e6 + 1e4 * w.sum(axis=1) if self.memory else np.full(len(w), np.nan)
        return Prediction(latency, latency, latency, peak, latency, np.zeros(len(w)), ())


def error_of(widths: Sequence[int]) -> float:
    """Grows as channels are cut, more in the first groups, with a bump that makes it not quite monotone."""
    w = np.asarray(widths, dtype=np.float64)
    kept = w / np.array(Space().base)
    importance = np.array([3.0, 2.0, 2.0, 1.0, 0.7, 0.4])
    return float(0.05 + 0.08 * (importance * (1 - kept) ** 2).sum() + 0.004 * np.sin(7 * w).sum() ** 2 / len(w))


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
        self.seen: list[tuple[int, ...]] = []
        self._fail_after = fail_after

    def __call__(self, widths: tuple[int, ...]) -> float:
        if self._fail_after is not None and len(self.seen) == self._fail_after:
            raise InterruptedError("killed")
        self.seen.append(widths)
        return error_of(widths)


def evaluator(judge: Callable[[tuple[int, ...]], float]) -> OneByOne:
    """With a clock that stands still, so that records can be compared bit by bit."""
    return OneByOne(judge, clock=lambda: 0.0)


def search(journal: Any, judge: Callable[[tuple[int, ...]], float] = error_of, **options: Any) -> SearchResult:
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
