"""HAMP, NetAdapt and uniform scaling on CIFAR-10: whose networks are more accurate at the same measured latency?

python -m tests.benchmarks equal-latency --folder DIR [--model resnet20] [--runtime litert] [--speed-ups 1.5,2]
    [--methods hamp,hamp-widths,netadapt,uniform] [--parts measure,adapt,search,choose,tune] [--images 15000]
    [--judge-images 2000] [--adaptation-epochs 3] [--population 20] [--generations 15] [--netadapt-step 0.04]
    [--netadapt-batches 25] [--tries 5] [--elites 6] [--epochs 6] [--tune-images 15000] [--rate 0.05]
    [--distillation 0] [--seeds 2] [--layers 400] [--networks 30] [--minutes 10] [--grain 8] [--data DIR]

Everything is kept in the folder: stop it and run it again, with more seeds or other parts. `measure` and `choose` use
the clock and want a machine on which nothing else runs; the other parts do not.

- measure: layers and networks of the pruning space on this machine, for the predictor that all methods share.
- adapt: the weights that all candidates share, once per model; with them the judge estimates errors.
- search: each method with the same objectives. NetAdapt judges by its own short-term fine-tunes, the others by the
  shared weights; `hamp-widths` removes no blocks; NSGA-II and EMO-DIR can be asked for (`nsga2`, `emo-dir`).
- choose: one rule for all. Of a method's front, the networks that are predicted to be so much faster than the base are
  measured in the order of their estimated errors, until one is; at most `--tries` of them. Then the base and all that
  were chosen are measured again together, the processes of all interleaved.
- tune: the same fine-tune for all, from the base's weights, judged on the 10,000 test images.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from hwloop.measurement import Measurement
from hwloop.pruning import Candidate
from hwloop.search import Evaluated, SearchResult, choose
from hwloop.study.space_campaign import SpaceCampaign, load_networks
from hwloop.study.speedup import compared
from hwloop_agent.journal import Journal
from tests.benchmarks.choosing import Choice
from tests.benchmarks.cifar import SHARED
from tests.benchmarks.tournament import TRY_PROCESSES, Pupil, Tournament, Tuned, predicted, timed

PARTS = ("measure", "adapt", "search", "choose", "tune")
METHODS = ("hamp", "hamp-widths", "netadapt", "uniform")
OWN_WEIGHTS = ("netadapt", "emo-dir")
LATENCY = 1
"""Place of the latency among the objectives."""

MB = 1e6

RULE = (
    "rule: of a front's networks that are predicted to be fast enough, in the order of their estimated errors the first"
    " that is measured to be; then the same fine-tune for all, from the base's weights"
)


def main(arguments: Sequence[str] = ()) -> None:
    """Carry out the parts that are asked for, and print what they found."""
    parser = options("equal-latency", methods=",".join(METHODS), parts=",".join(PARTS), runtime="litert")
    parser.add_argument("--speed-ups", type=_numbers, default=(1.5, 2.0))
    parser.add_argument("--tries", type=int, default=5, help="networks measured per method and target")
    parser.add_argument("--elites", type=int, default=6, help="of each front, measured to test the predictor")
    given = parser.parse_args(list(arguments))
    parts = set(given.parts)
    torch.set_num_threads(1)
    console = Console(width=170, highlight=False)
    with ExitStack() as stack:
        pupil = Pupil.open(given, console)
        tournament = Tournament.open(pupil, stack)
        if "measure" in parts:
            tournament.measure()
        if parts & {"adapt", "choose", "tune"}:
            _print_adaptation(pupil)
        if not parts & {"search", "choose", "tune"}:
            return
        found = {method: tournament.search(method) for method in given.methods}
        for method, result in found.items():
            console.print(f"{method}: {cost_of(result)}, {len(result.front)} networks on the front")
        if not parts & {"choose", "tune"}:
            return
        campaign = tournament.campaign(tournament.bench("tries"))
        choices = tournament.choose(found, campaign)
        taken = [one.taken.candidate for every in choices.values() for one in every if one.taken is not None]
        measured = tournament.finals(campaign, taken)
        judged = replace(campaign, bench=tournament.bench("elites"))
        elites = timed(judged, _elites(found.values(), choices, given.elites), TRY_PROCESSES)
        tried = [one.candidate for every in choices.values() for choice in every for one in choice.tried]
        _print_predictions(tournament, campaign, timed(campaign, tried, TRY_PROCESSES), elites, measured)
        tuned = tune(pupil, taken, given.seeds) if "tune" in parts else {}
        base = 1 - pupil.errors(pupil.plan.apply(pupil.space.base)) / len(pupil.data.test)
        console.print(RULE)
        for speed_up, every in choices.items():
            console.print(_table(tournament, campaign, speed_up, every, found, measured, tuned, base))
            for choice in every:
                if choice.taken is not None:
                    console.print(f"  {choice.method}: {choice.taken.text}")
        _print_front_cost(found, choices, console)


def tune(pupil: Pupil, taken: Iterable[Candidate], seeds: int) -> Mapping[Candidate, list[Tuned]]:
    """Every network once with each seed; the first seed of all before the second of any."""
    every: dict[Candidate, list[Tuned]] = {candidate: [] for candidate in taken}
    with Journal.open(pupil.folder / "tuned.ndjson") as journal:
        for seed in range(seeds):
            for candidate, results in every.items():
                results.append(pupil.tuned(candidate, seed, journal))
                pupil.console.print(f"  seed {seed}: {results[-1].accuracy:.2%} {pupil.space.text(candidate)}")
    return every


def _elites(found: Iterable[SearchResult], choices: Mapping[float, Sequence[Choice]], count: int) -> list[Candidate]:
    """Some networks of each front, spread between 0.8 of the lowest target and 1.2 of the highest."""
    targets = [choice.target_ms for every in choices.values() for choice in every]
    low, high = 0.8 * min(targets), 1.2 * max(targets)
    elites: list[Candidate] = []
    for result in found:
        within = [one for one in result.front if low <= one.values[LATENCY] <= high]
        elites += [one.candidate for one in choose(within, count)]
    return elites


def _table(
    tournament: Tournament,
    campaign: SpaceCampaign,
    speed_up: float,
    choices: Sequence[Choice],
    found: Mapping[str, SearchResult],
    measured: Mapping[Candidate, Measurement],
    tuned: Mapping[Candidate, Sequence[Tuned]],
    base: float,
) -> Table:
    space, given = campaign.moves.space, tournament.pupil.given
    unpruned = measured[space.base]
    table = Table(
        title=f"{given.model} in {given.runtime}, {speed_up:g}x: base {base:.2%},"
        f" {unpruned.latency_ms:.3f} ms ({unpruned.interval_ms.low:.3f}-{unpruned.interval_ms.high:.3f}),"
        f" peak {unpruned.peak_bytes / MB:.1f} MB; {given.epochs} epochs of {given.tune_images} images",
        title_justify="left",
    )
    for name in (
        "method",
        "accuracy %",
        "estimated",
        "predicted ms",
        "measured ms",
        "speed-up",
        "MB predicted/measured",
        "search",
        "tries",
    ):
        table.add_column(name, overflow="fold")
    predictor = tournament.predictor(campaign)
    for choice in choices:
        cost = cost_of(found[choice.method])
        if choice.taken is None:
            fastest = min(one.values[LATENCY] for one in found[choice.method].front)
            reason = f"fastest: {fastest:.3f}" if not choice.tried else "none in time"
            table.add_row(choice.method, "not reached", "", reason, *[""] * 3, cost, str(len(choice.tried)))
            continue
        candidate, foretold = choice.taken.candidate, predicted(predictor, space, [choice.taken.candidate])
        one = measured[candidate]
        ratio = compared(unpruned, one)
        table.add_row(
            choice.method,
            accuracy_of(tuned.get(candidate, ())),
            f"{1 - choice.taken.values[0]:.3f}",
            f"{foretold.latency_ms[0]:.3f} ({foretold.low_ms[0]:.3f}-{foretold.high_ms[0]:.3f})",
            f"{one.latency_ms:.3f} ({one.interval_ms.low:.3f}-{one.interval_ms.high:.3f})",
            f"{ratio.value:.2f} ({ratio.interval.low:.2f}-{ratio.interval.high:.2f})",
            f"{foretold.peak_bytes[0] / MB:.1f}/{one.peak_bytes / MB:.1f}",
            cost,
            str(len(choice.tried)),
        )
    return table


def accuracy_of(tuned: Sequence[Tuned]) -> str:
    """Mean and, in brackets, every seed."""
    shares = [100 * one.accuracy for one in tuned]
    if not shares:
        return "not tuned"
    return f"{statistics.fmean(shares):.2f} ({', '.join(f'{share:.2f}' for share in shares)})"


def cost_of(result: SearchResult) -> str:
    """Evaluations and minutes of a search."""
    seconds = sum(one.seconds for one in result.evaluated)
    return f"{len(result.evaluated)} evaluations, {seconds / 60:.1f} min"


def _print_adaptation(pupil: Pupil) -> None:
    found = pupil.adapted()
    pupil.console.print(
        f"shared weights: {len(found.losses)} epochs of {len(pupil.data.train)} images, {found.seconds / 60:.1f} min,"
        f" once for all methods but {' and '.join(OWN_WEIGHTS)}"
    )


def _print_predictions(
    tournament: Tournament, campaign: SpaceCampaign, *measured: Mapping[Candidate, Measurement]
) -> None:
    """How many measured networks lie in the interval that was predicted when nothing of them was known."""
    every = {candidate: one.latency_ms for found in measured for candidate, one in found.items() if one.usable}
    networks, about = load_networks(tournament.folder / "networks.json")
    predictor = tournament.predictor(campaign)
    foretold = predicted(predictor, campaign.moves.space, list(every))
    latencies = np.array(list(every.values()))
    base = campaign.moves.space.base
    pace = every[base] / predicted(predictor, campaign.moves.space, [base]).latency_ms[0]
    others = np.array([candidate != base for candidate in every])

    def told(scale: float, of: NDArray[np.bool_]) -> str:
        inside = ((scale * foretold.low_ms <= latencies) & (latencies <= scale * foretold.high_ms))[of]
        off = np.abs(scale * foretold.latency_ms / latencies - 1)[of]
        return f"{inside.sum()} of {len(inside)} inside, median error {np.median(off):.1%}, largest {off.max():.1%}"

    tournament.pupil.console.print(
        f"measured networks and their {predictor.coverage.nominal:.0%} interval: {told(1.0, np.ones_like(others))}; at"
        f" the pace of now ({pace:.3f} of the campaign's, told by the base, which is left out)"
        f" {told(pace, others)}; from {about['layers']} layers and {len(networks)} networks,"
        f" {about['seconds']:.0f} s of measuring, once for all methods"
    )


def _print_front_cost(
    found: Mapping[str, SearchResult], choices: Mapping[float, Sequence[Choice]], console: Console
) -> None:
    """One search for a whole front, and NetAdapt once per network of that front."""
    if not {"hamp", "netadapt"} <= found.keys():
        return
    fastest = min(choice.target_ms for every in choices.values() for choice in every)
    slowest = max(one.values[LATENCY] for one in found["netadapt"].evaluated[:1])
    points = [one.values[LATENCY] for one in found["hamp"].front if fastest <= one.values[LATENCY] < slowest]
    runs = [_until(found["netadapt"].evaluated, latency) for latency in points]
    console.print(
        f"one search, whole set: hamp's front has {len(points)} networks between the base and {fastest:.3f} ms, for"
        f" {cost_of(found['hamp'])}; netadapt once per such network: {sum(len(run) for run in runs)} evaluations,"
        f" {sum(one.seconds for run in runs for one in run) / 60:.1f} min (each run is as long as its one long run was"
        " until that latency)"
    )


def _until(evaluated: Sequence[Evaluated], latency: float) -> Sequence[Evaluated]:
    """NetAdapt's evaluations up to the iteration that reached a latency."""
    reached = next((one.generation for one in evaluated if one.values[LATENCY] <= latency), evaluated[-1].generation)
    return [one for one in evaluated if one.generation <= reached]


def _numbers(text: str) -> tuple[float, ...]:
    return tuple(map(float, text.split(",")))


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split(","))


def options(name: str, *, methods: str, parts: str, runtime: str) -> argparse.ArgumentParser:
    """What can be said of a pupil and its tournament."""
    parser = argparse.ArgumentParser(prog=f"python -m tests.benchmarks {name}")
    parser.add_argument("--folder", type=Path, required=True, help="everything is kept there")
    parser.add_argument("--data", type=Path, default=SHARED)
    parser.add_argument("--model", default="resnet20", help="of which adapted weights are there")
    parser.add_argument("--runtime", default=runtime)
    parser.add_argument("--methods", type=_words, default=methods)
    parser.add_argument("--parts", type=_words, default=parts)
    parser.add_argument("--images", type=int, default=15000, help="for every training")
    parser.add_argument("--judge-images", type=int, default=2000, help="held out, at most 5000")
    parser.add_argument("--adaptation-epochs", type=int, default=3)
    parser.add_argument("--population", type=int, default=20)
    parser.add_argument("--generations", type=int, default=15)
    parser.add_argument("--netadapt-step", type=float, default=0.04)
    parser.add_argument("--netadapt-batches", type=int, default=25, help="of each short-term fine-tune")
    parser.add_argument("--epochs", type=int, default=6, help="of the fine-tune")
    parser.add_argument("--tune-images", type=int, default=15000, help="for each of them, at most --images")
    parser.add_argument("--rate", type=float, default=0.05, help="the highest of its one-cycle schedule")
    parser.add_argument("--distillation", type=float, default=0.0, help="weight of the base's answers in it")
    parser.add_argument("--seeds", type=int, default=2, help="of the fine-tune")
    parser.add_argument("--layers", type=int, default=400)
    parser.add_argument("--networks", type=int, default=30)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--grain", type=int, default=8)
    return parser
