"""GA pruning of a study's base network: weights go, and what remains is counted."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from hwloop.errors import ConfigError
from hwloop.files import write_atomic
from hwloop.progress import Progress
from hwloop.search.ga_pruning import EMPHASES, GaResult, run_ga_pruning
from hwloop.search.keep import packed
from hwloop.study.base import prepare_base
from hwloop.study.config import load_config
from hwloop.study.directory import StudyDirectory
from hwloop.study.weights import WeightFolder
from hwloop.training import accuracy
from hwloop_agent.journal import Journal


@dataclass(frozen=True)
class PrunedWeights:
    """What GA pruning of a study came to.

    Attributes:
        result: the rounds, judged on the held-out images.
        base_accuracy: of the unpruned network on the test images, in float32.
        test_accuracy: of the pruned one.
        test_images: how many.
        folder: with ``rounds.ndjson``, the elites, ``pruned.pt`` and ``result.json``.
    """

    result: GaResult
    base_accuracy: float
    test_accuracy: float
    test_images: int
    folder: Path

    def to_dict(self) -> dict[str, Any]:
        """The result as JSON-able data."""
        result = self.result
        return {
            "base_test_accuracy": self.base_accuracy,
            "test_accuracy": self.test_accuracy,
            "test_images": self.test_images,
            "base_validation_error": result.base_error,
            "validation_error": result.error,
            "round": result.chosen,
            "census": asdict(result.census),
            "parameters_removed": 1 - result.census.parameters_left,
            "computation_left": result.census.computation_left,
            "evaluations": sum(each.evaluations for each in result.rounds),
            "seconds": sum(each.seconds for each in result.rounds),
            "rounds": [each.to_record() for each in result.rounds],
        }


def prune_weights(
    path: Path,
    emphasis: str,
    progress: Progress,
    *,
    rounds: int | None = None,
    granularity: str | None = None,
    folder: str | None = None,
) -> PrunedWeights:
    """Prune the weights of a study's base network, or go on with it.

    Args:
        path: the study file; its model, data and training are used, its device is not.
        emphasis: "sparsity" or "computation".
        progress: is told what happens.
        rounds: of evolution and retraining; None for the emphasis's own.
        granularity: "unstructured" or "coarse"; None for the emphasis's own.
        folder: inside the study directory; None for one named by the emphasis and the granularity.

    Raises:
        UserError: the study cannot be used, or its network is none that GA pruning can follow.
    """
    if emphasis not in EMPHASES:
        raise ConfigError(f"there is no emphasis {emphasis!r}; known are {', '.join(EMPHASES)}")
    given: dict[str, Any] = {"rounds": rounds, "granularity": granularity}
    settings = replace(EMPHASES[emphasis], **{name: value for name, value in given.items() if value is not None})
    config = load_config(path)
    root = path.parent / (config.study.directory or path.stem)
    with StudyDirectory(root, config, path.read_text(encoding="utf-8")) as study:
        base = prepare_base(config, study, path.parent, progress)
        place = study.path(folder or f"ga-pruning-{emphasis}-{settings.granularity}")
        place.mkdir(exist_ok=True)
        journal = Journal.open(place / "rounds.ndjson")
        try:
            result = run_ga_pruning(
                base.module,
                base.data.train,
                base.data.validation,
                settings,
                seed=config.study.seed,
                journal=journal,
                keep=WeightFolder(place),
                progress=progress,
            )
        finally:
            journal.close()
        # Nothing before this line has seen the test images of a pruned network.
        test_accuracy = accuracy(result.network, base.data.test)
        pruned = PrunedWeights(result, base.test_accuracy, test_accuracy, len(base.data.test), place)
        write_atomic(place / "pruned.pt", packed(result.network.state_dict()))
        study.write_json(f"{place.name}/result.json", pruned.to_dict())
        return pruned
