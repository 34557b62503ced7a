"""What a study's search stage works with, and what it leaves."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import nn

from hwloop.measurement import Bench
from hwloop.predictors import NetworkPredictor
from hwloop.progress import Progress
from hwloop.pruning import Candidate
from hwloop.runtimes import Runtime
from hwloop.search import SearchResult
from hwloop.study.base import Base
from hwloop.study.config import StudyConfig
from hwloop.study.directory import StudyDirectory
from hwloop.study.space import Moves


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
