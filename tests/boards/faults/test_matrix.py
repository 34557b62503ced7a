"""Every fault at a few random moments of a small campaign; `python -m tests.boards.faults` is the same at full size."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.boards.faults.chamber import Outcome, enter, unable
from tests.boards.faults.kinds import FAULTS

pytestmark = pytest.mark.board
MOMENTS, TRIALS, SEED = 3, 40, 1
AT_ONCE = 3


@pytest.fixture(scope="module")
def outcome_of(request: pytest.FixtureRequest) -> Iterator[Callable[[str], Outcome]]:
    """Runs the faults that are asked for, a few at once: each mostly waits, and each has a network of its own."""
    reason = unable()
    if reason:
        pytest.skip(reason)
    wanted = [
        item.callspec.params["fault"]
        for item in request.session.items
        if isinstance(item, pytest.Function) and item.originalname == test_a_fault_costs_nothing.__name__
    ]
    with ThreadPoolExecutor(AT_ONCE) as pool:
        running = {fault: pool.submit(enter, fault, MOMENTS, TRIALS, SEED, timeout_s=300) for fault in wanted}
        yield lambda fault: running[fault].result()


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_costs_nothing(outcome_of: Callable[[str], Outcome], fault: str) -> None:
    outcome = outcome_of(fault)
    assert outcome.is_clean, outcome
