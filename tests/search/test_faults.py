"""Parts of a search are killed at random moments: it goes on or resumes, and ends with the same front, to the bit.

The benchmark `search-faults` does the same twenty times each, and kills the scheduler of a cluster too.
"""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.search.faulting import Stage, prepare


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_search_its_workers_and_its_device_may_be_killed_at_random_moments(tmp_path: Path) -> None:
    stage = Stage(prepare(tmp_path, generations=6, trials=10), tmp_path, random.Random(3))
    evaluations, trials = stage.undisturbed.known
    assert len(evaluations) > 60
    assert len(trials) >= 5
    for struck in (stage.search(3), stage.worker(3), stage.device(3)):
        assert struck.kills == 3
        assert struck.unharmed, struck
