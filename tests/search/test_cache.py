"""What one search has evaluated, another gets for nothing; under other conditions it does not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from hwloop.errors import StudyError
from hwloop.search import Cached, ErrorResult
from hwloop_agent.journal import Journal


def test_a_second_search_evaluates_only_what_is_new(toy: Any, tmp_path: Path) -> None:
    expected = toy.search(toy.MemoryJournal(), seed=8)
    with Journal.open(tmp_path / "evaluations.ndjson") as journal:
        first = toy.Judge()
        toy.search(toy.MemoryJournal(), evaluator=Cached(toy.evaluator(first), journal, {"weights": "a"}))
    with Journal.open(tmp_path / "evaluations.ndjson") as journal:
        second = toy.Judge()
        cached = Cached(toy.evaluator(second), journal, {"weights": "a"})
        assert len(cached) == len(first.seen)
        result = toy.search(toy.MemoryJournal(), evaluator=cached, seed=8)
        assert repr(result.evaluated) == repr(expected.evaluated)
        assert not set(first.seen) & set(second.seen)
        assert set(second.seen) < {each.candidate for each in result.evaluated}
        assert len(Cached(toy.evaluator(second), journal, {"weights": "b"})) == 0


def test_a_failure_is_tried_again_and_a_stranger_is_refused(toy: Any) -> None:
    class Failing:
        def evaluate(self, batch: Any) -> Any:
            yield ErrorResult(0, float("nan"), 1.0, "no memory")

    journal = toy.MemoryJournal()
    cached = Cached(Failing(), journal, {})
    assert [each.failure for each in cached.evaluate([toy.Space().base])] == ["no memory"]
    assert journal.records == []
    with pytest.raises(StudyError, match="another record"):
        Cached(Failing(), toy.MemoryJournal([{"kind": "search"}]), {})
