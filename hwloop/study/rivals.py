"""Search stages that carry weights of their own: NetAdapt.

The other algorithms of the registry judge candidates by the study's `ErrorJudge` and start the final fine-tune from the
base network's weights; these have their own evaluators, and hand on the weights that they found.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from torch import nn

from hwloop.measurement import Bench
from hwloop.predictors import NetworkPredictor
from hwloop.progress import Progress
from hwloop.pruning import Candidate
from hwloop.runtimes import Runtime
from hwloop.search import Journal, SearchResult, run_search
from hwloop.search.netadapt import Lineage, NetAdaptSettings, ShortTermTuner, TuningSettings, recipe
from hwloop.study.base import Base
from hwloop.study.config import StudyConfig
from hwloop.study.directory import StudyDirectory
from hwloop.study.measured_costs import MeasuredCosts
from hwloop.study.predictor_stage import artifact_of
from hwloop.study.space import Moves
from hwloop.study.weights import WeightFolder


@dataclass(frozen=True)
class Scene:
    """What a search stage works with.

    Attributes:
        config: the study's settings.
        base: network and data.
        moves: space and surgery.
        predictor: of the device.
        runtime: makes artifacts.
        bench: measures them.
        study: where results go.
        progress: is told.
    """

    config: StudyConfig
    base: Base
    moves: Moves
    predictor: NetworkPredictor
    runtime: Runtime
    bench: Bench
    study: StudyDirectory
    progress: Progress


@dataclass(frozen=True)
class Found:
    """What a search stage leaves.

    Attributes:
        result: its evaluations and its front.
        network: any of its candidates with the weights that the final fine-tune begins with.
    """

    result: SearchResult
    network: Callable[[Candidate], nn.Module]


def search_netadapt(scene: Scene, journal: Journal) -> Found:
    """NetAdapt with inherited weights, over predicted or measured resources; one iteration per generation."""
    config, base, moves = scene.config, scene.base, scene.moves
    section = config.netadapt
    settings = NetAdaptSettings(section.resource, section.budget, section.step, section.decay, section.select)
    tuning = TuningSettings(
        steps=section.steps,
        learning_rate=section.learning_rate,
        batch_size=config.finetune.batch_size,
        augment=config.finetune.augment,
        flip=config.finetune.flip,
    )
    lineage = Lineage()
    tuner = ShortTermTuner(
        base.module,
        moves.space.groups,
        moves.space.text,
        base.data.train,
        base.data.validation,
        tuning,
        lineage,
        WeightFolder(scene.study.path("netadapt")),
        seed=config.study.seed,
    )
    measured = MeasuredCosts(
        moves.space, moves.scalable, scene.bench, lambda c: artifact_of(scene.runtime, base, moves, c)
    )
    result = run_search(
        moves.space,
        tuner,
        measured if section.resource_from == "device" else scene.predictor,
        config.search.objectives,
        algorithm=recipe(settings, lineage),
        population=config.search.population,
        generations=config.search.generations,
        seed=config.study.seed,
        journal=journal,
        progress=scene.progress,
        context={
            "data": base.data.fingerprint,
            "judge_dtype": tuner.dtype,
            "resource_from": section.resource_from,
            **tuning.to_record(),
        },
    )
    if section.resource_from == "device":
        scene.progress.say(
            f"netadapt: {len(result.evaluated)} short-term fine-tunes, {measured.trials} networks on the device"
        )
    return Found(result, tuner.network)


RIVALS: Mapping[str, Callable[[Scene, Journal], Found]] = {"netadapt": search_netadapt}
"""By the name of the algorithm in `study.toml`."""
