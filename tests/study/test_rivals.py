"""NetAdapt and EMO-DIR as stages of a study: real data, real surgery, sizes in place of a device."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from hwloop.errors import ConfigError, UserError
from hwloop.layers import ScalableNetwork
from hwloop.measurement import Interval, Measurement
from hwloop.predictors import Prediction
from hwloop.progress import Silent
from hwloop.pruning import Candidate
from hwloop.runtimes import get_runtime
from hwloop.study.base import prepare_base
from hwloop.study.config import StudyConfig
from hwloop.study.directory import StudyDirectory
from hwloop.study.measured_costs import MeasuredCosts
from hwloop.study.rivals import RIVALS, Found, Scene
from hwloop.study.space import find_moves
from hwloop.training import accuracy
from hwloop_agent.journal import Journal

SETTINGS: dict[str, Any] = {
    "study": {"name": "rivals"},
    "model": {"name": "resnet8", "arguments": {"shortcut": "projection"}},
    "data": {"source": "digits"},
    "training": {"epochs": 3},
    "pruning": {"grain": 4, "recalibration_images": 64},
    "search": {"objectives": ["error", "macs"], "population": 6, "generations": 3},
    "netadapt": {"resource": "macs", "step": 0.2, "steps": 6},
    "emo_dir": {"steps": 6, "images": 100},
    "finetune": {"batch_size": 32},
}


@dataclass
class Sizes:
    """A cost model that knows the sizes alone."""

    scalable: ScalableNetwork

    def predict(self, widths: Any, blocks: Any = None) -> Prediction:
        ms = self.scalable.macs(widths, blocks) / 1e6
        zeros = np.zeros(len(ms))
        return Prediction(ms, ms, ms, zeros, ms, zeros, (), ())


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    config = StudyConfig.model_validate(SETTINGS)
    with StudyDirectory(tmp_path_factory.mktemp("rivals") / "study", config, "") as study:
        base = prepare_base(config, study, Path(), Silent())
        runtime = get_runtime("onnxruntime")
        moves = find_moves(config, base, runtime.fusion, study, Silent()).with_grain(4)
        sizes: Any = Sizes(moves.scalable)
        bench: Any = None  # nothing is measured
        yield Scene(config, base, moves, sizes, runtime, bench, study, Silent())


class Dying:
    """A journal that fails instead of taking record number `limit`."""

    def __init__(self, journal: Journal, limit: int) -> None:
        self.records = journal.records
        self._journal, self._limit = journal, limit

    def append(self, rec: dict[str, Any]) -> int:
        if len(self.records) == self._limit:
            raise InterruptedError("killed")
        return self._journal.append(rec)


def searched(scene: Scene, name: str, path: Path, dies_at: int | None = None) -> Found:
    journal = Journal.open(path)
    try:
        return RIVALS[name](scene, journal if dies_at is None else Dying(journal, dies_at))
    finally:
        journal.close()


@pytest.mark.parametrize("name", list(RIVALS))
def test_a_rival_is_killed_goes_on_and_hands_on_networks_with_their_weights(
    scene: Scene, name: str, tmp_path: Path
) -> None:
    path = tmp_path / "search.ndjson"
    with pytest.raises(InterruptedError):
        searched(scene, name, path, dies_at=4)
    found = searched(scene, name, path)
    again = searched(scene, name, path)
    assert found.result.replayed == 3
    assert again.result.replayed == len(again.result.evaluated)
    assert again.result.evaluated == found.result.evaluated
    smallest = min(found.result.evaluated, key=lambda one: one.values[1])
    assert smallest.values[1] < 0.8 * found.result.evaluated[0].values[1]
    for each in (found, again):
        network = each.network(smallest.candidate).eval()
        sliced = scene.moves.surgery.apply(smallest.candidate)
        assert {n: p.shape for n, p in network.named_parameters()} == {n: p.shape for n, p in sliced.named_parameters()}
        if name == "netadapt":  # fine-tuned: it is as good as the search says, without any more training
            assert 1 - accuracy(network, scene.base.data.validation) == pytest.approx(smallest.values[0], abs=0.03)


def test_emo_dir_searches_each_part_with_a_journal_of_its_own(scene: Scene, tmp_path: Path) -> None:
    found = searched(scene, "emo-dir", tmp_path / "search.ndjson")
    parts = sorted(scene.study.path("emo-dir").glob("part-*.ndjson"))
    assert [path.name for path in parts] == ["part-1.ndjson", "part-2.ndjson", "part-3.ndjson"]
    joint = [e for e in found.result.evaluated if e.generation == 1]
    base = scene.moves.space.base.widths
    stages = [group.name.split(".")[0] for group in scene.moves.space.groups]
    for each in joint:
        cut = {stage for stage, width, whole in zip(stages, each.candidate.widths, base, strict=True) if width < whole}
        cut |= {name.split(".")[0] for name in each.candidate.removed}
        assert len(cut) > 1
    assert joint


def test_an_objective_that_emo_dir_needs_is_asked_for(scene: Scene, tmp_path: Path) -> None:
    config = scene.config.model_copy(
        update={"search": scene.config.search.model_copy(update={"objectives": ["error", "parameters"]})}
    )
    with pytest.raises(ConfigError, match=r"emo-dir needs error and macs \(emo_dir.resource\) among search.objectives"):
        searched(replace(scene, config=config), "emo-dir", tmp_path / "search.ndjson")


def test_measured_costs_ask_the_device_once_per_network(scene: Scene) -> None:
    moves = scene.moves
    asked: list[str] = []

    def measure(subjects: Any, description: str) -> dict[str, Measurement]:
        asked.extend(subject.key for subject in subjects)
        return {subject.key: measurement(subject.key, subject.artifact) for subject in subjects}

    def measurement(key: str, artifact: float) -> Measurement:
        status = "ok" if artifact > 0 else "crashed (SIGSEGV)"
        return Measurement(key, status, (), artifact, Interval(artifact, artifact), (), 7, 5, "none", ())

    def artifact(candidate: Candidate) -> Any:
        return float(sum(candidate.widths)) if min(candidate.widths) > 4 else 0.0

    bench: Any = SimpleNamespace(measure=measure)
    costs = MeasuredCosts(moves.space, moves.scalable, bench, artifact)
    base = list(moves.space.base.widths)
    thinner = [8, *base[1:]]
    first = costs.predict([base, thinner])
    assert first.latency_ms.tolist() == [sum(base), sum(thinner)]
    assert first.peak_bytes.tolist() == [7.0, 7.0]
    assert costs.predict([thinner, base, thinner]).latency_ms.tolist() == [sum(thinner), sum(base), sum(thinner)]
    assert costs.trials == len(asked) == len(set(asked)) == 2
    with pytest.raises(UserError, match=r"conv1=4 .*could not be measured \(crashed \(SIGSEGV\): no reason given\)"):
        costs.predict([[4, *base[1:]]])
