"""EMO-DIR (Shang et al. 2023) on CIFAR-10: how accurate at 50 and 70 % fewer MACs, and is dividing cheaper?

python -m tests.benchmarks equal-macs --folder DIR [--model resnet20] [--runtime onnxruntime] [--shares 0.5,0.3]
    [--methods emo-dir,hamp,uniform] [--parts measure,search,tune] [the options of equal-latency]

Everything is kept in the folder, which may be that of `equal-latency`: then its campaign and shared weights are used.

- search: every method with two objectives, the error and the multiply-accumulates. EMO-DIR judges by the weights that
  its sub-networks were trained to, the others by the shared weights.
- Dividing against the whole: NSGA-II searches the whole network with EMO-DIR's own weights and judge, so that errors
  can be compared, about four times as long as EMO-DIR took for its parts and their joint; printed is how far it was
  after the same time, and when it was as far as EMO-DIR.
- tune: of each front the network with the least estimated error that has so few MACs, and for all the same fine-tune
  from the base's weights, judged on the 10,000 test images.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from contextlib import ExitStack

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from hwloop.cli.display import Display
from hwloop.models import load_weights
from hwloop.pruning import RECALIBRATED, ErrorEstimator, HeldOut, Recalibration, plan_surgery
from hwloop.search import ErrorOf, Evaluated, OneByOne, SearchResult, run_search
from hwloop.search.comparison import hypervolume_curve
from hwloop.search.front import hypervolume
from hwloop_agent.journal import Journal
from tests.benchmarks.equal_latency import accuracy_of, cost_of, options, tune
from tests.benchmarks.tournament import Pupil, Tournament

OBJECTIVES = ("error", "macs")
MACS = 1
WORST_ERROR = 0.9
"""Reference of the hypervolume, with the base's MACs: that of chance."""

WHOLE, PATIENCE = "nsga2", 4
"""The evolution of the whole network has so many times as long."""


def main(arguments: Sequence[str] = ()) -> None:
    """Carry out the parts that are asked for, and print what they found."""
    parser = options("equal-macs", methods="emo-dir,hamp,uniform", parts="measure,search,tune", runtime="onnxruntime")
    parser.add_argument("--shares", default="0.5,0.3", help="of the base's multiply-accumulates")
    given = parser.parse_args(list(arguments))
    shares = [float(share) for share in given.shares.split(",")]
    torch.set_num_threads(1)
    console = Console(width=170, highlight=False)
    with ExitStack() as stack:
        pupil = Pupil.open(given, console)
        tournament = Tournament.open(pupil, stack, OBJECTIVES)
        if "measure" in given.parts:
            tournament.measure()
        found = {method: tournament.search(method) for method in given.methods}
        base_macs = max(one.values[MACS] for result in found.values() for one in result.evaluated)
        for method, result in found.items():
            console.print(f"{method}: {cost_of(result)}, {len(result.front)} networks on the front")
        if "emo-dir" in found:
            _print_dividing(tournament, found["emo-dir"], base_macs)
        chosen = {
            share: {method: _least_error(result, share * base_macs) for method, result in found.items()}
            for share in shares
        }
        taken = [one.candidate for every in chosen.values() for one in every.values() if one is not None]
        tuned = tune(pupil, taken, given.seeds) if "tune" in given.parts else {}
        base = 1 - pupil.errors(pupil.plan.apply(pupil.space.base)) / len(pupil.data.test)
        for share, every in chosen.items():
            table = Table(
                title=f"{given.model}, at most {share:.0%} of {base_macs / 1e6:.1f} M MACs: base {base:.2%};"
                f" {given.epochs} epochs of {given.tune_images} images",
                title_justify="left",
            )
            for name in ("method", "accuracy %", "estimated", "MACs", "search"):
                table.add_column(name)
            for method, one in every.items():
                if one is None:
                    table.add_row(method, "not reached", "", "", cost_of(found[method]))
                    continue
                table.add_row(
                    method,
                    accuracy_of(tuned.get(one.candidate, ())),
                    f"{1 - one.values[0]:.3f}",
                    f"{one.values[MACS] / base_macs:.1%}",
                    cost_of(found[method]),
                )
            console.print(table)
            for method, one in every.items():
                if one is not None:
                    console.print(f"  {method}: {one.text}")


def _least_error(result: SearchResult, most_macs: float) -> Evaluated | None:
    within = [one for one in result.front if one.values[MACS] <= most_macs]
    return min(within, key=lambda one: one.values[0], default=None)


def _print_dividing(tournament: Tournament, divided: SearchResult, base_macs: float) -> None:
    """What EMO-DIR's parts cost, and what the evolution of the whole network has by then."""
    console, space = tournament.pupil.console, tournament.pupil.space
    parts = _part_seconds(tournament)
    joint = [one.seconds for one in divided.evaluated]
    spent = sum(sum(seconds) for seconds in parts.values()) + sum(joint)
    reference = np.array([WORST_ERROR, base_macs])
    reached = hypervolume(_values(divided.evaluated), reference)
    console.print(
        f"emo-dir: parts of {', '.join(str(len(seconds)) for seconds in parts.values())} evaluations, then"
        f" {len(joint)} of the whole network, {spent / 60:.1f} min without the sub-networks' training; hypervolume"
        f" {reached:.4f} (reference: error {WORST_ERROR}, {base_macs / 1e6:.1f} M MACs)"
    )
    whole = _whole(tournament, round(PATIENCE * spent / float(np.mean(joint))))
    curve = hypervolume_curve(_values(whole.evaluated), reference)
    seconds = np.cumsum([one.seconds for one in whole.evaluated])
    first = next((place for place, volume in enumerate(curve) if volume >= reached), None)
    same = int(np.searchsorted(seconds, spent, side="right"))
    told = "not reached" if first is None else f"after {first + 1} evaluations, {seconds[first] / 60:.1f} min"
    console.print(
        f"{WHOLE} in the whole network ({len(space.groups)} widths, {len(space.blocks)} blocks) with emo-dir's weights:"
        f" {curve[same - 1]:.4f} after the same time ({same} evaluations); emo-dir's hypervolume {told}; at its end,"
        f" after {len(curve)} evaluations and {seconds[-1] / 60:.1f} min, {curve[-1]:.4f}"
    )


def _part_seconds(tournament: Tournament) -> Mapping[str, Sequence[float]]:
    """Of every evaluation of each part."""
    found = {}
    for path in sorted((tournament.own("emo-dir") / "study" / "emo-dir").glob("part-*.ndjson")):
        with Journal.open(path) as journal:
            found[path.stem] = [float(one["seconds"]) for one in journal.records if one.get("kind") == "evaluation"]
    return found


def _whole(tournament: Tournament, evaluations: int) -> SearchResult:
    """NSGA-II on the network that EMO-DIR trained, judged as EMO-DIR judges its joint schemes."""
    pupil, given = tournament.pupil, tournament.pupil.given
    trained = copy.deepcopy(pupil.plan.module)
    load_weights(trained, tournament.own("emo-dir") / "study" / "emo-dir" / "trained.pt")
    plan = plan_surgery(trained.eval(), pupil.space)
    judge = ErrorEstimator(
        RECALIBRATED, plan, Recalibration(pupil.data.train), HeldOut(pupil.data.validation), threads=1
    )
    own = tournament.own("whole")
    own.mkdir(parents=True, exist_ok=True)
    campaign = tournament.campaign(tournament.bench(str(own.relative_to(tournament.folder) / "trials")))
    with Journal.open(own / "search.ndjson") as journal:
        return run_search(
            campaign.moves.space,
            OneByOne(ErrorOf(judge)),
            tournament.predictor(campaign),
            OBJECTIVES,
            algorithm=WHOLE,
            population=given.population,
            generations=max(1, round(evaluations / given.population)),
            seed=0,
            journal=journal,
            progress=Display(pupil.console),
            context=judge.conditions,
        )


def _values(evaluated: Sequence[Evaluated]) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    return np.array([one.values for one in evaluated], dtype=np.float64)
