"""Candidates are evaluated by several processes: the same result, whatever becomes of them."""

from __future__ import annotations

import ctypes
import importlib
import os
import pickle
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hwloop.datasets import ImageSet
from hwloop.errors import EvaluationError, ModelError, UserError
from hwloop.models import build_model
from hwloop.pruning import RECALIBRATED, Candidate, ErrorEstimator, HeldOut, Recalibration, plan_surgery, pruning_space
from hwloop.search import ErrorOf, Limits, LocalWorkers, available_cpus, open_evaluator, worker_count
from hwloop.search.backlog import Backlog
from hwloop.search.evaluators import WhenWorthIt
from hwloop.search.workers import pickled
from tests.leaks import nothing_left
from tests.search.errors import LoadedOnce, Mortal, Paging, Refusing, Told, Unloadable


def values(result: Any) -> str:
    """What a result says, but how long each evaluation took."""
    rows = [(each.text, each.values, each.generation, each.failure) for each in result.evaluated]
    front = [(each.text, each.values) for each in result.front]
    return repr((rows, front, result.hypervolume, result.reference))


def test_two_workers_give_the_same_front_to_the_bit(toy: Any, tmp_path: Path) -> None:
    expected = toy.search(toy.MemoryJournal())
    journal = toy.MemoryJournal()
    told = Told(tmp_path / "told", processes=2)
    with nothing_left(), LocalWorkers(told, 2) as workers:
        assert values(toy.search(journal, evaluator=workers)) == values(expected)
        assert len(workers.pids) == 2
    lines = [line.rsplit(" ", 1) for line in told.path.read_text().splitlines()]
    assert len(lines) == len({candidate for candidate, _ in lines}) == len(journal.records) - 1
    assert len(told.pids()) == 2


@pytest.mark.slow
def test_workers_that_die_hang_or_lack_memory_change_nothing(toy: Any, tmp_path: Path) -> None:
    expected = toy.search(toy.MemoryJournal(), generations=3)
    journal = toy.MemoryJournal()
    faulty = Mortal(tmp_path, *(expected.evaluated[place].candidate for place in (3, 20, 37)))
    with nothing_left(), LocalWorkers(faulty, 2, limits=Limits(timeout_s=5)) as workers:
        assert values(toy.search(journal, evaluator=workers, generations=3)) == values(expected)
    assert len(list(tmp_path.iterdir())) == 3
    texts = [record["candidate"] for record in journal.records[1:]]
    assert len(texts) == len(set(texts))


@pytest.mark.slow
def test_a_candidate_that_kills_every_worker_is_given_up_and_belongs_to_no_front(toy: Any, tmp_path: Path) -> None:
    poison = Candidate(tuple(toy.Space().widths))
    journal = toy.MemoryJournal()
    with LocalWorkers(Mortal(tmp_path, poison=poison), 1, limits=Limits(attempts=2)) as workers:
        result = toy.search(journal, evaluator=workers, generations=2)
        given_up = [each for each in result.evaluated if each.failure]
        assert [each.candidate for each in given_up] == [poison]
        assert "died, 2 times (signal 11" in given_up[0].failure
        assert given_up[0].values == result.reference
        assert poison not in [each.candidate for each in result.front]
        assert values(toy.search(journal, toy.Judge(fail_after=0), generations=2)) == values(result)


@pytest.mark.parametrize(
    ("kind", "error"), [("model", ModelError), pytest.param("mistake", EvaluationError, marks=pytest.mark.slow)]
)
def test_what_the_function_itself_refuses_is_not_tried_again(kind: str, error: type[Exception]) -> None:
    with (
        nothing_left(),
        LocalWorkers(Refusing(kind), 1) as workers,
        pytest.raises(error, match=r"no such network|ZeroDivisionError: a mistake"),
    ):
        list(workers.evaluate([Candidate((8,))]))


@pytest.mark.slow
def test_workers_that_cannot_start_are_told_with_what_they_said() -> None:
    with (
        nothing_left(),
        LocalWorkers(Unloadable(), 1, limits=Limits(attempts=2)) as workers,
        pytest.raises(EvaluationError, match="workers cannot be started: exit 7"),
    ):
        list(workers.evaluate([Candidate((8,))]))


@pytest.mark.slow
def test_a_worker_that_works_goes_on_alone_when_no_other_can_be_started(tmp_path: Path) -> None:
    batch = [Candidate((8,)), Candidate((16,))]
    with nothing_left(), LocalWorkers(LoadedOnce(tmp_path), 2, limits=Limits(attempts=2)) as workers:
        assert sorted(result.index for result in workers.evaluate(batch)) == [0, 1]


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallopt"), reason="another C library than glibc")
def test_a_worker_keeps_freed_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MALLOC_TRIM_THRESHOLD_", "65536")  # without it the outcome depends on what was freed before
    with LocalWorkers(Paging(), 1) as workers:
        (result,) = workers.evaluate([Candidate((8,))])
    assert result.error < 10


def test_a_function_that_cannot_be_sent_is_refused() -> None:
    with pytest.raises(UserError, match=r"set\s+search.workers = 1"):
        LocalWorkers(lambda candidate: 0.0, 1)


def test_a_user_s_own_module_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mine.py").write_text("class Half:\n    def __call__(self, candidate):\n        return 0.5\n")
    with monkeypatch.context() as patched:
        patched.syspath_prepend(str(tmp_path))
        half = importlib.import_module("mine").Half()
    with LocalWorkers(half, 1, paths=[tmp_path]) as workers:
        assert [result.error for result in workers.evaluate([Candidate((8,))])] == [0.5]
    sys.modules.pop("mine")


def test_the_judge_of_a_network_with_blocks_can_be_sent() -> None:
    module = build_model("resnet8", num_classes=10, in_channels=1).eval()
    space = pruning_space(module, (1, 8, 8), grain=8)
    rng = np.random.default_rng(0)
    images = ImageSet(rng.standard_normal((64, 1, 8, 8), dtype=np.float32), rng.integers(0, 10, 64))
    judge = ErrorEstimator(RECALIBRATED, plan_surgery(module, space), Recalibration(images), HeldOut(images), threads=1)
    thin = space.candidate([space.levels(g)[0] for g in range(len(space.groups))], [False] * len(space.blocks))
    assert thin.removed
    sent = pickle.loads(pickled(ErrorOf(judge)))
    assert [sent(each) for each in (space.base, thin)] == [judge.estimate(each).error for each in (space.base, thin)]


def test_when_everything_fails_nothing_is_written_down(toy: Any) -> None:
    class Failing:
        def evaluate(self, batch: Any) -> Any:
            from hwloop.search import ErrorResult

            for index in range(len(batch)):
                yield ErrorResult(index, float("nan"), 0.0, "the machine is on fire")

    journal = toy.MemoryJournal()
    with pytest.raises(EvaluationError, match="none of 16 candidates could be evaluated: the machine is on fire"):
        toy.search(journal, evaluator=Failing())
    assert len(journal.records) == 1


def test_workers_are_started_only_when_they_pay(toy: Any, tmp_path: Path) -> None:
    def never() -> LocalWorkers:
        raise AssertionError("started")

    expected = toy.search(toy.MemoryJournal())
    with WhenWorthIt(toy.error_of, never) as quick:
        assert values(toy.search(toy.MemoryJournal(), evaluator=quick)) == values(expected)
    told = Told(tmp_path / "told")
    with WhenWorthIt(told, lambda: LocalWorkers(told, 1), worth_s=0.0) as slow:
        assert values(toy.search(toy.MemoryJournal(), evaluator=slow)) == values(expected)
    pids = [int(line.rsplit(" ", 1)[1]) for line in told.path.read_text().splitlines()]
    assert pids[0] == os.getpid()
    assert os.getpid() not in pids[1:]
    with WhenWorthIt(
        lambda candidate: toy.error_of(candidate), lambda: LocalWorkers(lambda _: 0, 1), worth_s=0.0
    ) as own:
        assert values(toy.search(toy.MemoryJournal(), evaluator=own)) == values(expected)
    with open_evaluator(toy.error_of, 1) as here:
        assert values(toy.search(toy.MemoryJournal(), evaluator=here)) == values(expected)


def test_more_threads_than_cpus_are_refused() -> None:
    assert 1 <= available_cpus() <= (os.cpu_count() or 1)
    assert worker_count(None, 6, threads=2) == 3
    assert worker_count(3, 4) == 3
    with pytest.raises(UserError, match=r"8 workers of one thread each are more than the 2 CPUs .* ask for at most 2"):
        worker_count(8, 2)


def test_a_backlog_gives_each_candidate_its_attempts_and_finishes_it_once() -> None:
    backlog = Backlog(2, attempts=2)
    assert [backlog.take(), backlog.take(), backlog.take()] == [0, 1, None]
    assert not backlog.fail(0)
    backlog.put_back(1)
    assert [backlog.take(), backlog.take()] == [1, 0]
    assert backlog.finish(1)
    assert not backlog.finish(1)
    assert backlog.fail(0)
    assert backlog.is_done


ORPHANS = """
import sys
from pathlib import Path
from hwloop.pruning import Candidate
from hwloop.search import LocalWorkers
from tests.search.errors import Mortal
workers = LocalWorkers(Mortal(Path(sys.argv[1]), hangs=Candidate((8,))), 1)
for result in workers.evaluate([Candidate((16,)), Candidate((8,))]):  # the second hangs
    print(*workers.pids, flush=True)
"""


@pytest.mark.slow
def test_workers_do_not_outlive_a_search_that_is_killed(tmp_path: Path) -> None:
    environment = dict(os.environ, PYTHONPATH=os.pathsep.join(filter(None, sys.path)))
    command = [sys.executable, "-c", ORPHANS, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout is not None
        worker = int(process.stdout.readline())
        while not (tmp_path / "8").exists():
            time.sleep(0.05)
        os.kill(worker, 0)
        process.send_signal(signal.SIGKILL)
    while Path(f"/proc/{worker}").exists() and "Z" not in Path(f"/proc/{worker}/stat").read_text().split(")")[1]:
        time.sleep(0.05)  # the test's own timeout ends it
