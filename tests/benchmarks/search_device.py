"""HAMP with and without the device in its loop: is what it says of its front true, and are its networks better?

python -m tests.benchmarks search-device --folder DIR [--seeds 3] [--trials 20] [--limit 0.5] [--front 12]
    [the options of equal-latency]

Everything is kept in the folder, which may be that of `equal-latency`: then its campaign and shared weights are used,
however old the campaign is. It uses the clock: nothing else may run.

Searches are paired by seed, with the same limit of the latency, as a share of what the campaign's predictor says of the
base. A device trial counts like an evaluation: the search without the device has as many more of them. Then networks
spread over both fronts are measured together, the base among them, by a journal that neither search has seen.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from hwloop.measurement import Measurement
from hwloop.pruning import Candidate, PruningSpace
from hwloop.search import SearchResult, choose
from hwloop.search.assessor import REFERENCE_MARGIN
from hwloop.search.front import hypervolume
from tests.benchmarks.equal_latency import cost_of, options
from tests.benchmarks.tournament import TRY_PROCESSES, Pupil, Terms, Tournament, predicted, timed

WITH, WITHOUT = "with the device", "without"
ERROR = 0


@dataclass(frozen=True)
class Held:
    """What became of a front when it was measured.

    Attributes:
        measured: networks that were.
        inside: so many of them lie in their predicted intervals.
        off: median relative error of the predicted latency.
        broken: share of them that are measured to be slower than the limit allows.
        volume: share of the box up to the reference that estimated errors and measured latencies dominate.
        least_error: estimated, of the networks that are measured to keep the limit; nan without any.
    """

    measured: int
    inside: int
    off: float
    broken: float
    volume: float
    least_error: float

    @property
    def share(self) -> float:
        """Of the measured ones, inside their intervals."""
        return self.inside / self.measured


def main(arguments: Sequence[str] = ()) -> None:
    """Search, measure, and print what held."""
    parser = options("search-device", methods="hamp", parts="measure,search", runtime="onnxruntime")
    parser.add_argument("--trials", type=int, default=20, help="networks measured during a search")
    parser.add_argument("--limit", type=float, default=0.5, help="of the latency, as a share of the base's")
    parser.add_argument("--front", type=int, default=12, help="networks of each front that are measured")
    given = parser.parse_args(list(arguments))
    torch.set_num_threads(1)
    console = Console(width=170, highlight=False)
    with ExitStack() as stack:
        pupil = Pupil.open(given, console)
        tournament = Tournament.open(pupil, stack)
        tournament.measure()
        campaign = tournament.campaign(tournament.bench("tries"))
        space = campaign.moves.space
        base_ms = float(predicted(tournament.predictor(campaign), space, [space.base]).latency_ms[0])
        limit_ms = given.limit * base_ms
        held: dict[str, list[Held]] = {WITH: [], WITHOUT: []}
        for seed in range(given.seeds):
            found = {
                name: tournament.hamp(
                    f"device-{seed}-{trials}-{given.limit:g}", Terms(generations, seed, trials, limit_ms)
                )
                for name, trials, generations in (
                    (WITH, given.trials, given.generations),
                    (WITHOUT, 0, given.generations + round(given.trials / given.population)),
                )
            }
            elites = {name: choose(result.front, given.front) for name, result in found.items()}
            bench = tournament.bench(f"device-{seed}-{given.trials}-{given.limit:g}-front")
            every = [space.base, *(one.candidate for front in elites.values() for one in front)]
            measured = timed(replace(campaign, bench=bench), every, TRY_PROCESSES)
            pace = measured[space.base].latency_ms / base_ms
            console.print(f"seed {seed}: the base runs at {pace:.3f} of what the campaign's predictor says")
            for name, result in found.items():
                one = _held(result, [each.candidate for each in elites[name]], measured, space, limit_ms)
                held[name].append(one)
                console.print(
                    f"  {name:15}: {cost_of(result)}, {len(result.measured)} networks measured during it;"
                    f" {len(elites[name])} of {len(result.front)} of its front measured: {one.share:.0%} inside their"
                    f" intervals, median error {one.off:.1%}, {one.broken:.0%} beyond the limit, least estimated error"
                    f" within it {one.least_error:.3f}, hypervolume {one.volume:.4f}"
                )
        for name, every in held.items():
            inside = sum(one.inside for one in every)
            console.print(f"{name}: {inside} of {sum(one.measured for one in every)} networks inside their intervals")
        console.print(_table(held, f"{given.model} in {given.runtime}, at most {limit_ms:.3f} ms, {given.seeds} seeds"))


def _held(
    result: SearchResult,
    elites: Sequence[Candidate],
    measured: Mapping[Candidate, Measurement],
    space: PruningSpace,
    limit_ms: float,
) -> Held:
    usable = [one for one in elites if measured[one].usable]
    widths, remains = space.arrays(usable)
    foretold = result.predictor.predict(widths, remains)
    latencies = np.array([measured[one].latency_ms for one in usable])
    errors = np.array([next(e.values[ERROR] for e in result.front if e.candidate == one) for one in usable])
    reference = np.array([1.0, REFERENCE_MARGIN * measured[space.base].latency_ms])
    keeps = latencies <= limit_ms
    return Held(
        measured=len(usable),
        inside=int(((foretold.low_ms <= latencies) & (latencies <= foretold.high_ms)).sum()),
        off=float(np.median(np.abs(foretold.latency_ms / latencies - 1))),
        broken=float(1 - keeps.mean()),
        volume=hypervolume(np.stack([errors, latencies], axis=1), reference),
        least_error=float(errors[keeps].min()) if keeps.any() else float("nan"),
    )


def _table(held: Mapping[str, Sequence[Held]], title: str) -> Table:
    table = Table(title=f"{title}: median (lowest to highest)", title_justify="left")
    for name in ("hamp", "inside intervals", "error of latency", "beyond the limit", "least error", "hypervolume"):
        table.add_column(name)
    for name, every in held.items():
        table.add_row(
            name,
            *(
                _spread([getattr(one, what) for one in every], style)
                for what, style in (
                    ("share", ".0%"),
                    ("off", ".1%"),
                    ("broken", ".0%"),
                    ("least_error", ".3f"),
                    ("volume", ".4f"),
                )
            ),
        )
    return table


def _spread(values: Sequence[float], style: str) -> str:
    return f"{statistics.median(values):{style}} ({min(values):{style}} to {max(values):{style}})"
