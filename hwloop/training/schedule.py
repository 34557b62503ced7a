"""The learning rate of each step. Pure: a resumed run needs nothing but its position."""

from __future__ import annotations

import math

SCHEDULES = ("one_cycle", "cosine", "step", "constant")

_ONE_CYCLE_WARMUP = 0.25  # of the steps, in which the rate rises
_ONE_CYCLE_START = 1 / 25  # of the highest rate; as torch's OneCycleLR has it
_ONE_CYCLE_END = _ONE_CYCLE_START / 1e4
_MILESTONES = (0.5, 0.75)  # shares of the steps, as is usual on CIFAR-10 (He et al. 2016, section 4.2)
_DROP = 0.1


def rate_factor(schedule: str, warmup: float | None, step: int, total: int) -> float:
    """Return the rate of a step as a share of the highest.

    - "one_cycle" (Smith and Topin 2018, "Super-convergence"): a cosine from a twenty-fifth up to 1, then down to
      almost nothing; torch's OneCycleLR.
    - "cosine" (Loshchilov and Hutter 2017, without restarts): half a cosine from 1 to 0.
    - "step": 1, a tenth from half of the steps on, a hundredth from three quarters on.
    - "constant": 1.

    Where one of the last three has a warm-up, its rate is reached in a straight line; they go on as if it had begun at
    the end of it.

    Args:
        schedule: one of `SCHEDULES`.
        warmup: share of the steps in which the rate rises; None: a quarter of one_cycle, else none.
        step: 0 to `total` - 1.
        total: steps of the whole training.
    """
    if schedule == "one_cycle":
        rising = (_ONE_CYCLE_WARMUP if warmup is None else warmup) * total - 1
        if step <= rising:
            return _cosine(_ONE_CYCLE_START, 1.0, step / rising if rising > 0 else 1.0)
        rising = max(rising, 0.0)
        return _cosine(1.0, _ONE_CYCLE_END, (step - rising) / max(total - 1 - rising, 1.0))
    rising = (warmup or 0.0) * total
    if step < rising:
        return (step + 1) / (math.floor(rising) + 1)
    progress = (step - rising) / (total - rising)
    if schedule == "cosine":
        return _cosine(1.0, 0.0, progress)
    if schedule == "step":
        return math.prod(_DROP for milestone in _MILESTONES if progress >= milestone)
    return 1.0


def _cosine(start: float, end: float, progress: float) -> float:
    return end + (start - end) * (1 + math.cos(math.pi * progress)) / 2
