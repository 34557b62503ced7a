"""Local search on surrogates: many moves are guessed, only the best few are evaluated.

A set of points walks through the neighbourhood: each round every point gets neighbours and some pairs get children.
Their cheap objectives are computed and the expensive ones guessed, and of the union those stay that are not dominated,
in the order of two selections that keep them apart: dominance decides what is accepted, so a move that is only better
in one objective does not push a trade-off out, and the selections guard diversity. The walk begins at the evaluated
front, where the last walk ended, and at points of which the surrogates are least sure.

Of everything visited the candidates are picked one by one: whichever adds most to the hypervolume of the
evaluated front and of those picked before, by a guess that is optimistic for some of them.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from hwloop.search.hamp.archive import Archive
from hwloop.search.hamp.neighbours import neighbours
from hwloop.search.hamp.picking import greedy_hypervolume
from hwloop.search.hamp.selection import crowding, decomposition
from hwloop.search.hamp.selection.order import fronts, scaled
from hwloop.search.hamp.surrogate import MOST_LEARNT_FROM, Surrogate
from hwloop.search.hamp.variation import Variation
from hwloop.search.structure import Cheap, Structure

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

MOST_PICKED_FROM = 400

VARIATION = Variation(crossover=1.0, rate=1.0)


@dataclass(frozen=True)
class LocalSearch:
    """How far and how wide it looks.

    Attributes:
        rounds: of the walk.
        walkers: points that walk.
        moves: neighbours of each in a round.
        pairs: of walkers that have a child in a round.
        unsure: share of the walkers that begin where the surrogates are least sure.
        sigmas: how optimistic the guesses are of which every second candidate is picked.
        apart: grains by which two candidates of one generation differ at least.
        after: evaluations before the first surrogate is fitted.
    """

    rounds: int = 20
    walkers: int = 100
    moves: int = 2
    pairs: int = 250
    unsure: float = 0.15
    sigmas: float = 0.5
    apart: int = 2
    after: int = 20


@dataclass
class Walk:
    """The state of the local search of one problem: its surrogates, and where the last walk ended.

    Args:
        settings: of the search.
        low: (v,) lower bounds.
        high: (v,) upper bounds.
        structure: of the variables.
        cheap: objectives that are computed.
        objectives: how many there are.
    """

    settings: LocalSearch
    low: IntArray
    high: IntArray
    structure: Structure
    cheap: Cheap
    objectives: int
    ends: IntArray | None = None
    models: dict[int, Surrogate] = field(init=False)

    def __post_init__(self) -> None:
        dear = [column for column in range(self.objectives) if column not in self.cheap.columns]
        self.models = {column: Surrogate() for column in dear}

    def candidates(self, archive: Archive, count: int, rng: np.random.Generator) -> IntArray:
        """(k, v) points worth an evaluation, none of them in the archive; k <= count."""
        known = np.flatnonzero(archive.violation <= 0)
        if len(known) < self.settings.after or count < 1:
            return np.zeros((0, len(self.low)), dtype=np.int64)
        self._learn(archive, known)
        x, f = self._walk(archive, rng)
        return self._pick(archive, x, f, count)

    def _learn(self, archive: Archive, known: IntArray) -> None:
        layers = fronts(archive.f[known], MOST_LEARNT_FROM)
        important = known[np.concatenate(layers[::-1])]  # the front last
        for column, model in self.models.items():
            model.fit(self._even(archive.x[important]), archive.f[important, column])

    def _walk(self, archive: Archive, rng: np.random.Generator) -> tuple[IntArray, FloatArray]:
        """Everything visited that was not evaluated: (k, v) points and their guessed (k, m) values."""
        settings = self.settings
        front = archive.front
        here, values = archive.x[front], archive.f[front]
        starts = [] if self.ends is None else [archive.new(self.ends)]
        starts.append(self._unsure(archive, rng))
        for start in starts:
            if len(start):
                here, values = np.concatenate([here, start]), np.concatenate([values, self._guess(start)])
        seen: dict[bytes, None] = {}
        visited, guessed = [here[len(front) :]], [values[len(front) :]]
        for turn in range(settings.rounds):
            kept = self._accept(values, turn)
            here, values = here[kept], values[kept]
            there = self._moved(here, rng)
            there = archive.new(self.structure.canonical(there))
            there = there[[row.tobytes() not in seen for row in there]]
            if not len(there):
                continue
            seen.update((row.tobytes(), None) for row in there)
            guess = self._guess(there)
            visited.append(there)
            guessed.append(guess)
            here, values = np.concatenate([here, there]), np.concatenate([values, guess])
        kept = self._accept(values, 0)
        self.ends = here[kept]
        return np.concatenate(visited), np.concatenate(guessed)

    def _moved(self, here: IntArray, rng: np.random.Generator) -> IntArray:
        """Neighbours of the walkers, and children of pairs of them."""
        steps = neighbours(here, self.settings.moves, self.structure, self.low, self.high, rng)
        first, second = rng.integers(0, len(here), (2, self.settings.pairs))
        bred = VARIATION.children(here[first], here[second], self.structure, self.low, self.high, rng)
        return np.concatenate([steps, bred])

    def _accept(self, values: FloatArray, turn: int) -> IntArray:
        keep = min(self.settings.walkers, len(values))
        select = (decomposition, crowding)[turn % 2]
        return select(scaled(values), keep)[:keep]

    def _unsure(self, archive: Archive, rng: np.random.Generator) -> IntArray:
        """Neighbours of the front of which the surrogates are least sure."""
        wanted = int(self.settings.unsure * self.settings.walkers)
        around = archive.x[archive.front]
        around = around[rng.permutation(len(around))[: self.settings.walkers]]
        for _ in range(2):
            around = neighbours(around, 2, self.structure, self.low, self.high, rng)
        around = archive.new(self.structure.canonical(around))
        if not self.models or not wanted or not len(around):
            return around[:wanted]
        doubt = sum(model.deviation(self._even(around)) for model in self.models.values())
        return around[np.argsort(-np.asarray(doubt), kind="stable")[:wanted]]

    def _guess(self, x: IntArray) -> FloatArray:
        values = np.empty((len(x), self.objectives))
        values[:, list(self.cheap.columns)] = self.cheap.values(x)
        for column, model in self.models.items():
            values[:, column] = model.mean(self._even(x))
        return values

    def _pick(self, archive: Archive, x: IntArray, f: FloatArray, count: int) -> IntArray:
        front = archive.f[archive.front]
        dominated = np.any(np.all(front[None, :, :] <= f[:, None, :], axis=2), axis=1)
        x, f = x[~dominated], f[~dominated]
        if not len(x):
            return x
        pool = crowding(scaled(f), MOST_PICKED_FROM)[:MOST_PICKED_FROM]
        x, f = x[pool], f[pool]
        hopeful = f.copy()
        for column, model in self.models.items():
            hopeful[:, column] = model.optimistic(self._even(x), self.settings.sigmas)
        chosen = greedy_hypervolume(front, (f, hopeful), count, lambda one, others: self._near(x[one], x[others]))
        return x[chosen]

    def _near(self, one: IntArray, others: IntArray) -> bool:
        grains = np.asarray(np.abs(others - one).sum(axis=1), dtype=np.int64)
        return bool(grains.min() < self.settings.apart)

    def _even(self, x: IntArray) -> FloatArray:
        return np.asarray((x - self.low) / np.maximum(self.high - self.low, 1), dtype=np.float64)
