"""A search of which one part after the other is killed: for the tests and for the benchmark `search-faults`.

Its parts are those of a user's search: widths of a trained network, judged on held-out images here, in worker
processes or on a cluster, and a device that takes part. Every part is deterministic: a network is judged by one thread,
the device replays a recording. So whatever is killed, the search has to end with the same front, to the bit.
"""

from __future__ import annotations

import itertools
import json
import multiprocessing
import os
import random
import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import numpy as np
import torch

from hwloop.datasets import DataConfig, load_images
from hwloop.devices import Device
from hwloop.devices.device import REPLAY
from hwloop.devices.replay import Faults, Recording, open_recording
from hwloop.devices.transports.base import Transport
from hwloop.devices.transports.replay import ReplayTransport
from hwloop.layers import Layer
from hwloop.measurement import Bench, CampaignPlan, Subject, TrialStore
from hwloop.models import build_model
from hwloop.progress import Silent
from hwloop.pruning import (
    RECALIBRATED,
    Candidate,
    ErrorEstimator,
    HeldOut,
    PruningSpace,
    Recalibration,
    plan_surgery,
    pruning_space,
)
from hwloop.runtimes import get_runtime
from hwloop.search import BatchEvaluator, ErrorOf, HardwareLoop, LocalWorkers, Measured, OneByOne, run_search
from hwloop.study.device_loop import DeviceProber
from hwloop.training import FitConfig, fit
from hwloop_agent.journal import Journal, read_records
from tests.measurement.farming import SHORT, record
from tests.search.clusters import LocalCluster
from tests.search.conftest import Model

SHAPE = (1, 16, 16)
POPULATION = 16
JOURNAL, EVALUATED, TRIALS, ANSWERED, OUTCOME = (
    "search.ndjson",
    "evaluated",
    "trials.ndjson",
    "answered",
    "outcome.json",
)
SLOWDOWN = 2000.0
"""About how much slower the recorded device is than the formula that predicts it."""

EVALUATION_S = 0.03
"""About what one takes: a kill strikes up to so long after a record."""


@dataclass(frozen=True)
class Told:
    """An error function that leaves a line for everything that it has evaluated."""

    error: ErrorOf
    path: Path

    def __call__(self, candidate: Candidate) -> float:
        found = self.error(candidate)
        _append(self.path, _key(candidate))
        return found


@dataclass(frozen=True)
class Noted:
    """A recording that leaves a line for every trial that it answers."""

    recording: Recording
    path: Path

    @property
    def name(self) -> str:
        return self.recording.name

    @property
    def facts(self) -> Mapping[str, Any]:
        return self.recording.facts

    @property
    def installed(self) -> Mapping[str, str]:
        return self.recording.installed

    def answer(self, trial_id: str, spec: dict[str, Any]) -> dict[str, Any]:
        _append(self.path, trial_id)
        return self.recording.answer(trial_id, spec)


@dataclass(frozen=True)
class Mortal(Device):
    """A replay device that dies in some of its trials.

    Attributes:
        noted: file for what it answers.
        faults: see `Faults`.
    """

    noted: Path = Path()
    faults: Faults = field(default_factory=Faults)

    def open_transport(self) -> Transport:
        assert self.replay is not None
        return ReplayTransport(self.name, Noted(open_recording(Path(self.replay)), self.noted), self.faults)


@dataclass(frozen=True)
class Scene:
    """A search that can be run in any process.

    Attributes:
        space: of the network.
        judge: of its candidates.
        recording: what the device answers from.
        generations: of the search.
        trials: on the device.
    """

    space: PruningSpace
    judge: ErrorEstimator
    recording: Path
    generations: int
    trials: int

    def run(self, folder: Path, place: str = "here", lose_at: frozenset[int] = frozenset()) -> None:
        """Search, or go on; at the end the outcome is in the folder.

        Args:
            folder: of the journals.
            place: where candidates are evaluated: "here", "workers" or the address of a dask scheduler.
            lose_at: numbers of the trials in which the device dies.
        """
        torch.set_num_threads(1)
        device = Mortal("pi", REPLAY, "python3", "python3", None, None, None, str(self.recording), 0.0,
                        folder / ANSWERED, Faults(lose_at))  # fmt: skip
        store = TrialStore(folder / TRIALS)
        bench = Bench(device, "faults", store, CampaignPlan(1, timing=SHORT, anchor_every=0), Silent())
        told = Told(ErrorOf(self.judge), folder / EVALUATED)
        with (
            Journal.open(folder / JOURNAL) as journal,
            closing(store),
            closing(DeviceProber(bench, _subject)) as prober,
            _evaluator(told, place) as evaluator,
        ):
            result = run_search(
                self.space, evaluator, Model(SLOWDOWN, memory=False, spread=0.3), ("error", "latency_ms"),
                population=POPULATION, generations=self.generations, seed=5, journal=journal, progress=Silent(),
                hardware=HardwareLoop(self.trials, prober, _refitted),
            )  # fmt: skip
        outcome = {
            "front": [[each.text, each.values, each.generation] for each in result.front],
            "evaluated": [[each.text, each.values, each.generation, each.failure] for each in result.evaluated],
            "hypervolume": result.hypervolume,
            "measured": [[_key(each.candidate), each.latency_ms] for each in result.measured],
        }
        (folder / OUTCOME).write_text(json.dumps(outcome))


def prepare(folder: Path, generations: int, trials: int) -> Scene:
    """Train LeNet-5 on scikit-learn's digits, and record a device."""
    data = load_images(DataConfig(source="digits", image_size=SHAPE[-1], seed=0))
    torch.manual_seed(0)
    module = build_model("lenet5", num_classes=10, in_channels=1, image_size=SHAPE[-1])
    fit(module, data.train, config=FitConfig(epochs=4, learning_rate=0.03, batch_size=32, threads=1))
    space = pruning_space(module.eval(), SHAPE, grain=2)
    judge = ErrorEstimator(
        RECALIBRATED, plan_surgery(module, space), Recalibration(data.train), HeldOut(data.validation), threads=1
    )
    recording = record(
        folder / "pi.parquet", [_recorded(channels) for channels in range(1, sum(space.base.widths) + 1)]
    )
    return Scene(space, judge, recording, generations, trials)


@dataclass(frozen=True)
class Struck:
    """What became of a search of which a part was killed again and again.

    Attributes:
        kills: how many.
        lost: records of the search's and the device's journal that were there before a kill and are not in the end.
        repeated: evaluations and trials made again though their journal had them.
        in_flight: evaluations and trials that were finished, but not yet journalled, at a kill: made once more.
        astray: evaluations that this search's journal has and the undisturbed one's has not, or the other way round.
        same: values, front, hypervolumes and measurements are those of the undisturbed search, to the bit.
        seconds: that it took.
    """

    kills: int
    lost: int
    repeated: int
    in_flight: int
    astray: int
    same: bool
    seconds: float

    @property
    def unharmed(self) -> bool:
        """Nothing is lost, nothing was made again that was known, and the result is the same."""
        return self.same and not (self.lost or self.repeated or self.astray)


@dataclass(frozen=True)
class _Files:
    """What a search has written down by some moment: lines of what was done, and the records of it."""

    made: tuple[list[str], list[str]]
    kept: tuple[list[dict[str, Any]], list[dict[str, Any]]]

    @classmethod
    def of(cls, folder: Path) -> _Files:
        # The records first: what a running search does meanwhile then has a line here before it counts as known.
        kept = read_records(folder / JOURNAL)[0], read_records(folder / TRIALS)[0]
        return cls((_lines(folder / EVALUATED), _lines(folder / ANSWERED)), kept)

    @property
    def known(self) -> tuple[set[str], set[str]]:
        """Keys of the evaluations and trials that are journalled."""
        search, trials = self.kept
        evaluations = {json.dumps(each["widths"]) for each in search if each["kind"] == "evaluation"}
        return evaluations, {each["trial_id"] for each in trials if "trial_id" in each}


class Stage:
    """Where a search runs, once undisturbed and once for each victim.

    Args:
        scene: the search.
        folder: an empty one; the searches get folders in it.
        rng: of the moments.
    """

    def __init__(self, scene: Scene, folder: Path, rng: random.Random) -> None:
        self._scene, self._folder, self._rng = scene, folder, rng
        # A server that has imported everything forks each search: it starts at once, and inherits no search's state.
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload([__name__])
        self._seen: list[_Files] = []
        _finish(self._start("undisturbed"))
        self.undisturbed = _Files.of(folder / "undisturbed")

    def search(self, moments: int) -> Struck:
        """The search itself is killed; every third one has two workers, which it leaves behind."""

        def story(name: str) -> int:
            for number, moment in enumerate(self._moments(moments)):
                process = self._start(name, "here" if number % 3 else "workers")
                self._wait(process, name, moment)
                process.kill()
                process.join()
            _finish(self._start(name))
            return moments

        return self._struck("search", story)

    def worker(self, moments: int) -> Struck:
        """One of two local workers is killed, whatever it is doing."""

        def story(name: str) -> int:
            process = self._start(name, "workers")
            for moment in self._moments(moments):
                self._wait(process, name, moment)
                while not (workers := _children(process)):
                    time.sleep(0.01)
                os.kill(self._rng.choice(workers), signal.SIGKILL)
            _finish(process)
            return moments

        return self._struck("worker", story)

    def scheduler(self, moments: int) -> Struck:
        """The scheduler of a dask cluster is killed, its worker leaves; others take their places."""

        def story(name: str) -> int:
            with LocalCluster(1, nanny=False) as cluster:
                process = self._start(name, cluster.address)
                for moment in self._moments(moments):
                    self._wait(process, name, moment)
                    cluster.kill_scheduler()
                    cluster.restart()
                _finish(process)
            return moments

        return self._struck("scheduler", story)

    def device(self, moments: int) -> Struck:
        """The device dies in the middle of a trial, and comes back."""

        def story(name: str) -> int:
            trials = len(self.undisturbed.kept[1])
            process = self._start(name, lose_at=frozenset(self._rng.sample(range(1, trials + moments), moments)))
            _finish(process)
            return moments

        return self._struck("device", story)

    def _struck(self, name: str, story: Callable[[str], int]) -> Struck:
        self._seen = []
        began = time.perf_counter()
        kills = story(name)
        seconds = time.perf_counter() - began
        end = _Files.of(self._folder / name)
        lost = repeated = 0
        for seen, later in itertools.pairwise([*self._seen, end]):
            for kept, still in zip(seen.kept, later.kept, strict=True):
                lost += sum(then != now for then, now in itertools.zip_longest(kept, still[: len(kept)]))
            for known, before, lines in zip(seen.known, seen.made, later.made, strict=True):
                repeated += sum(line in known for line in lines[len(before) :])
        made = sum(len(lines) - len(set(lines)) for lines in end.made)
        outcomes = [json.loads((self._folder / each / OUTCOME).read_text()) for each in (name, "undisturbed")]
        return Struck(
            kills=kills,
            lost=lost,
            repeated=repeated,
            in_flight=made - repeated,
            astray=len(end.known[0] ^ self.undisturbed.known[0]),
            same=outcomes[0] == outcomes[1],
            seconds=seconds,
        )

    def _moments(self, count: int) -> list[int]:
        """By how many records the search's journal holds."""
        return sorted(self._rng.sample(range(1, len(self.undisturbed.kept[0])), count))

    def _start(self, name: str, place: str = "here", lose_at: frozenset[int] = frozenset()) -> BaseProcess:
        folder = self._folder / name
        folder.mkdir(exist_ok=True)
        process: BaseProcess = self._context.Process(target=self._scene.run, args=(folder, place, lose_at))
        process.start()
        return process

    def _wait(self, process: BaseProcess, name: str, records: int) -> None:
        """Until the journal holds so many records, and up to an evaluation longer; note what is there."""
        path = self._folder / name / JOURNAL
        while not path.exists() or path.read_bytes().count(b"\n") < records:
            if not process.is_alive():
                raise AssertionError(f"the search ended early, with {process.exitcode}")
            time.sleep(0.005)
        time.sleep(self._rng.uniform(0, EVALUATION_S))
        self._seen.append(_Files.of(self._folder / name))


def _finish(process: BaseProcess) -> None:
    process.join()
    if process.exitcode:
        raise AssertionError(f"the search ended with {process.exitcode}")


def _children(process: BaseProcess) -> list[int]:
    lists = Path(f"/proc/{process.pid}/task").glob("*/children")
    return [int(pid) for listed in lists for pid in listed.read_text().split()]


def _key(candidate: Candidate) -> str:
    return json.dumps(candidate.widths)


def _lines(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.exists() else []


def _append(path: Path, line: str) -> None:
    with path.open("a") as stream:
        stream.write(f"{line}\n")


def _subject(candidate: Candidate) -> Subject:
    """What stands for a candidate on the device: the recording has a layer for each number of channels."""
    return Subject(_key(candidate), _recorded(sum(candidate.widths)).artifact)


def _recorded(channels: int) -> Subject:
    layer = Layer("linear", ((1, channels),), (1, 8))
    return Subject(layer.key, get_runtime("onnxruntime").layer(layer))


def _refitted(measured: Sequence[Measured]) -> Model:
    predicted = Model().predict(np.array([each.candidate.widths for each in measured])).latency_ms
    ratio = float(np.mean(np.array([each.latency_ms for each in measured]) / predicted))
    return Model(slowdown=ratio, memory=False, spread=0.3 / (1 + len(measured)))


@contextmanager
def _evaluator(told: Told, place: str) -> Iterator[BatchEvaluator]:
    if place == "here":
        yield OneByOne(told)
    elif place == "workers":
        with LocalWorkers(told, 2) as workers:
            yield workers
    else:
        from hwloop.search.cluster import DaskCluster

        with DaskCluster(told, place) as cluster:
            yield cluster
