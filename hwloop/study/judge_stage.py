"""The judge of a study: an estimator of errors at any fidelity, with the study's data and settings."""

from __future__ import annotations

from hwloop.progress import Progress
from hwloop.pruning import (
    RECALIBRATED,
    SHARED_WEIGHTS,
    SHORT_FINE_TUNE,
    Adaptation,
    AdaptationConfig,
    ErrorEstimator,
    FineTuning,
    HeldOut,
    Preparation,
    Recalibration,
    SurgeryPlan,
    adapt,
)
from hwloop.study.base import Base, fit_config
from hwloop.study.config import StudyConfig
from hwloop.study.directory import StudyDirectory
from hwloop.study.space import Moves


def make_estimator(
    fidelity: str, config: StudyConfig, base: Base, moves: Moves, study: StudyDirectory, progress: Progress
) -> ErrorEstimator:
    """Make an estimator; for shared weights they are trained first, or taken from ``shared.pt``.

    Args:
        fidelity: one of `FIDELITIES`.
        config: the study's settings.
        base: the base network and its data.
        moves: the space and its surgery.
        study: where the shared weights are kept.
        progress: is told about their training.

    Raises:
        ModelError: the training diverged, or ``shared.pt`` is damaged or of other settings.
    """
    plan = moves.surgery
    if fidelity == SHARED_WEIGHTS:
        plan = shared_weights(config, base, moves, study, progress).plan
    return estimator_on(plan, fidelity, config, base)


def estimator_on(plan: SurgeryPlan, fidelity: str, config: StudyConfig, base: Base) -> ErrorEstimator:
    """Make an estimator that slices the network of a plan: the base, or the one with the shared weights."""
    seed = config.study.seed
    preparation: Preparation
    if fidelity in (RECALIBRATED, SHARED_WEIGHTS):
        preparation = Recalibration(base.data.train, images=config.pruning.recalibration_images, seed=seed)
    else:
        section, images = config.finetune, None
        if fidelity == SHORT_FINE_TUNE:
            section = section.model_copy(update={"epochs": config.judge.short_epochs})
            images = config.judge.short_images
        preparation = FineTuning(base.data.train, fit_config(section, seed), images=images)
    held_out = HeldOut(base.data.validation, limit=config.pruning.validation_images, seed=seed)
    # One thread, here and in every worker: the result does not depend on who evaluates.
    return ErrorEstimator(fidelity, plan, preparation, held_out, threads=1)


def shared_weights(
    config: StudyConfig, base: Base, moves: Moves, study: StudyDirectory, progress: Progress
) -> Adaptation:
    """Train the weights that all candidates share, or what an earlier run left of it to do.

    Raises:
        ModelError: see `make_estimator`.
    """
    section = config.judge
    training = config.training.model_copy(
        update={"epochs": section.adaptation_epochs, "learning_rate": section.adaptation_rate}
    )
    return adapt(
        moves.surgery,
        moves.space,
        base.data.train,
        config=AdaptationConfig(fit_config(training, config.study.seed), random_networks=section.adaptation_networks),
        checkpoint=study.path("shared.pt"),
        progress=progress,
    )
