"""What is done to a sliced network before its mistakes are counted."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import numpy as np
import torch
from torch import nn

from hwloop.datasets import ImageSet
from hwloop.errors import ModelError
from hwloop.pruning.held_out import channels_last
from hwloop.pruning.recalibration import recalibrate
from hwloop.training import FitConfig, fast_dtype, fit


class Preparation(Protocol):
    """Makes a network that was just sliced fit to be judged."""

    @property
    def conditions(self) -> Mapping[str, str]:
        """All settings that its result depends on."""
        ...

    def prepare(self, network: nn.Module) -> None:
        """Change the network's weights or statistics, in place.

        Raises:
            ModelError: It fails on the images.
        """
        ...


class Recalibration:
    """New statistics of the batch normalisations, on a fixed subset of the training images."""

    def __init__(
        self, train: ImageSet, *, images: int = 512, batch_size: int = 256, seed: int = 0, fast: bool = True
    ) -> None:
        """Choose the images.

        Args:
            train: training images.
            images: so many of them are chosen once.
            batch_size: in batches of at most so many (the last, smaller one is left out).
            seed: of the choice.
            fast: use bfloat16 where the processor has it in hardware; the statistics are sums in float32.

        Raises:
            ModelError: Too few images.
        """
        if len(train) < 2:
            raise ModelError(f"recalibration has {len(train)} images: at least 2 are needed")
        chosen = np.random.default_rng(seed).permutation(len(train))[:images]
        size = min(batch_size, len(chosen))
        self._batches = [
            channels_last(train.images[chosen[start : start + size]])
            for start in range(0, len(chosen) - size + 1, size)
        ]
        self._dtype = fast_dtype() if fast else torch.float32
        self.conditions: Mapping[str, str] = {
            "recalibration_images": str(images),
            "recalibration_batch": str(batch_size),
            "recalibration_seed": str(seed),
            "recalibration_dtype": str(self._dtype).removeprefix("torch."),
        }

    def prepare(self, network: nn.Module) -> None:
        """See `Preparation.prepare`."""
        network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # missing in torch's stubs
        try:
            with torch.autocast("cpu", torch.bfloat16, enabled=self._dtype == torch.bfloat16):
                recalibrate(network, self._batches)
        except (RuntimeError, IndexError, ValueError) as error:
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise ModelError(f"the pruned {type(network).__name__} fails on the images: {reason}") from error


class FineTuning:
    """Training, short or long."""

    def __init__(self, train: ImageSet, config: FitConfig, *, images: int | None = None) -> None:
        """Choose the images.

        Args:
            train: training images.
            config: how to train.
            images: so many of them, chosen once under the configuration's seed, are an epoch; None for all.
        """
        if images is not None and images < len(train):
            train = train.take(np.random.default_rng(config.seed).permutation(len(train))[:images])
        self._train = train
        self._config = config
        self.conditions: Mapping[str, str] = {
            "finetune_images": str(len(train)),
            **{f"finetune_{name}": str(value) for name, value in config.to_record().items()},
        }

    def prepare(self, network: nn.Module) -> None:
        """See `Preparation.prepare`."""
        fit(network, self._train, config=self._config)
