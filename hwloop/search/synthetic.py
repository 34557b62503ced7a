"""A cheap pruning problem whose Pareto front is known: for tests of search algorithms, and for comparing them.

A residual network of stages: each stage has a width that all its blocks share, each block an inner width and, but for
the first of its stage, a flag that removes it. Nothing is measured; sensitivities are drawn from a seed.

- Error: a loss that saturates at chance. Blocks differ in sensitivity, lose more the thinner the stage and the
  thinner the block before, and hurt twice when a neighbour is gone too; the first channels cost nearly nothing, the
  last ones most; every choice has a bump, so that the error is not quite monotone.
- Latency: whole microseconds, a staircase in both widths of a block, and one term that couples neighbouring stages.
- Memory: of the block that needs most.

Neighbours interact along a chain only. That is why dynamic programming finds the front exactly: for each limit of
the memory, the least loss at every latency.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import moocore
import numpy as np
from numpy.typing import NDArray
from pymoo.core.problem import Problem

from hwloop.search.structure import Cheap, Structure

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

LEVELS = 8
"""Widths of every group: eighths of its base width."""

GRAIN = 8
"""Channels that the device computes at once."""

LEAST_ERROR, CHANCE = 0.08, 0.9


@dataclass(frozen=True)
class Stage:
    """Blocks that share a width.

    Attributes:
        width: base number of channels, outer and inner.
        pixels: of a feature map.
        blocks: how many.
    """

    width: int
    pixels: int
    blocks: int


STAGES = (Stage(32, 1024, 8), Stage(64, 512, 9), Stage(128, 256, 8))
"""50 variables: 3 widths of stages, 25 inner widths, 22 flags."""


class SyntheticPruning(Problem):  # type: ignore[misc]  # pymoo has no types
    """Minimise error, latency in microseconds and memory in kilobytes.

    Variables: per stage its width and then the inner width of each block (0 thinnest to 7 unpruned), then one flag
    for each block that can be removed (1 remains). The inner width of a removed block does nothing and is
    canonically 7.

    Args:
        seed: of the sensitivities.
        stages: the network.
        noise: standard deviation that is added to every error, drawn from the point itself; the front is of the
            errors without it.
    """

    def __init__(self, seed: int, stages: tuple[Stage, ...] = STAGES, noise: float = 0.0) -> None:
        rng = np.random.default_rng(seed)
        self.stages = stages
        self.seed = seed
        self.noise = noise
        counts = [stage.blocks for stage in stages]
        self._widths = sum(counts) + len(stages)
        starts = np.cumsum([0, *(count + 1 for count in counts)])
        self._outer = starts[:-1]
        self._inner = [np.arange(start + 1, start + 1 + count) for start, count in zip(starts, counts, strict=False)]
        flags = np.cumsum([self._widths, *(count - 1 for count in counts)])
        self._flags = [np.arange(start, start + count - 1) for start, count in zip(flags, counts, strict=False)]
        total = sum(counts)
        self._sensitivity = _split(rng.lognormal(np.log(0.6 / total), 0.8, total), counts)
        self._steepness = _split(rng.uniform(1.5, 4.0, total), counts)
        self._removal = [share * rng.lognormal(0.2, 0.5, len(share)) + 0.12 / total for share in self._sensitivity]
        self._synergy = _split(rng.lognormal(np.log(0.3 / total), 0.5, total), counts)
        self._coupling = _split(rng.lognormal(np.log(0.15 / total), 0.5, total), counts)
        self._bumps = _split(rng.normal(0, 0.03 / total, (total, LEVELS)) * (np.arange(LEVELS) < LEVELS - 1), counts)
        self._outer_sensitivity = rng.lognormal(np.log(1.0 / len(stages)), 0.3, len(stages))
        variables = self._widths + total - len(stages)
        super().__init__(
            n_var=variables,
            n_obj=3,
            xl=np.zeros(variables, dtype=np.int64),
            xu=np.array([LEVELS - 1] * self._widths + [1] * (variables - self._widths), dtype=np.int64),
            vtype=int,
        )

    @property
    def structure(self) -> Structure:
        """Each block with its flag is a unit, each width of a stage is one."""
        units: list[tuple[int, ...]] = []
        for outer, inner, flags in zip(self._outer, self._inner, self._flags, strict=True):
            units += [(int(outer),), (int(inner[0]),)]
            units += [(int(width), int(flag)) for width, flag in zip(inner[1:], flags, strict=True)]
        return Structure(tuple(units), self.canonical)

    @property
    def cheap(self) -> Cheap:
        """Latency and memory."""
        return Cheap((1, 2), self.costs)

    @property
    def groups(self) -> int:
        """Number of widths; their variables come before the flags."""
        return self._widths

    def nearest(self, shares: FloatArray) -> IntArray:
        """(n, v) points whose widths are nearest to (n, groups) shares of their base, all blocks there."""
        widths = np.clip(np.ceil(shares * LEVELS - 0.5), 1, LEVELS).astype(np.int64) - 1
        return np.column_stack([widths, np.ones((len(shares), self.n_var - self._widths), dtype=np.int64)])

    @property
    def base(self) -> FloatArray:
        """(3,) objectives of the unpruned network."""
        return np.asarray(self.objectives(self.xu[None])[0], dtype=np.float64)

    def canonical(self, x: IntArray) -> IntArray:
        """(n, v) points, the inner widths of removed blocks at their base."""
        fixed = np.array(x, dtype=np.int64)
        for inner, flags in zip(self._inner, self._flags, strict=True):
            fixed[:, inner[1:]] = np.where(fixed[:, flags] == 1, fixed[:, inner[1:]], LEVELS - 1)
        return fixed

    def costs(self, x: IntArray) -> FloatArray:
        """(n, 2) latency in microseconds and memory in kilobytes of (n, v) points."""
        points = np.asarray(x, dtype=np.int64)
        latency, memory = np.zeros(len(points)), np.zeros(len(points))
        before: IntArray | None = None
        for place, stage in enumerate(self.stages):
            outer, options = self._options(points, place)
            if before is not None:
                latency += _crossing(stage, before, outer)
            latency += np.take_along_axis(_latency(stage)[outer], options, axis=1).sum(axis=1)
            memory = np.maximum(memory, np.take_along_axis(_memory(stage)[outer], options, axis=1).max(axis=1))
            before = outer
        return np.stack([latency, memory], axis=1)

    def objectives(self, x: IntArray) -> FloatArray:
        """(n, 3) objectives of (n, v) points, without noise."""
        points = np.asarray(x, dtype=np.int64)
        loss = np.zeros(len(points))
        for place in range(len(self.stages)):
            outer, options = self._options(points, place)
            loss += self._outer_loss(place)[outer]
            for block in range(options.shape[1]):
                table = self._block_loss(place, block)
                previous = options[:, block - 1] if block else np.full(len(points), LEVELS - 1)
                loss += table[outer, previous, options[:, block]]
        return np.column_stack([_error(loss), self.costs(points)])

    def _evaluate(self, x: IntArray, out: dict[str, Any], *_args: Any, **_kwargs: Any) -> None:
        points = np.asarray(x, dtype=np.int64)
        values = self.objectives(points)
        if self.noise:
            for row, point in enumerate(self.canonical(points)):
                own = np.random.default_rng([self.seed, *map(int, point)])
                values[row, 0] = np.clip(values[row, 0] + self.noise * own.standard_normal(), 0, 1)
        out["F"] = values

    def _options(self, x: IntArray, stage: int) -> tuple[IntArray, IntArray]:
        """(n,) level of the stage and (n, b) option of each block: 0 to 7 a width, 8 removed."""
        options = x[:, self._inner[stage]].copy()
        options[:, 1:][x[:, self._flags[stage]] == 0] = LEVELS
        return x[:, self._outer[stage]], options

    def _outer_loss(self, stage: int) -> FloatArray:
        return self._outer_sensitivity[stage] * _missing()[:LEVELS] ** 2  # type: ignore[no-any-return]  # numpy: ndarray ** 2

    def _block_loss(self, stage: int, block: int) -> FloatArray:
        """(8, 9, 9) loss of a block by the stage's level, the option of the block before, and its own."""
        missing = _missing()
        sensitivity, steepness = self._sensitivity[stage][block], self._steepness[stage][block]
        own = np.append(sensitivity * missing[:LEVELS] ** steepness, self._removal[stage][block])
        thin_stage = 1 + 0.6 * missing[:LEVELS]
        table = thin_stage[:, None, None] * own[None, None, :]
        table = table + self._coupling[stage][block] * missing[None, :, None] * missing[None, None, :]
        table[:, LEVELS, LEVELS] += self._synergy[stage][block]
        table[:, :, :LEVELS] += self._bumps[stage][block]
        return np.asarray(table, dtype=np.float64)

    @cached_property
    def front(self) -> FloatArray:
        """(k, 3) the exact Pareto front."""
        limits = np.unique([_memory(stage) for stage in self.stages])
        found = []
        for limit in limits:
            least = self._least_losses(float(limit))
            latencies = np.flatnonzero(np.isfinite(least))
            falling = latencies[least[latencies] < np.append(np.inf, np.minimum.accumulate(least[latencies])[:-1])]
            found.append(np.column_stack([_error(least[falling]), falling, np.full(len(falling), limit)]))
        points = np.concatenate(found)
        return np.asarray(points[moocore.is_nondominated(points)], dtype=np.float64)

    def _least_losses(self, limit: float) -> FloatArray:
        """Least loss at each latency in microseconds, of all networks whose memory is within a limit."""
        length = int(self.base_latency) + 1
        ends = np.full((LEVELS, length), np.inf)
        for place, stage in enumerate(self.stages):
            latencies, allowed = _latency(stage), _memory(stage) <= limit
            after = np.full((LEVELS, length), np.inf)
            for outer in range(LEVELS):
                begin = np.full(length, np.inf)
                if place == 0:
                    begin[0] = 0.0
                else:
                    for before in range(LEVELS):
                        step = int(_crossing(stage, np.array([before]), np.array([outer]))[0])
                        begin = np.minimum(begin, _later(ends[before], step))
                state = np.full((LEVELS + 1, length), np.inf)  # by the option of the block before
                state[LEVELS - 1] = begin + self._outer_loss(place)[outer]
                for block in range(stage.blocks):
                    table = self._block_loss(place, block)[outer]
                    following = np.full_like(state, np.inf)
                    for option in range(LEVELS + (block > 0)):
                        if allowed[outer, option]:
                            best = (state + table[:, option, None]).min(axis=0)
                            following[option] = _later(best, int(latencies[outer, option]))
                    state = following
                after[outer] = state.min(axis=0)
            ends = after
        return np.asarray(ends.min(axis=0), dtype=np.float64)

    @property
    def base_latency(self) -> float:
        """Microseconds of the unpruned network, the slowest."""
        return float(self.costs(self.xu[None])[0, 0])


def _split(values: FloatArray, counts: list[int]) -> list[FloatArray]:
    return np.split(values, np.cumsum(counts)[:-1])


def _missing() -> FloatArray:
    """(9,) share of the channels that each option lacks."""
    return np.append(1 - (np.arange(LEVELS) + 1) / LEVELS, 1.0)


def _channels(stage: Stage) -> FloatArray:
    return stage.width * (np.arange(LEVELS) + 1) / LEVELS


def _latency(stage: Stage) -> FloatArray:
    """(8, 9) whole microseconds of a block by the stage's level and the block's option."""
    groups = np.ceil(_channels(stage) / GRAIN)
    kept = 4 + np.round(groups[:, None] * groups[None, :] * stage.pixels / 600)
    return np.column_stack([kept, np.zeros(LEVELS)])


def _crossing(stage: Stage, before: IntArray, outer: IntArray) -> FloatArray:
    """Whole microseconds of the step from the previous stage, whose base width is half of this one's."""
    groups = np.ceil(_channels(stage) / GRAIN)
    return np.asarray(2 + np.round(np.ceil(groups[before] / 2) * groups[outer] * stage.pixels / 1200), dtype=np.float64)


def _memory(stage: Stage) -> FloatArray:
    """(8, 9) kilobytes of a block by the stage's level and the block's option."""
    channels = np.append(_channels(stage), 0.0)
    live = 2 * channels[:LEVELS, None] + channels[None, :]
    return np.asarray(stage.pixels * 4 / 1000 * live, dtype=np.float64)


def _error(loss: FloatArray) -> FloatArray:
    return LEAST_ERROR + (CHANCE - LEAST_ERROR) * (1 - np.exp(-np.maximum(loss, 0)))


def _later(values: FloatArray, step: int) -> FloatArray:
    """Values shifted by whole microseconds."""
    return np.concatenate([np.full(step, np.inf), values[: len(values) - step]])
