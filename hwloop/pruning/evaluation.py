"""The judge: how many mistakes a pruned network makes, without training it."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from hwloop.datasets import ImageSet
from hwloop.errors import ModelError
from hwloop.pruning.candidate import Candidate
from hwloop.pruning.folding import fold, foldable_pairs
from hwloop.pruning.recalibration import recalibrate
from hwloop.pruning.surgery import SurgeryPlan
from hwloop.training import fast_dtype, torch_threads

_Z_95 = 1.959963984540054  # two-sided 95 % quantile of the normal distribution


@dataclass(frozen=True)
class ErrorEstimate:
    """Mistakes of a candidate on held-out images.

    Attributes:
        error: share of images classified wrongly, 0 to 1.
        errors: how many.
        n: of how many.
        low: lower end of the 95 % Wilson interval of the error.
        high: its upper end.
        seconds: what the estimate cost; not part of the comparison of two estimates.
    """

    error: float
    errors: int
    n: int
    low: float
    high: float
    seconds: float


def wilson_interval(errors: int, n: int) -> tuple[float, float]:
    """Return the 95 % interval of a share (Wilson 1927), which stays in [0, 1] and is honest near both ends."""
    share = errors / n
    square = _Z_95**2
    centre = (share + square / (2 * n)) / (1 + square / n)
    half = _Z_95 * math.sqrt(share * (1 - share) / n + square / (4 * n * n)) / (1 + square / n)
    return max(0.0, centre - half), min(1.0, centre + half)


class ErrorJudge:
    """Estimates the error of candidates: slice, recalibrate, fold, evaluate on held-out images.

    The same candidate gives the same estimate on one machine; it is kept, so asking again costs nothing (and a base
    network whose weights have changed needs a new judge). Batch
    normalisations are measured anew on a fixed subset of the training images; the evaluation runs with folded batch
    normalisations, channels last, in bfloat16 where the processor has it in hardware, else in float32.
    """

    def __init__(
        self,
        plan: SurgeryPlan,
        recalibration: ImageSet,
        validation: ImageSet,
        *,
        recalibration_images: int = 512,
        recalibration_batch: int = 256,
        batch_size: int = 500,
        seed: int = 0,
        threads: int | None = None,
        fast: bool = True,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        """Prepare the judge.

        Args:
            plan: of the base network; its weights are read at each estimate.
            recalibration: training images; `recalibration_images` of them are chosen once, under the seed.
            validation: held-out images that every candidate is judged on.
            recalibration_images: how many images the statistics are measured on.
            recalibration_batch: in batches of at most so many (the last, smaller one is left out).
            batch_size: images per forward pass of the evaluation.
            seed: of the choice.
            threads: of torch while judging; None leaves the number as it is.
            fast: use bfloat16 where the processor has it in hardware.
            clock: in seconds, for `ErrorEstimate.seconds`.

        Raises:
            ModelError: Too few images.
        """
        if len(recalibration) < 2:
            raise ModelError(f"recalibration has {len(recalibration)} images: at least 2 are needed")
        if len(validation) < 1:
            raise ModelError("validation has no images: hold at least one out")
        self._plan = plan
        chosen = np.random.default_rng(seed).permutation(len(recalibration))[:recalibration_images]
        size = min(recalibration_batch, len(chosen))
        self._batches = [
            _channels_last(recalibration.images[chosen[start : start + size]])
            for start in range(0, len(chosen) - size + 1, size)
        ]
        self._dtype = fast_dtype() if fast else torch.float32
        self._images = [
            _channels_last(validation.images[start : start + batch_size]).to(self._dtype)
            for start in range(0, len(validation), batch_size)
        ]
        self._labels = torch.from_numpy(validation.labels)
        self._pairs = foldable_pairs(plan.module, validation.images.shape[1:])
        self._threads = threads
        self._clock = clock
        self._known: dict[Candidate, ErrorEstimate] = {}

    @property
    def dtype(self) -> str:
        """Return what the evaluation multiplies in: "float32" or "bfloat16"."""
        return str(self._dtype).removeprefix("torch.")

    def error(self, candidate: Candidate) -> ErrorEstimate:
        """Return the estimate of a candidate; asked twice, it is evaluated once.

        Raises:
            ModelError: The widths or blocks are not those of the network, or it fails on the images.
        """
        if candidate not in self._known:
            self._known[candidate] = self.evaluate(candidate)
        return self._known[candidate]

    def evaluate(self, candidate: Candidate) -> ErrorEstimate:
        """Estimate anew, whatever is known already; see `error`."""
        started = self._clock()
        with torch_threads(self._threads):
            network = self._calibrated(candidate)
            fold(network, self._pairs)
            network.to(dtype=self._dtype)
            network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # missing in the stubs
            with torch.inference_mode():
                found = torch.cat([network(batch).argmax(1) for batch in self._images])
        errors = int((found != self._labels).sum())
        n = len(self._labels)
        low, high = wilson_interval(errors, n)
        return ErrorEstimate(errors / n, errors, n, low, high, self._clock() - started)

    def calibrated(self, candidate: Candidate) -> nn.Module:
        """Return a candidate as it is judged, before folding: sliced, its batch normalisations recalibrated."""
        with torch_threads(self._threads):
            network = self._calibrated(candidate)
        network.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]  # missing in the stubs
        return network

    def _calibrated(self, candidate: Candidate) -> nn.Module:
        network = self._plan.apply(candidate).eval()
        network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # missing in torch's stubs
        try:
            recalibrate(network, self._batches)
        except (RuntimeError, IndexError, ValueError) as error:
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise ModelError(f"the pruned {type(network).__name__} fails on the images: {reason}") from error
        return network


def _channels_last(images: np.ndarray[tuple[int, ...], np.dtype[np.float32]]) -> Tensor:
    return torch.from_numpy(images).contiguous(memory_format=torch.channels_last)
