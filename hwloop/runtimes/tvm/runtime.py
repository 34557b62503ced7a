"""Artifacts for TVM: shared libraries, compiled here for the device's processor."""

from __future__ import annotations

import os
import platform
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from onnx import ModelProto, load_model_from_string

from hwloop.errors import ModelError
from hwloop.extraction.fusion import FusionRules
from hwloop.layers import Layer
from hwloop.runtimes.artifact import Artifact, InputSpec
from hwloop.runtimes.onnx_layers import layer_model
from hwloop.runtimes.onnxruntime import OnnxRuntime
from hwloop.runtimes.registry import Runtime
from hwloop.runtimes.tvm.compiler import compile_module, import_onnx, tasks_of
from hwloop.runtimes.tvm.extra import load
from hwloop.runtimes.tvm.folding import folded
from hwloop.runtimes.tvm.layers import layer_of, tasks_of_layers
from hwloop.runtimes.tvm.records import Records
from hwloop.runtimes.tvm.rewrite import count_left_over
from hwloop.runtimes.tvm.schedule import Schedule
from hwloop.runtimes.tvm.target import TvmTarget, host_target, target_from_facts
from hwloop.runtimes.tvm.task import Task
from hwloop.runtimes.tvm.timer import HostTimer, Timer
from hwloop.runtimes.tvm.tuner import Choice, Effort, Tuner

if TYPE_CHECKING:
    from torch import nn

SUFFIX = ".so"
DEFAULT = "default"
"""A schedule of TVM's own, which was never timed: up to 70 times slower than a good one."""
RECORDS_VARIABLE = "HWLOOP_TVM_RECORDS"
"""Names the file of timings for those who get the runtime by its name."""

_FUSED = frozenset({"relu", "relu6", "clip", "leaky_relu"})
FUSION = FusionRules(
    name="tvm",
    block=1,
    after_conv=_FUSED,
    after_linear=_FUSED,
    after_residual=_FUSED,
    keep_blocked=frozenset(),
    any_linear=True,
    after_elementwise=_FUSED,
)
"""What the kernels take in (`rewrite.py`), and what Relax's FuseOps joins among TVM's own operators."""


def _records_path() -> Path | None:
    named = os.environ.get(RECORDS_VARIABLE)
    return Path(named) if named else None


@dataclass(frozen=True)
class TvmRuntime(Runtime):
    """TVM on a CPU; see `hwloop.runtimes.registry.Runtime`. Takes the extra `hwloop[tvm]`.

    Convolutions and products with constant weights get a kernel of hwloop's with the best schedule that `records`
    knows, or one that was best for a similar task, or a guess; everything else has TVM's default schedules. The
    options of an artifact say which: `schedule`, `source` and `trials`.

    Attributes:
        schedules: "tuned" as above; "default": TVM's default schedules throughout.
        target: processor; this machine's by default.
        records: file of timings, shared by all targets; None: nothing is known.
        device: name that sets this device's timings apart from those of others with the same processor.
    """

    name = "tvm"
    suffix = SUFFIX
    VARIANTS: ClassVar[Mapping[str, tuple[str, ...]]] = {"schedules": ("tuned", "default")}

    schedules: str = "tuned"
    target: TvmTarget | None = None
    records: Path | None = field(default_factory=_records_path)
    device: str = ""

    @property
    def fusion(self) -> FusionRules:
        """See `Runtime.fusion`."""
        return FUSION

    def for_device(self, facts: Mapping[str, Any]) -> TvmRuntime:
        """See `Runtime.for_device`.

        Raises:
            UserError: TVM does not compile for this device's processor.
        """
        here = (platform.machine(), platform.node(), platform.release())
        same = (facts.get("arch"), facts.get("hostname"), facts.get("kernel")) == here and not facts.get("emulated")
        return replace(self, target=host_target() if same else target_from_facts(facts))

    @property
    def processor(self) -> TvmTarget:
        """The target, this machine's where none was given."""
        return self.target or host_target()

    @cached_property
    def tuner(self) -> Tuner:
        """Chooses schedules, and finds them; reads the file of timings once."""
        target = self.processor
        return Tuner(target.unit, Records(self.records, f"{target.text} {self.device}".strip()))

    def tune(self, layers: Iterable[Layer], effort: Effort, timer: Timer | None = None) -> float:
        """Time schedules for layers; what was timed before is not timed again.

        Args:
            layers: convolutions and linear layers count, others are passed over.
            effort: limits.
            timer: this machine's by default.

        Returns:
            Seconds spent.

        Raises:
            ValueError: no timer for a target that is not this machine.
        """
        return self.tuner.tune(tasks_of_layers(layers), timer or HostTimer(self.processor), effort)

    def layer(self, layer: Layer, *, seed: int = 0) -> Artifact:
        """A library of one layer; weights and inputs are those of the other runtimes.

        Raises:
            ModelError: the layer is unsupported, or TVM cannot compile it.
            UserError: the extra is not installed.
        """
        if not layer.supported:
            raise ModelError(f"TVM cannot measure an unsupported layer: {layer.detail}")
        if layer.dtype != "float32":
            raise ModelError(f"hwloop measures float32 layers in TVM, not {layer.dtype}: {layer.key}")
        data, inputs = layer_model(layer, seed)
        return self._compiled(load_model_from_string(data), inputs, layer.key)

    def module(self, module: nn.Module, input_shape: tuple[int, ...]) -> Artifact:
        """A torch module with folded batch normalisation; batch 1.

        Raises:
            ModelError: torch cannot export it, or TVM cannot compile it.
            UserError: the extra is not installed.
        """
        return self._network(OnnxRuntime().module(module, input_shape))

    def onnx(self, model: bytes, label: str) -> Artifact:
        """An ONNX file; a symbolic first axis of an input is the batch and becomes 1.

        Raises:
            ModelError: it is no ONNX file, an input has another symbolic size, or TVM cannot compile it.
            UserError: the extra is not installed.
        """
        return self._network(OnnxRuntime().onnx(model, label))

    def candidate(self, task: Task, schedule: Schedule) -> Artifact:
        """A task alone under one schedule: what is timed on a device.

        Raises:
            ModelError: TVM cannot compile it.
        """
        layer = layer_of(task)
        data, inputs = layer_model(layer, 0)
        choice = Choice(schedule, "measured", 0)
        return self._compiled(load_model_from_string(data), inputs, layer.key, lambda _: choice)

    def _network(self, network: Artifact) -> Artifact:
        load()  # says that TVM is not installed before anything is folded
        model = folded(network.data, network.options.get("free_dimensions", {}), network.label)
        return self._compiled(model, network.inputs, network.label)

    def _compiled(
        self,
        model: ModelProto,
        inputs: tuple[InputSpec, ...],
        label: str,
        choose: Callable[[Task], Choice] | None = None,
    ) -> Artifact:
        target = self.processor
        module = import_onnx(model, {one.name: one.shape for one in inputs}, label)
        if self.schedules == DEFAULT:
            data = compile_module(module, target, None, label)
            choices, left = [], 0
        else:
            tasks = tasks_of(module)
            chosen = {task: (choose or self.tuner.choose)(task) for task in dict.fromkeys(tasks)}
            choices, left = [chosen[task] for task in tasks], count_left_over(module)
            data = compile_module(module, target, lambda task: chosen[task].schedule, label)
        options = {**described(choices, left), "target": target.text, "tvm": str(load().__version__)}
        return Artifact(data, SUFFIX, self.name, inputs, options, label, variant=self.variant)


def described(choices: Sequence[Choice], left: int = 0) -> dict[str, Any]:
    """What an artifact says about its schedules.

    Args:
        choices: of its convolutions and products.
        left: convolutions and products besides, which have default schedules.

    Returns:
        `schedule` ("default" without a kernel of hwloop's; the kernel's for one; how many of each kind for several),
        `source` (how it was found) and `trials` (schedules timed for distinct ones, together).
    """
    if not choices:
        return {"schedule": DEFAULT, "source": DEFAULT, "trials": 0}
    if len(choices) == 1 and not left:
        return {"schedule": choices[0].schedule.text, "source": choices[0].source, "trials": choices[0].trials}
    kinds: Counter[str] = Counter(one.schedule.kind for one in choices)
    sources: Counter[str] = Counter(one.source for one in choices)
    if left:
        kinds[DEFAULT] = sources[DEFAULT] = left
    return {
        "schedule": ", ".join(f"{count} {kind}" for kind, count in sorted(kinds.items())),
        "source": ", ".join(f"{count} {source}" for source, count in sorted(sources.items())),
        "trials": sum(one.trials for one in choices),
    }


class DeviceTimer:
    """Times schedules as artifacts, wherever `measure` runs them; see `Timer`."""

    def __init__(self, runtime: TvmRuntime, measure: Callable[[Sequence[Artifact]], Sequence[float]]) -> None:
        """Time for the runtime's target.

        Args:
            runtime: compiles.
            measure: microseconds per inference of each artifact, infinite for those that did not run.
        """
        self._runtime, self._measure = runtime, measure

    def __call__(self, task: Task, schedules: Sequence[Schedule]) -> list[float]:
        """See `Timer`."""
        return list(self._measure([self._runtime.candidate(task, one) for one in schedules]))
