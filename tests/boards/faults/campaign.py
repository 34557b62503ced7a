"""The campaign that is struck: many short trials, each of which can be told from all others by what its record says.

Most run the null runtime, each with a duration and a seed of its own, which the worker reports back; the others run
convolutions of different widths in onnxruntime. One process per subject, so that no two trials look alike.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import Any

from hwloop.layers import Layer
from hwloop.measurement import CampaignPlan, Subject, TimingProtocol
from hwloop.runtimes import Artifact, get_runtime

ONNX_SHARE = 8  # one subject in so many
SHORTEST_US, LONGEST_US = 100.0, 3000.0
TIMING = TimingProtocol(
    warmup_s=0.005,
    warmup_runs=2,
    min_s=0.005,
    max_s=0.1,
    min_blocks=12,
    max_blocks=24,
    block_us=200,
    target_relative_interval=0.2,
)
PLAN = CampaignPlan(processes=1, timing=TIMING, attempts=1)


@dataclass(frozen=True)
class NullArtifact(Artifact):
    """What the null runtime loads: nothing; its options are its identity."""

    data: bytes = b""
    suffix: str = ".onnx"
    runtime: str = "null"
    inputs: tuple[()] = ()
    options: dict[str, Any] = field(default_factory=dict)

    def to_spec(self) -> None:  # type: ignore[override]
        return None


@dataclass(frozen=True)
class Expected:
    """What a usable record of one subject must say, whatever else it says.

    Attributes:
        subject: its key.
        spec: the spec of its trial, less the attempt, which is no part of it.
        duration_ns: of one inference of the null runtime; None for onnxruntime.
        output_shape: of onnxruntime's output; None for the null runtime.
    """

    subject: str
    spec: dict[str, Any]
    duration_ns: float | None
    output_shape: list[int] | None


def subjects(count: int) -> list[Subject]:
    """`count` subjects, the same on every call."""
    onnx = count // ONNX_SHARE
    runtime = get_runtime("onnxruntime")
    found = []
    for index in range(onnx):
        width = 4 * (index + 1)
        layer = Layer("conv", ((1, 8, 8, 8),), (1, width, 8, 8), kernel=(3, 3), padding=(1, 1, 1, 1), activation="relu")
        found.append(Subject(f"conv-{width}", runtime.layer(layer)))
    null = count - onnx
    ratio = (LONGEST_US / SHORTEST_US) ** (1 / max(null - 1, 1))
    for index in range(null):
        options = {"median_us": round(SHORTEST_US * ratio**index, 3), "seed": index}
        found.append(Subject(f"null-{index}", NullArtifact(options=options)))
    random.Random(0).shuffle(found)
    return found


def expected(subjects: list[Subject]) -> list[Expected]:
    """What to expect of each subject's record, from the subject itself: nothing of it comes from a device."""
    found = []
    for subject, trial in PLAN.trials(subjects):
        options = subject.artifact.options
        is_null = subject.artifact.runtime == "null"
        found.append(
            Expected(
                subject.key,
                trial.spec,
                float(options["median_us"]) * 1e3 if is_null else None,
                None if is_null else [1, int(subject.key.removeprefix("conv-")), 8, 8],
            )
        )
    return found
