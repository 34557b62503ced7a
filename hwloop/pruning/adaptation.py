"""Weights that all candidates of a space share: trained once, so that each can be judged without training of its own.

After pruning by a tenth and more, small networks answer almost at random, and measuring their batch normalisations anew
saturates. Here the full network and candidates of the space are trained together for a few epochs, with the sandwich
rule and in-place distillation of Yu and Huang 2019, "Universally Slimmable Networks", sections 3.2 and 3.3: in every
step the largest network learns from the labels, and the smallest and a few random ones from the largest's answers. Cai
et al. 2020, "Once-for-All", is where whole layers (here: blocks) come and go as well.

Ours: the start is the user's trained network, the channels stand in a criterion's order (not the first ones), blocks
are removed by the surgery of the space, the candidates learn from the labels too, and the statistics of batch
normalisations are measured after slicing (`Recalibration`), as in the paper.
"""

from __future__ import annotations

import copy
import io
import json
import math
import pickle
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from hwloop.datasets import ImageSet
from hwloop.errors import ConfigError, ModelError
from hwloop.files import write_atomic
from hwloop.progress import Progress, Silent
from hwloop.pruning.candidate import Candidate
from hwloop.pruning.digests import digest, weights_digest
from hwloop.pruning.sharing import SharedWeights
from hwloop.pruning.space import PruningSpace
from hwloop.pruning.surgery import SurgeryPlan
from hwloop.training import FitConfig, fast_dtype, random_crop, random_flip, torch_threads
from hwloop.training.hardware import deterministic, training_device
from hwloop.training.losses import cross_entropy, distillation
from hwloop.training.schedule import rate_factor

_FORMAT = 1
_CROP_SHARE = 8  # as in `fit`
_PLAIN = FitConfig()


@dataclass(frozen=True)
class AdaptationConfig:
    """How the shared weights are trained.

    Attributes:
        fit: epochs, rate and its schedule, batches, augmentation, seed, threads and device, as in ordinary training;
            by SGD, without mixup and without its own teacher.
        random_networks: candidates drawn at random in each step, besides the smallest and the full network.
        teacher: whose answers candidates follow: the full network's in the same step ("full", costs nothing), or the
            base network's as it was before ("base"; the full network follows it too; one more forward pass).
        distillation: weight of the teacher's answers in the loss of a candidate; the rest is the labels'.
        temperature: of the distillation.
    """

    fit: FitConfig = field(default_factory=lambda: FitConfig(epochs=2, learning_rate=0.03))
    random_networks: int = 2
    teacher: Literal["full", "base"] = "full"
    distillation: float = 0.7
    temperature: float = 1.0

    def __post_init__(self) -> None:
        for name in ("optimizer", "mixup", "distillation", "attention"):
            if getattr(self.fit, name) != getattr(_PLAIN, name):
                raise ConfigError(f"{name} is {getattr(self.fit, name)}: shared weights are trained without it")
        for name, valid, limit in (
            ("random_networks", self.random_networks >= 0, "at least 0"),
            ("teacher", self.teacher in ("full", "base"), "full or base"),
            ("distillation", 0 <= self.distillation <= 1, "from 0 to 1"),
            ("temperature", 0 < self.temperature < math.inf, "a positive number"),
        ):
            if not valid:
                raise ConfigError(f"{name} is {getattr(self, name)}: it must be {limit}")


@dataclass(frozen=True)
class Adaptation:
    """The shared weights.

    Attributes:
        plan: the surgery that slices them; its network is the adapted one, in evaluation mode.
        losses: mean loss per epoch, of the full network and of all candidates.
        seconds: what the training cost, over all runs that had a part in it.
    """

    plan: SurgeryPlan
    losses: tuple[tuple[float, float], ...]
    seconds: float


def adapt(
    plan: SurgeryPlan,
    space: PruningSpace,
    train: ImageSet,
    *,
    config: AdaptationConfig,
    checkpoint: Path | None = None,
    progress: Progress | None = None,
    clock: Callable[[], float] = time.perf_counter,
) -> Adaptation:
    """Train a copy of the base network, and candidates of the space that share its weights.

    Deterministic under the seed on one machine and number of threads, also when it is interrupted: with a checkpoint,
    which is written after every epoch, the next run goes on after the last whole epoch and ends with the same weights.

    Args:
        plan: surgery of the base network, which is left untouched.
        space: candidates are drawn from it.
        train: training images; the last, incomplete batch of an epoch is left out.
        config: how to train.
        checkpoint: a file to go on from and to write to.
        progress: told of every step.
        clock: in seconds.

    Raises:
        ModelError: The loss is not finite, the network does not fit the images, or the checkpoint is damaged or of
            another network, space, data or configuration.
        OSError: The checkpoint cannot be written; the one before is intact.
    """
    if len(train) < 2:
        raise ModelError(f"cannot adapt on {len(train)} images: at least 2 are needed")
    course = _Course(plan, space, train, config)
    conditions = _conditions(plan, space, train, config)
    losses: list[tuple[float, float]] = []
    seconds = 0.0
    if checkpoint is not None and checkpoint.exists():
        losses, seconds = course.restore(_read(checkpoint, conditions))
    epochs = config.fit.epochs
    per_epoch = course.steps_per_epoch
    with (
        torch_threads(config.fit.threads),
        torch.random.fork_rng(devices=[torch.cuda.current_device()] if course.device == "cuda" else []),
        deterministic(course.device),
        (progress or Silent()).step("shared weights", epochs * per_epoch, len(losses) * per_epoch) as step,
    ):
        for epoch in range(len(losses) + 1, epochs + 1):
            started = clock()
            full = others = 0.0
            for index, (one, rest) in enumerate(course.epoch(epoch), start=1):
                full, others = full + one, others + rest
                step.advance(
                    note=f"epoch {epoch}/{epochs}, loss {full / index:.3f}, of candidates {others / index:.3f}"
                )
            losses.append((full / per_epoch, others / per_epoch))
            seconds += clock() - started
            if checkpoint is not None:
                _write(checkpoint, conditions, course.state(losses, seconds))
    network = course.network.cpu().eval()
    network.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]  # missing in torch's stubs
    return Adaptation(plan.on(network), tuple(losses), seconds)


class _Course:
    """The training: what changes from step to step."""

    def __init__(self, plan: SurgeryPlan, space: PruningSpace, train: ImageSet, config: AdaptationConfig) -> None:
        self.device = training_device(config.fit.device)
        self.network = copy.deepcopy(plan.module).to(self.device).train()
        self.network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # missing in torch's stubs
        self._base = copy.deepcopy(plan.module).to(self.device).eval() if config.teacher == "base" else None
        self._shared = SharedWeights(plan.on(self.network))
        self._space = space
        self._config = config
        self._images, self._labels = torch.from_numpy(train.images), torch.from_numpy(train.labels)
        self._batch_size = min(config.fit.batch_size, len(train))
        self._dtype = fast_dtype(self.device) if config.fit.fast else torch.float32
        self.steps_per_epoch = len(train) // self._batch_size
        self._optimizer = torch.optim.SGD(
            [parameter for parameter in self.network.parameters() if parameter.requires_grad],
            lr=config.fit.learning_rate,
            momentum=config.fit.momentum,
            weight_decay=config.fit.weight_decay,
            nesterov=True,
        )

    def epoch(self, number: int) -> Iterator[tuple[float, float]]:
        """Train for an epoch; yields after every step the losses of the full network and, on average, of the others.

        All random choices of an epoch follow from the seed and its number: nothing of them has to be stored.
        """
        seed = self._config.fit.seed
        rng = np.random.default_rng((seed, number))
        torch.manual_seed(int(rng.integers(2**31)))  # dropout takes no generator
        generator = torch.Generator().manual_seed(int(rng.integers(2**31)))
        order = torch.randperm(len(self._labels), generator=generator)
        for index in range(self.steps_per_epoch):
            rows = order[index * self._batch_size : (index + 1) * self._batch_size]
            drawn = [self._space.random(rng) for _ in range(self._config.random_networks)]
            self._set_rate((number - 1) * self.steps_per_epoch + index)
            images = self._augmented(self._images[rows], generator).to(self.device)
            losses = self._step(images, self._labels[rows].to(self.device), drawn)
            if not all(math.isfinite(loss) for loss in losses):
                raise ModelError(
                    f"the shared weights diverged in epoch {number} (losses {losses[0]:.3g} and {losses[1]:.3g}): "
                    f"lower learning_rate, which is {self._config.fit.learning_rate}"
                )
            yield losses

    def _set_rate(self, step: int) -> None:
        fit = self._config.fit
        factor = rate_factor(fit.schedule, fit.warmup, step, fit.epochs * self.steps_per_epoch)
        for group in self._optimizer.param_groups:
            group["lr"] = fit.learning_rate * factor

    def _step(self, images: Tensor, labels: Tensor, drawn: list[Candidate]) -> tuple[float, float]:
        self._optimizer.zero_grad(set_to_none=True)
        smoothing = self._config.fit.label_smoothing
        logits = self._logits(self.network, images)
        if self._base is None:
            teacher = logits.detach()
            full = cross_entropy(logits, labels, smoothing=smoothing)
        else:
            with torch.no_grad():
                teacher = self._logits(self._base, images)
            full = self._distilled(logits, teacher, labels)
        full.backward()  # type: ignore[no-untyped-call]  # torch leaves Tensor.backward untyped
        others = []
        for candidate in (self._space.smallest, *drawn):
            loss = self._distilled(self._logits(self._shared.network(candidate), images), teacher, labels)
            loss.backward()  # type: ignore[no-untyped-call]  # as above
            others.append(float(loss.detach()))
        self._optimizer.step()
        return float(full.detach()), float(np.mean(others))

    def _distilled(self, logits: Tensor, teacher: Tensor, labels: Tensor) -> Tensor:
        config = self._config
        return distillation(
            logits, teacher, labels, config.temperature, config.distillation, smoothing=config.fit.label_smoothing
        )

    def _logits(self, network: Callable[[Tensor], Tensor], images: Tensor) -> Tensor:
        try:
            with torch.autocast(self.device, torch.bfloat16, enabled=self._dtype == torch.bfloat16):
                return network(images).float()
        except (RuntimeError, IndexError, ValueError, TypeError) as error:
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise ModelError(
                f"{type(self.network).__name__} cannot be trained on images of shape {tuple(images.shape[1:])}: "
                f"{reason}"
            ) from error

    def _augmented(self, images: Tensor, generator: torch.Generator) -> Tensor:
        if self._config.fit.augment:
            images = random_crop(images, max(1, images.shape[-1] // _CROP_SHARE), generator)
        if self._config.fit.flip:
            images = random_flip(images, generator)
        return images.contiguous(memory_format=torch.channels_last)

    def state(self, losses: list[tuple[float, float]], seconds: float) -> dict[str, Any]:
        """What the next epoch starts from."""
        return {
            "losses": [list(pair) for pair in losses],
            "seconds": seconds,
            "network": self.network.state_dict(),
            "optimizer": self._optimizer.state_dict(),
        }

    def restore(self, state: dict[str, Any]) -> tuple[list[tuple[float, float]], float]:
        """Start from what `state` returned; the losses and seconds so far."""
        self.network.load_state_dict(state["network"])
        self._optimizer.load_state_dict(state["optimizer"])
        return [(full, others) for full, others in state["losses"]], state["seconds"]


def _conditions(plan: SurgeryPlan, space: PruningSpace, train: ImageSet, config: AdaptationConfig) -> dict[str, str]:
    """All that decides what the weights become, by name."""
    settings = {**asdict(config), "fit": config.fit.to_record()}
    return {
        "network": weights_digest(plan.module),
        "space": digest(json.dumps([space.to_record(), plan.order], sort_keys=True).encode()),
        "images": digest(train.images, train.labels),
        "settings": json.dumps(settings, sort_keys=True),
    }


def _write(path: Path, conditions: dict[str, str], state: dict[str, Any]) -> None:
    buffer = io.BytesIO()
    torch.save({"format": _FORMAT, "conditions": conditions, **state}, buffer)
    write_atomic(path, buffer.getvalue())


def _read(path: Path, conditions: dict[str, str]) -> dict[str, Any]:
    """Read a checkpoint of tensors and plain data; nothing in it is run."""
    remedy = "delete it, and the shared weights are trained anew"
    try:
        found: dict[str, Any] = torch.load(io.BytesIO(path.read_bytes()), map_location="cpu", weights_only=True)
        known, version = found["conditions"], found["format"]
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, KeyError, TypeError) as error:
        raise ModelError(f"{path}: is damaged or no checkpoint of shared weights; {remedy}") from error
    if version != _FORMAT:
        raise ModelError(f"{path}: was written in format {version}, this is {_FORMAT}; {remedy}")
    differing = [name for name, value in conditions.items() if known.get(name) != value]
    if differing:
        raise ModelError(f"{path}: holds shared weights of other {' and '.join(differing)}; {remedy}")
    return found
