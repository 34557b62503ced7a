"""The largest network that is fast enough is taken, by its better measurement; what cannot be reached is refused."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, cast

import pytest
import torch

from hwloop.datasets import DataConfig, load_images
from hwloop.errors import UserError
from hwloop.measurement import Interval
from hwloop.models import build_model
from hwloop.progress import Silent
from hwloop.pruning import Candidate, plan_surgery, pruning_space
from hwloop.study.speedup import FINAL_PROCESSES, SpeedUp, fast_enough, rungs_of

RUNGS = tuple(Candidate((width,)) for width in range(10, 0, -1))


@dataclass
class Written:
    """Stands for a device whose latencies are written down: one for each width, another where it is measured well."""

    quick: dict[int, float]
    well: dict[int, float]
    asked: list[tuple[int, int | None]] = field(default_factory=list)

    def speed_up(self, candidate: Candidate, processes: int | None = None) -> SpeedUp:
        (width,) = candidate.widths
        self.asked.append((width, processes))
        value = (self.quick if processes is None else self.well)[width]
        return SpeedUp(value, Interval(value, value), "faster", value, 1.0)


def _found(device: Written, wanted: float) -> tuple[Candidate, SpeedUp]:
    return fast_enough(cast("Any", device), RUNGS, wanted, Silent())


def test_the_largest_that_is_fast_enough_is_taken_and_measured_well() -> None:
    speeds = {width: 10 / width for width in range(1, 11)}
    device = Written(speeds, speeds)
    candidate, speed = _found(device, 2.0)
    assert (candidate.widths, speed.value) == ((5,), 2.0)
    assert device.asked[-1] == (5, FINAL_PROCESSES)
    assert len(device.asked) < 7


def test_where_the_better_measurement_falls_short_the_next_smaller_is_taken() -> None:
    quick = {width: 10 / width for width in range(1, 11)}
    device = Written(quick, quick | {5: 1.9, 4: 1.95})
    candidate, speed = _found(device, 2.0)
    assert (candidate.widths, speed.value) == ((3,), pytest.approx(10 / 3))


@pytest.mark.parametrize("rungs", [RUNGS, RUNGS[:1]])
def test_what_cannot_be_reached_is_refused_with_what_can(rungs: tuple[Candidate, ...]) -> None:
    speeds = {width: 10 / width for width in range(1, 11)}
    told = "the smallest network of the ladder is 10.00x as fast" if len(rungs) > 1 else "nothing can be cut"
    with pytest.raises(UserError, match=f"11x cannot be reached: {told}"):
        fast_enough(cast("Any", Written(speeds, speeds)), rungs, 11.0, Silent())


def test_a_ladder_begins_with_the_base_loses_all_blocks_and_is_the_same_under_a_seed() -> None:
    data = load_images(DataConfig(limit=400))
    torch.manual_seed(0)
    module = build_model("resnet20", num_classes=10, in_channels=1, arguments={"widths": [4, 8, 8]}).eval()
    space = pruning_space(module, data.input_shape)
    plan = plan_surgery(module, space)
    rungs = rungs_of(plan, space, data, seed=0)
    assert rungs[0] == space.base
    assert set(rungs[-1].removed) == {block.name for block in space.blocks}
    assert rungs_of(plan, space, data, seed=0) == rungs
    assert not any(rung.removed for rung in rungs_of(plan, space.without_blocks(), data, seed=0))
