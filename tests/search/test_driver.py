"""A search can be killed anywhere and ends where it would have ended."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from hwloop.errors import StudyError, UserError
from hwloop.search import HAMP, ErrorResult, Recipe
from hwloop.search.hamp import LocalSearch
from hwloop_agent.journal import Journal


def bits(result: Any) -> str:
    """Everything that a result says, but how much of it was replayed."""
    return repr((result.objectives, result.front, result.evaluated, result.hypervolume, result.reference))


def test_the_same_seed_gives_the_same_search(toy: Any) -> None:
    first, second, other = toy.MemoryJournal(), toy.MemoryJournal(), toy.MemoryJournal()
    assert bits(toy.search(first)) == bits(toy.search(second))
    assert first.records == second.records
    toy.search(other, seed=8)
    assert other.records[1:] != first.records[1:]


def test_a_search_killed_at_any_evaluation_resumes_to_the_bit_and_repeats_nothing(toy: Any) -> None:
    whole = toy.MemoryJournal()
    expected = toy.search(whole)
    total = len(whole.records) - 1
    rng = random.Random(1)
    for kill_at in [0, 1, 15, 16, 17, total - 1, *(rng.randrange(total) for _ in range(6))]:
        journal = toy.MemoryJournal()
        first = toy.Judge(fail_after=kill_at)
        with pytest.raises(InterruptedError):
            toy.search(journal, first)
        assert len(journal.records) == 1 + kill_at
        second = toy.Judge()
        result = toy.search(journal, second)
        assert bits(result) == bits(expected)
        assert json.dumps(journal.records) == json.dumps(whole.records)
        assert not set(first.seen) & set(second.seen)
        assert len(first.seen) + len(second.seen) == total
        assert result.replayed == kill_at


def test_a_search_killed_ten_times_ends_the_same(toy: Any) -> None:
    whole = toy.MemoryJournal()
    expected = toy.search(whole)
    journal, seen = toy.MemoryJournal(), []
    for run in range(10):
        judge = toy.Judge(fail_after=3 + run)
        with pytest.raises(InterruptedError):
            toy.search(journal, judge)
        seen += judge.seen
    judge = toy.Judge()
    assert bits(toy.search(journal, judge)) == bits(expected)
    assert len(set(seen + judge.seen)) == len(seen + judge.seen) == len(whole.records) - 1


SCRIPT = """
import importlib.util, os, signal, sys
from pathlib import Path
from hwloop_agent.journal import Journal

spec = importlib.util.spec_from_file_location("toy", sys.argv[1])
toy = importlib.util.module_from_spec(spec)
sys.modules["toy"] = toy
spec.loader.exec_module(toy)
left = int(sys.argv[3])

def judge(candidate):
    global left
    if left == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    left -= 1
    return toy.error_of(candidate)

toy.search(Journal.open(Path(sys.argv[2])), judge)
print("finished")
"""


def test_a_process_that_is_killed_for_real_loses_no_evaluation(toy: Any, tmp_path: Path) -> None:
    whole = Journal.open(tmp_path / "whole.jsonl")
    expected = toy.search(whole)
    whole.close()
    conftest = str(Path(__file__).with_name("conftest.py"))
    environment = dict(os.environ, PYTHONPATH=os.pathsep.join(filter(None, sys.path)))

    def run(evaluations: int) -> int:
        command = [sys.executable, "-c", SCRIPT, conftest, str(tmp_path / "killed.jsonl"), str(evaluations)]
        return subprocess.run(command, env=environment, capture_output=True, check=False, timeout=120).returncode

    assert [run(evaluations) for evaluations in (5, 23)] == [-signal.SIGKILL] * 2
    assert run(-1) == 0
    assert (tmp_path / "killed.jsonl").read_bytes() == (tmp_path / "whole.jsonl").read_bytes()
    again = Journal.open(tmp_path / "killed.jsonl")
    judge = toy.Judge(fail_after=0)
    assert bits(toy.search(again, judge)) == bits(expected)
    again.close()


def test_a_torn_tail_costs_only_the_torn_evaluation(toy: Any, tmp_path: Path) -> None:
    path = tmp_path / "search.jsonl"
    journal = Journal.open(path)
    expected = toy.search(journal)
    journal.close()
    whole = path.read_bytes()
    path.write_bytes(whole[:-40])
    again = Journal.open(path)
    judge = toy.Judge()
    assert bits(toy.search(again, judge)) == bits(expected)
    again.close()
    assert len(judge.seen) == 1
    assert path.read_bytes() == whole


def test_a_finished_search_can_be_given_more_generations(toy: Any) -> None:
    long, journal = toy.MemoryJournal(), toy.MemoryJournal()
    expected = toy.search(long, generations=9)
    toy.search(journal, generations=4)
    evaluated = len(journal.records) - 1
    judge = toy.Judge()
    assert bits(toy.search(journal, judge, generations=9)) == bits(expected)
    assert len(judge.seen) == len(long.records) - 1 - evaluated


def test_candidates_are_evaluated_once_even_when_the_algorithm_asks_again(toy: Any) -> None:
    space = toy.Space(widths=(16, 32, 32, 16, 16, 16), step=8)
    judge = toy.Judge()
    result = toy.search(toy.MemoryJournal(), judge, space=space, generations=12)
    assert len(judge.seen) == len(set(judge.seen)) == len(result.evaluated)
    assert len(judge.seen) < 12 * 16


def test_a_space_smaller_than_the_population_is_evaluated_whole(toy: Any) -> None:
    space = toy.Space(widths=(16, 16, 8, 8, 8, 8), step=8)
    result = toy.search(toy.MemoryJournal(), space=space)
    found = [evaluated.candidate.widths for evaluated in result.evaluated]
    assert sorted(found) == sorted(map(tuple, space.every().tolist()))
    assert result.exhausted


def test_each_evaluation_is_written_down_as_soon_as_it_is_there(toy: Any) -> None:
    journal = toy.MemoryJournal()
    lengths = []

    def judge(candidate: Any) -> float:
        lengths.append(len(journal.records))
        return float(toy.error_of(candidate))

    toy.search(journal, judge, generations=2)
    assert lengths == list(range(1, 1 + len(lengths)))
    record = journal.records[1]
    assert record["candidate"] == toy.Space().text(toy.Space().base)
    assert (record["widths"], record["removed"]) == (list(toy.Space().widths), [])
    assert set(record["objectives"]) == {"error", "latency_ms", "peak_memory_mb"}
    assert (record["kind"], record["generation"], record["seconds"]) == ("evaluation", 0, 0.0)
    json.dumps(journal.records, allow_nan=False)


def test_results_may_come_back_in_any_order(toy: Any) -> None:
    class Backwards:
        def evaluate(self, batch: Any) -> Any:
            for index in reversed(range(len(batch))):
                yield ErrorResult(index, toy.error_of(batch[index]), 0.0)

    forwards = toy.search(toy.MemoryJournal())
    backwards = toy.search(toy.MemoryJournal(), evaluator=Backwards())
    assert bits(forwards) == bits(backwards)


def test_an_evaluator_that_forgets_a_candidate_is_told(toy: Any) -> None:
    class Forgetful:
        def evaluate(self, batch: Any) -> Any:
            yield ErrorResult(0, 0.5, 0.0)

    with pytest.raises(UserError, match="gave no result for g0="):
        toy.search(toy.MemoryJournal(), evaluator=Forgetful())


@pytest.mark.parametrize("error", [float("nan"), float("inf")])
def test_an_error_that_is_no_number_is_refused_and_not_written_down(toy: Any, error: float) -> None:
    journal = toy.MemoryJournal()
    with pytest.raises(UserError, match="must give a finite number"):
        toy.search(journal, lambda widths: error)
    assert len(journal.records) == 1


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"seed": 8}, "seed was 7, is 8"),
        ({"population": 18}, "population was 16, is 18"),
        ({"objectives": ("error", "macs")}, "objectives was error, latency_ms, peak_memory_mb, is error, macs"),
        ({"context": {"judge": "b"}}, "context judge was a, is b"),
    ],
)
def test_a_journal_of_another_search_is_refused_and_the_difference_is_named(
    toy: Any, options: dict[str, Any], text: str
) -> None:
    journal = toy.MemoryJournal()
    toy.search(journal, context={"judge": "a"}, generations=1)
    before = list(journal.records)
    with pytest.raises(StudyError, match=text) as caught:
        toy.search(journal, **({"context": {"judge": "a"}} | options))
    assert "\n" not in str(caught.value)
    assert journal.records == before


def test_a_journal_of_another_space_is_refused(toy: Any) -> None:
    journal = toy.MemoryJournal()
    toy.search(journal, generations=1)
    with pytest.raises(StudyError, match=r"space \(levels of the candidates\)"):
        toy.search(journal, space=toy.Space(step=16))


def test_a_predictor_that_changed_is_noticed(toy: Any) -> None:
    journal = toy.MemoryJournal()
    toy.search(journal, generations=2)
    with pytest.raises(StudyError, match=r"the predictor has changed since the search began: latency_ms of g0="):
        toy.search(journal, predictor=toy.Model(slowdown=1.001))
    toy.search(journal, predictor=toy.Model(slowdown=1 + 1e-12), generations=2)


@pytest.mark.parametrize(
    ("spoil", "text"),
    [
        (lambda records: records.append(dict(records[3])), "twice"),
        (lambda records: records.append({"kind": "note"}), "is no evaluation"),
        (lambda records: records.__setitem__(0, {"kind": "trial"}), "does not begin with a search"),
        (lambda records: records[5].update(generation=2), "in generation 2"),
        (lambda records: records.append({**records[3], "widths": [16, 32, 32, 64, 64, 56]}), "in generation 0, where"),
    ],
)  # fmt: skip
def test_a_journal_that_does_not_fit_the_replay_is_refused(toy: Any, spoil: Any, text: str) -> None:
    journal = toy.MemoryJournal()
    toy.search(journal, generations=2)
    spoil(journal.records)
    with pytest.raises(StudyError, match=text):
        toy.search(journal, generations=2)


def test_without_the_error_nothing_is_evaluated_on_data(toy: Any) -> None:
    result = toy.search(toy.MemoryJournal(), toy.Judge(fail_after=0), objectives=("latency_ms", "parameters"))
    assert result.objectives == ("latency_ms", "parameters")
    assert len(result.front) == 1  # both are least for the thinnest network
    assert set(result.front[0].candidate.widths) == {8}


def test_memory_that_was_never_measured_cannot_be_an_objective(toy: Any) -> None:
    with pytest.raises(UserError, match="objective 'peak_memory_mb' has no value"):
        toy.search(toy.MemoryJournal(), predictor=toy.Model(memory=False))
    toy.search(toy.MemoryJournal(), predictor=toy.Model(memory=False), objectives=("error", "latency_ms"))


@pytest.mark.parametrize(("population", "generations"), [(1, 5), (16, 0)])
def test_a_search_without_candidates_is_refused(toy: Any, population: int, generations: int) -> None:
    with pytest.raises(UserError, match="population of 2 and 1 generation"):
        toy.search(toy.MemoryJournal(), population=population, generations=generations)


def test_the_cost_model_is_asked_once_per_generation(toy: Any) -> None:
    model = toy.Model()
    toy.search(toy.MemoryJournal(), predictor=model)
    assert model.calls == 8 + 1  # and once for the reference point


def test_the_hypervolume_never_falls_and_beats_random_candidates(toy: Any) -> None:
    result = toy.search(toy.MemoryJournal(), generations=20)
    assert (np.diff(result.hypervolume) >= 0).all()
    assert 0 < result.hypervolume[0] < result.hypervolume[-1] < 1
    assert result.reference[0] == 1.0
    assert result.reference[1] == pytest.approx(1.1 * float(toy.Model().predict([toy.Space().widths]).latency_ms[0]))


def test_progress_counts_every_candidate_once(toy: Any) -> None:
    class Counting:
        def __init__(self) -> None:
            self.units: list[tuple[int, int, int]] = []
            self.count = 0

        def step(self, description: str, total: int, done: int = 0) -> Any:
            self.total, self.done, self.count = total, done, 0
            return self

        def __enter__(self) -> Any:
            return self

        def __exit__(self, *exc: object) -> None:
            self.units.append((self.total, self.done, self.count))

        def advance(self, amount: int = 1, note: str = "") -> None:
            self.count += amount

        def say(self, line: str) -> None:
            pass

    journal, progress = toy.MemoryJournal(), Counting()
    with pytest.raises(InterruptedError):
        toy.search(journal, toy.Judge(fail_after=40), progress=progress)
    toy.search(journal, progress=progress)
    (total, done, _), (_, again, more) = progress.units
    assert (total, done, again) == (128, 0, 40)
    assert again + more == 128


def test_blocks_are_searched_beside_widths_and_survive_the_journal(toy: Any) -> None:
    space = toy.Space(blocks=(SimpleNamespace(name="first"), SimpleNamespace(name="second")))
    journal, judge = toy.MemoryJournal(), toy.Judge()
    expected = toy.search(journal, judge, space=space, generations=6)
    assert {evaluated.candidate.removed for evaluated in expected.evaluated} == {
        (),
        ("first",),
        ("second",),
        ("first", "second"),
    }
    assert journal.records[0]["space"]["blocks"] == ["first", "second"]
    by_text = {record["candidate"]: record for record in journal.records[1:]}
    assert any(text.endswith("-first -second") and by_text[text]["removed"] == ["first", "second"] for text in by_text)
    again = toy.Judge(fail_after=0)
    assert bits(toy.search(journal, again, space=space, generations=6)) == bits(expected)
    with pytest.raises(StudyError, match=r"of another search: space \(blocks of the candidates\)"):
        toy.search(journal, space=toy.Space(blocks=space.blocks[:1]))


def test_what_failed_for_good_teaches_hamp_nothing_and_is_replayed_to_the_bit(toy: Any) -> None:
    class Fragile:
        """Gives every candidate up that keeps the whole first group."""

        def evaluate(self, batch: Any) -> Any:
            for place, candidate in enumerate(batch):
                failure = "no memory" if candidate.widths[0] == 16 else ""
                yield ErrorResult(place, toy.error_of(candidate), 0.0, failure)

    made: list[HAMP] = []

    def make(start: Any) -> HAMP:
        quick = LocalSearch(rounds=3, walkers=20, pairs=20, after=5)
        made.append(HAMP(start.population, sampling=start.initial, local_search=quick))
        return made[-1]

    journal = toy.MemoryJournal()
    result = toy.search(journal, evaluator=Fragile(), algorithm=Recipe("hamp", make), generations=4)
    failed = [each for each in result.evaluated if each.failure]
    learnt = made[0].evaluated
    assert len(failed) > 0
    assert all(each.values == result.reference for each in failed)
    assert len(learnt) == len(result.evaluated) - len(failed)
    assert not (learnt.f == result.reference).any()
    options = {"algorithm": Recipe("hamp", make), "generations": 4}
    assert bits(toy.search(journal, toy.Judge(fail_after=0), **options)) == bits(result)
