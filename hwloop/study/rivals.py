"""Search stages that carry weights of their own: NetAdapt and EMO-DIR.

The other algorithms of the registry judge candidates by the study's judge and start the final fine-tune from the
base network's weights; these have their own evaluators, and hand on the weights that they found.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from torch import nn

from hwloop.errors import ConfigError
from hwloop.models import load_weights
from hwloop.pruning import RECALIBRATED, Candidate, plan_surgery
from hwloop.search import Journal, OneByOne, run_search
from hwloop.search.emo_dir import PartCosts, PartJudge, PartSpace, PartTraining, Sections, divide, train_parts
from hwloop.search.emo_dir import recipe as emo_dir_recipe
from hwloop.search.keep import packed
from hwloop.search.netadapt import Lineage, NetAdaptSettings, ShortTermTuner, TuningSettings, recipe
from hwloop.study.judge_stage import estimator_on
from hwloop.study.measured_costs import MeasuredCosts
from hwloop.study.predictor_stage import artifact_of
from hwloop.study.scene import Found, Scene
from hwloop.study.weights import WeightFolder
from hwloop_agent.journal import Journal as AgentJournal


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


def search_emo_dir(scene: Scene, journal: Journal) -> Found:
    """EMO-DIR: train the parts, search each with NSGA-II through its detector, join their fronts in the whole network.

    The part searches have journals of their own and cost the part and what is behind it; the study's journal holds what
    was judged in the whole network.
    """
    config, base, moves, progress = scene.config, scene.base, scene.moves, scene.progress
    section = config.emo_dir
    if "error" not in config.search.objectives or section.resource not in config.search.objectives:
        raise ConfigError(
            f"emo-dir needs error and {section.resource} (emo_dir.resource) among search.objectives, given are"
            f" {', '.join(config.search.objectives)}"
        )
    folder = scene.study.path("emo-dir")
    folder.mkdir(exist_ok=True)
    sections = Sections(base.module, section.parts)
    parts = divide(moves.space, sections)
    training = PartTraining(
        steps=section.steps,
        learning_rate=section.learning_rate,
        batch_size=config.finetune.batch_size,
        labels=section.labels,
    )
    trained = _trained_parts(scene, sections, parts, training, WeightFolder(folder))
    plan = plan_surgery(trained, moves.space)
    seed = config.study.seed
    train = base.data.train.take(_few(len(base.data.train), config.pruning.recalibration_images, seed))
    validation = base.data.validation.take(_few(len(base.data.validation), section.images, seed + 1))
    context = {"data": base.data.fingerprint, "images": str(section.images), **training.to_record()}
    fronts: list[list[Candidate]] = []
    evaluations = 0
    for number, part in enumerate(parts):
        if not part.groups and not part.kept_blocks:
            continue
        judge = PartJudge(plan, sections, number, part, train, validation)
        own = AgentJournal.open(folder / f"part-{number + 1}.ndjson")
        try:
            found = run_search(
                part,
                OneByOne(judge.error),
                PartCosts(scene.predictor, part),
                ("error", section.resource),
                population=config.search.population,
                generations=config.search.generations,
                seed=seed + number,
                journal=own,
                progress=progress,
                context=context,
            )
        finally:
            own.close()
        evaluations += len(found.evaluated)
        fronts.append([part.in_whole(each.candidate) for each in found.front])
    whole = estimator_on(plan, RECALIBRATED, config, base)
    result = run_search(
        moves.space,
        OneByOne(lambda candidate: whole.estimate(candidate).error),
        scene.predictor,
        config.search.objectives,
        algorithm=emo_dir_recipe(fronts, section.resource),
        population=config.search.population,
        generations=3,
        seed=seed,
        journal=journal,
        progress=progress,
        context=context,
    )
    progress.say(f"emo-dir: {evaluations} evaluations of parts, {len(result.evaluated)} of the whole network")
    return Found(result, plan.apply)


def _trained_parts(
    scene: Scene, sections: Sections, parts: Sequence[PartSpace], training: PartTraining, keep: WeightFolder
) -> nn.Module:
    """The network with its parts trained, once per study."""
    content = keep.read("trained.pt")
    if content is None:
        trained = train_parts(
            scene.moves.surgery,
            sections,
            parts,
            scene.base.data.train,
            training,
            seed=scene.config.study.seed,
            progress=scene.progress,
        )
        keep.write("trained.pt", packed(trained.state_dict()))
        return trained
    trained = copy.deepcopy(scene.base.module)
    load_weights(trained, scene.study.path("emo-dir", "trained.pt"))
    return trained.eval()


def _few(total: int, wanted: int, seed: int) -> NDArray[np.int64]:
    """Some rows, the same for the same seed."""
    return np.sort(np.random.default_rng(seed).permutation(total)[:wanted])


RIVALS: Mapping[str, Callable[[Scene, Journal], Found]] = {"netadapt": search_netadapt, "emo-dir": search_emo_dir}
"""By the name of the algorithm in `study.toml`."""
