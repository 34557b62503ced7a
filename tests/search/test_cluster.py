"""A dask cluster evaluates: the same front to the bit, whatever becomes of its workers and its scheduler."""

from __future__ import annotations

import ctypes
import threading
from pathlib import Path
from typing import Any

import pytest

from hwloop.errors import EvaluationError, ModelError
from hwloop.pruning import Candidate
from hwloop.search import Limits, open_evaluator
from tests.search.clusters import LocalCluster, wait_for
from tests.search.conftest import error_of
from tests.search.errors import Paging, Refusing, Slow

pytest.importorskip("distributed", reason="dask is not installed: make extras")


def values(result: Any) -> str:
    rows = [(each.text, each.values, each.generation, each.failure) for each in result.evaluated]
    return repr((rows, [each.text for each in result.front], result.hypervolume))


@pytest.mark.slow
def test_a_killed_worker_and_a_killed_scheduler_change_nothing(toy: Any, tmp_path: Path) -> None:
    from hwloop.search.cluster import DaskCluster

    expected = toy.search(toy.MemoryJournal(), generations=5)
    journal = toy.MemoryJournal()
    done: list[Any] = []

    def marked(count: int) -> None:
        wait_for(lambda: len(list(tmp_path.iterdir())) >= count)

    with LocalCluster() as cluster:

        def strike() -> None:
            marked(10)
            cluster.kill_worker()
            marked(30)
            cluster.kill_scheduler()
            cluster.restart()
            done.append(True)

        striking = threading.Thread(target=strike)
        striking.start()
        with DaskCluster(Slow(tmp_path), cluster.address) as evaluator:
            result = toy.search(journal, evaluator=evaluator, generations=5)
            with DaskCluster(Refusing("model"), cluster.address) as refusing, pytest.raises(ModelError):
                list(refusing.evaluate([Candidate((8,))]))
        striking.join()
    assert done
    assert values(result) == values(expected)
    texts = [record["candidate"] for record in journal.records[1:]]
    assert len(texts) == len(set(texts)) == len(expected.evaluated)


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallopt"), reason="another C library than glibc")
def test_a_worker_keeps_freed_memory_though_its_nanny_has_it_given_back() -> None:
    from hwloop.search.cluster import DaskCluster

    with LocalCluster(1) as cluster, DaskCluster(Paging(), cluster.address) as evaluator:
        (result,) = evaluator.evaluate([Candidate((8,))])
    assert result.error < 10


def test_a_cluster_that_is_not_there_is_told_with_the_remedy() -> None:
    from hwloop.search.cluster import DaskCluster

    limits = Limits(start_s=0.0)
    with (
        DaskCluster(error_of, "tcp://127.0.0.1:9", limits=limits, sleep=lambda _: None) as cluster,
        pytest.raises(EvaluationError, match=r"the cluster at tcp://127.0.0.1:9 does not evaluate .* start its"),
    ):
        list(cluster.evaluate([Candidate((8,))]))
    with open_evaluator(error_of, 1, "tcp://127.0.0.1:9") as opened:
        assert isinstance(opened, DaskCluster)
