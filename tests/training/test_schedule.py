"""The rates are torch's own schedules where torch has one, computed from the step alone."""

import warnings
from collections.abc import Callable

import pytest
import torch
from torch.optim import SGD, Optimizer
from torch.optim.lr_scheduler import CosineAnnealingLR, LRScheduler, MultiStepLR, OneCycleLR

from hwloop.training.schedule import SCHEDULES, rate_factor

TOTAL = 40


def _torch_rates(make: Callable[[Optimizer], LRScheduler]) -> list[float]:
    optimizer = SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    schedule = make(optimizer)
    rates = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # no step of the optimiser is made
        for _ in range(TOTAL):
            rates.append(float(optimizer.param_groups[0]["lr"]))
            schedule.step()
    return rates


@pytest.mark.parametrize(
    ("schedule", "make"),
    [
        ("one_cycle", lambda o: OneCycleLR(o, 1.0, total_steps=TOTAL + 1, pct_start=0.25, cycle_momentum=False)),
        ("cosine", lambda o: CosineAnnealingLR(o, TOTAL)),
        ("step", lambda o: MultiStepLR(o, [TOTAL // 2, 3 * TOTAL // 4], gamma=0.1)),
    ],
)
def test_a_schedule_is_torchs(schedule: str, make: Callable[[Optimizer], LRScheduler]) -> None:
    total = TOTAL + 1 if schedule == "one_cycle" else TOTAL
    found = [rate_factor(schedule, None, step, total) for step in range(TOTAL)]
    assert found == pytest.approx(_torch_rates(make), abs=1e-9)


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("warmup", [0.0, 0.1, 0.5])
@pytest.mark.parametrize("total", [1, 2, 7, 100])
def test_rates_rise_in_the_warm_up_never_afterwards_and_stay_between_0_and_1(
    schedule: str, warmup: float, total: int
) -> None:
    rates = [rate_factor(schedule, warmup, step, total) for step in range(total)]
    assert all(0 < rate <= 1 for rate in rates)
    top = rates.index(max(rates))
    assert top <= warmup * total
    assert rates[: top + 1] == sorted(rates[: top + 1])
    assert rates[top:] == sorted(rates[top:], reverse=True)
