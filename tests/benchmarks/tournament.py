"""One base network, one runtime, several methods: the stages that `equal-latency` compares them by, in a folder."""

from __future__ import annotations

import argparse
import hashlib
import math
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
from rich.console import Console
from torch import nn

from hwloop.cli.display import Display
from hwloop.datasets import ImageData
from hwloop.devices import Device, Inventory
from hwloop.measurement import Bench, CampaignPlan, Measurement, TrialStore
from hwloop.predictors import NetworkPredictor, Prediction
from hwloop.pruning import (
    SHARED_WEIGHTS,
    Adaptation,
    AdaptationConfig,
    Candidate,
    ErrorEstimator,
    HeldOut,
    PruningSpace,
    Recalibration,
    SurgeryPlan,
    adapt,
    foldable_pairs,
    plan_surgery,
    pruning_space,
)
from hwloop.runtimes import get_runtime
from hwloop.search import ErrorOf, HardwareLoop, Measured, OneByOne, SearchResult, parse_constraints, run_search
from hwloop.study.base import Base
from hwloop.study.config import StudyConfig
from hwloop.study.device_loop import DeviceProber
from hwloop.study.directory import StudyDirectory
from hwloop.study.rivals import RIVALS
from hwloop.study.scene import Scene
from hwloop.study.space import MINIMUM_FRACTION, open_space
from hwloop.study.space_campaign import (
    TIMING,
    MeasuredNetwork,
    SpaceCampaign,
    Spending,
    load_networks,
    save_networks,
)
from hwloop.tables import LatencyTable
from hwloop.training import FitConfig, fit
from hwloop_agent.journal import Journal
from tests.benchmarks.choosing import Choice, Predict, settle_choices
from tests.benchmarks.cifar import SHAPE, finetune, images, network

OBJECTIVES = ("error", "latency_ms", "peak_memory_mb")
TRY_PROCESSES, FINAL_PROCESSES = 2, 6

NETADAPT_ITERATIONS = 200
"""More than a space has steps: the loop ends at its budget."""


@dataclass(frozen=True)
class Terms:
    """What is particular to one search.

    Attributes:
        generations: of it.
        seed: of all random choices.
        trials: networks that the device may measure during the search.
        limit_ms: of the latency, that the networks of the front keep; None for no limit.
    """

    generations: int
    seed: int = 0
    trials: int = 0
    limit_ms: float | None = None


@dataclass(frozen=True)
class Tuned:
    """A network after the fine-tune.

    Attributes:
        text: of the candidate.
        seed: of the fine-tune.
        errors: test images that it gets wrong.
        images: test images.
        seconds: that the fine-tune took.
    """

    text: str
    seed: int
    errors: int
    images: int
    seconds: float

    @property
    def accuracy(self) -> float:
        """Share of the test images that it gets right."""
        return 1 - self.errors / self.images


@dataclass(frozen=True)
class Pupil:
    """The base network of all methods, with its data: everything that no device is needed for.

    Attributes:
        given: the options.
        folder: of the model.
        console: is told.
        space: widths and blocks.
        plan: surgery of the base's weights.
    """

    given: argparse.Namespace
    folder: Path
    console: Console
    space: PruningSpace
    plan: SurgeryPlan

    @classmethod
    def open(cls, given: argparse.Namespace, console: Console) -> Pupil:
        """Load the weights and find the space."""
        folder = given.folder / given.model
        folder.mkdir(parents=True, exist_ok=True)
        module = network(given.model, given.data)
        space = pruning_space(module, SHAPE, grain=given.grain, minimum_fraction=MINIMUM_FRACTION)
        return cls(given, folder, console, space, plan_surgery(module, space))

    @cached_property
    def data(self) -> ImageData:
        """Training images, those that every method judges candidates on, and all test images."""
        found = images(self.given.data, self.given.images)
        drawn = np.random.default_rng(0).permutation(len(found.validation))[: self.given.judge_images]
        return replace(found, validation=found.validation.take(drawn), fingerprint=f"{found.fingerprint}, {len(drawn)}")

    def adapted(self) -> Adaptation:
        """The weights that all candidates share, trained once."""
        fitting = FitConfig(self.given.adaptation_epochs, 0.03, augment=True, flip=True, threads=1, device="cpu")
        return adapt(
            self.plan,
            self.space,
            self.data.train,
            config=AdaptationConfig(fitting),
            checkpoint=self.folder / "shared.pt",
            progress=Display(self.console),
        )

    @cached_property
    def judge(self) -> ErrorEstimator:
        """Of all methods that have no weights of their own."""
        preparation, held_out = Recalibration(self.data.train), HeldOut(self.data.validation)
        return ErrorEstimator(SHARED_WEIGHTS, self.adapted().plan, preparation, held_out, threads=1)

    def tuned(self, candidate: Candidate, seed: int, journal: Journal) -> Tuned:
        """Fine-tune the base's weights, sliced, and count errors on the test images; or read what was counted."""
        train = self.data.train.take(np.arange(min(self.given.tune_images, len(self.data.train))))
        text, recipe = self.space.text(candidate), f"{self.recipe(seed).to_record()} on {len(train)} images"
        for record in journal.records:
            if (record["candidate"], record["recipe"]) == (text, recipe):
                return Tuned(text, seed, int(record["errors"]), int(record["images"]), float(record["seconds"]))
        module = self.plan.apply(candidate)
        began = time.perf_counter()
        fit(
            module,
            train,
            config=self.recipe(seed),
            teacher=self.plan.module if self.given.distillation else None,
        )
        found = Tuned(text, seed, self.errors(module), len(self._test), time.perf_counter() - began)
        counted = {"errors": found.errors, "images": found.images, "seconds": found.seconds}
        journal.append({"candidate": text, "recipe": recipe, **counted})
        return found

    def errors(self, module: nn.Module) -> int:
        """How many test images a network gets wrong; it cannot be trained any more."""
        self._test.ready(module.eval(), foldable_pairs(self.plan.module, SHAPE))
        return self._test.errors(module)

    def recipe(self, seed: int) -> FitConfig:
        """The fine-tune of every network."""
        return finetune(self.given, seed)

    @cached_property
    def _test(self) -> HeldOut:
        return HeldOut(self.data.test)


@dataclass(frozen=True)
class Tournament:
    """The methods on one base network, in one runtime on this machine.

    Attributes:
        pupil: the network.
        folder: of this runtime.
        device: this machine.
        stack: closes what is opened.
        objectives: of all searches; with others than the usual, searches have folders of their own.
    """

    pupil: Pupil
    folder: Path
    device: Device
    stack: ExitStack
    objectives: tuple[str, ...] = OBJECTIVES

    @classmethod
    def open(cls, pupil: Pupil, stack: ExitStack, objectives: tuple[str, ...] = OBJECTIVES) -> Tournament:
        """Make the folder."""
        folder = pupil.folder / pupil.given.runtime
        folder.mkdir(exist_ok=True)
        return cls(pupil, folder, Inventory.find().get("local"), stack, objectives)

    def own(self, method: str) -> Path:
        """The folder of a method's search."""
        within = () if self.objectives == OBJECTIVES else ("-".join(self.objectives),)
        return self.folder.joinpath(*within, method)

    def bench(self, name: str) -> Bench:
        """This machine with a journal of its own."""
        store = self.stack.enter_context(TrialStore(self.folder / f"{name}.ndjson"))
        session = "equal-latency-" + hashlib.sha256(str(store.path.resolve()).encode()).hexdigest()[:16]
        plan = CampaignPlan(processes=1, threads=1, timing=TIMING, attempts=2, anchor_every=40)
        return Bench(self.device, session, store, plan, Display(self.pupil.console))

    def campaign(self, bench: Bench) -> SpaceCampaign:
        """The space as the runtime executes it."""
        identity = bench.identify(self.folder / "device.json")
        runtime = get_runtime(self.pupil.given.runtime).for_device(identity.facts)
        moves = open_space(self.pupil.plan.module, SHAPE, runtime.fusion, grain=self.pupil.given.grain)
        return SpaceCampaign(moves, SHAPE, runtime, bench, identity)

    def measure(self) -> None:
        """Run the campaign, or go on with it; nothing is done where it is finished."""
        given = self.pupil.given
        if (self.folder / "networks.json").exists():
            return
        found = self.campaign(self.bench("trials")).run(Spending(given.layers, given.networks, 60 * given.minutes))
        found.table.save(self.folder / "table.parquet")
        about = {"layers": len(found.table), "seconds": found.curve[-1].seconds}
        save_networks(self.folder / "networks.json", found.networks, about)

    def predictor(self, campaign: SpaceCampaign, more: Sequence[MeasuredNetwork] = ()) -> NetworkPredictor:
        """Fitted on what the campaign measured, and on more networks."""
        networks, _ = load_networks(self.folder / "networks.json")
        return campaign.fitted(LatencyTable.load(self.folder / "table.parquet"), (*networks, *more))

    def search(self, method: str) -> SearchResult:
        """Search with a method, or read what it found."""
        pupil, own = self.pupil, self.own(method)
        campaign = self._campaign_of(own)
        if method in RIVALS:
            with Journal.open(own / "search.ndjson") as journal:
                return self._rival(method, campaign, journal)
        space = campaign.moves.space
        return self._judged(
            own,
            campaign,
            method.removesuffix("-widths"),
            Terms(pupil.given.generations),
            space.without_blocks() if method == "hamp-widths" else space,
        )

    def hamp(self, name: str, terms: Terms) -> SearchResult:
        """Search with HAMP on some terms, or read what it found; `name` is of its folder."""
        own = self.own(name)
        campaign = self._campaign_of(own)
        return self._judged(own, campaign, "hamp", terms, campaign.moves.space)

    def _campaign_of(self, own: Path) -> SpaceCampaign:
        own.mkdir(parents=True, exist_ok=True)
        return self.campaign(self.bench(str(own.relative_to(self.folder) / "trials")))

    def _judged(
        self, own: Path, campaign: SpaceCampaign, algorithm: str, terms: Terms, space: PruningSpace
    ) -> SearchResult:
        """Search with the errors that the shared weights' judge estimates."""
        judge, predictor = self.pupil.judge, self.predictor(campaign)
        limits = [] if terms.limit_ms is None else [f"latency_ms <= {terms.limit_ms!r}"]
        with (
            Journal.open(own / "search.ndjson") as journal,
            closing(DeviceProber(campaign.bench, campaign.subject)) as prober,
        ):
            return run_search(
                space,
                OneByOne(ErrorOf(judge)),
                predictor,
                self.objectives,
                algorithm=algorithm,
                population=self.pupil.given.population,
                generations=terms.generations,
                seed=terms.seed,
                journal=journal,
                progress=Display(self.pupil.console),
                context=judge.conditions,
                constraints=parse_constraints(limits),
                hardware=HardwareLoop(
                    terms.trials, prober, lambda found: self.predictor(campaign, _chosen(found, space))
                )
                if terms.trials
                else None,
            )

    def _rival(self, method: str, campaign: SpaceCampaign, journal: Journal) -> SearchResult:
        """Search with a method that has weights of its own, as a study does."""
        given = self.pupil.given
        config = StudyConfig.model_validate(
            {
                "model": {"name": given.model},
                "search": {
                    "objectives": list(self.objectives),
                    "population": given.population,
                    "generations": NETADAPT_ITERATIONS if method == "netadapt" else given.generations,
                },
                "finetune": {"batch_size": 128, "augment": True, "flip": True},
            }
            | ({"netadapt": self._netadapt()} if method == "netadapt" else {})
        )
        base = Base(self.pupil.plan.module, self.pupil.data, SHAPE, math.nan, math.nan)
        with StudyDirectory(self.own(method) / "study", config, "") as study:
            scene = Scene(
                config,
                base,
                campaign.moves,
                self.predictor(campaign),
                campaign.runtime,
                campaign.bench,
                study,
                Display(self.pupil.console),
            )
            return RIVALS[method](scene, journal).result

    def _netadapt(self) -> dict[str, float]:
        """Its settings: a little below the fastest target."""
        given = self.pupil.given
        return {
            "budget": 0.97 / max(given.speed_ups),
            "step": given.netadapt_step,
            "steps": given.netadapt_batches,
        }

    def choose(self, found: Mapping[str, SearchResult], campaign: SpaceCampaign) -> Mapping[float, list[Choice]]:
        """What each method offers at each speed-up.

        What is predicted is how much faster than the base a network is: the machine has another pace than it had in the
        campaign.
        """
        given, space = self.pupil.given, campaign.moves.space
        base_ms = timed(campaign, [space.base], FINAL_PROCESSES)[space.base].latency_ms
        choices = {
            speed_up: [Choice(method, base_ms / speed_up, result.front) for method, result in found.items()]
            for speed_up in given.speed_ups
        }

        def refit(measured: Mapping[Candidate, Measurement]) -> Predict:
            more = [
                MeasuredNetwork(space.text(one), m.latency_ms, m.peak_bytes, m.status, drawn=False)
                for one, m in measured.items()
            ]
            predictor = self.predictor(campaign, more)
            pace = base_ms / predicted(predictor, space, [space.base]).latency_ms[0]
            return lambda candidates: pace * predicted(predictor, space, candidates).latency_ms

        settle_choices(
            [choice for of_target in choices.values() for choice in of_target],
            given.tries,
            refit({}),
            lambda candidates: timed(campaign, candidates, TRY_PROCESSES),
            refit,
        )
        return choices

    def finals(self, campaign: SpaceCampaign, taken: Iterable[Candidate]) -> dict[Candidate, Measurement]:
        """Measure the base and all that were taken together; for another set all of them again."""
        every = [campaign.moves.space.base, *taken]
        texts = sorted({campaign.moves.space.text(one) for one in every})
        bench = self.bench("finals-" + hashlib.sha256("; ".join(texts).encode()).hexdigest()[:8])
        return timed(replace(campaign, bench=bench), every, FINAL_PROCESSES)


def _chosen(found: Sequence[Measured], space: PruningSpace) -> list[MeasuredNetwork]:
    """What the device said during a search, for the predictor."""
    return [
        MeasuredNetwork(space.text(one.candidate), one.latency_ms, one.peak_bytes, "ok", later=True) for one in found
    ]


def timed(campaign: SpaceCampaign, candidates: Iterable[Candidate], processes: int) -> dict[Candidate, Measurement]:
    """Measure candidates together, the processes of all interleaved."""
    every = list(dict.fromkeys(candidates))
    subjects = [campaign.subject(one) for one in every]
    found = campaign.bench.measure(subjects, f"{len(subjects)} networks", processes) if subjects else {}
    return {one: found[subject.key] for one, subject in zip(every, subjects, strict=True)}


def predicted(predictor: NetworkPredictor, space: PruningSpace, candidates: Sequence[Candidate]) -> Prediction:
    """What candidates are predicted to cost."""
    return predictor.predict(*space.arrays(candidates))
