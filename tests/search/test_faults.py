"""SIGKILL at random moments: of the search, of its workers; it resumes with any number of workers, to the bit."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from hwloop_agent.journal import Journal, read_records

KILLS = 3

SCRIPT = """
import sys
from pathlib import Path
from hwloop.search import LocalWorkers, OneByOne
from hwloop_agent.journal import Journal
from tests.search.conftest import search
from tests.search.errors import Slow
error = Slow(Path(sys.argv[2]), 0.03)
workers = LocalWorkers(error, 2) if sys.argv[3] == "2" else None
if __name__ == "__main__":
    with Journal.open(Path(sys.argv[1])) as journal:
        search(journal, evaluator=workers or OneByOne(error), generations=12)
    print("finished")
"""


def children_of(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


@pytest.mark.slow
def test_a_search_and_workers_killed_at_random_moments_lose_and_repeat_nothing(toy: Any, tmp_path: Path) -> None:
    whole = toy.MemoryJournal()
    expected = toy.search(whole, generations=12)
    path, marks = tmp_path / "search.ndjson", tmp_path / "marks"
    marks.mkdir()
    environment = dict(os.environ, PYTHONPATH=os.pathsep.join(filter(None, sys.path)))
    rng = random.Random(3)
    total = len(whole.records)

    def start(workers: int) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", SCRIPT, str(path), str(marks), str(workers)]
        return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)

    before: list[Any] = []
    for kill in range(KILLS):
        process = start(2 if kill else 1)
        target = len(before) + 1 + rng.randrange(1, total // (KILLS + 1))
        while process.poll() is None and len(read_records(path)[0]) < target:
            time.sleep(0.01)
        assert process.poll() is None
        if kill == 1:  # a worker first: the search goes on without it
            os.kill(rng.choice(children_of(process.pid)), signal.SIGKILL)
            while process.poll() is None and len(read_records(path)[0]) < target + 3:
                time.sleep(0.01)
        process.kill()
        process.communicate()
        after = read_records(path)[0]
        assert after[: len(before)] == before
        before = after
    assert start(2).communicate()[0] == "finished\n"
    with Journal.open(path) as journal:
        texts = [record["candidate"] for record in journal.records[1:]]
        assert sorted(texts) == sorted(record["candidate"] for record in whole.records[1:])
        result = toy.search(journal, toy.Judge(fail_after=0), generations=12)
    assert [(each.text, each.values) for each in result.front] == [(each.text, each.values) for each in expected.front]
    assert result.hypervolume == expected.hypervolume
