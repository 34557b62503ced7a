"""A network that is pruned by gates while something is learned about them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from hwloop.pruning.criteria.running import device_of, logits_of, working_copy
from hwloop.pruning.gating import gated
from hwloop.pruning.groups import ChannelGroup
from hwloop.training import fast_dtype


class VirtualNetwork:
    """The unpruned network, and the same weights behind gates.

    Behind gates, batch normalisations use the statistics of the batch, as they will be measured anew once the network
    is pruned (see `recalibration`); dropout is off. Gradients reach the gates, never the weights. It multiplies in
    bfloat16 where the processor has it in hardware.

    Args:
        module: the network; a copy of it is worked on.
        groups: whose channels have gates.
        criterion: for messages.
        example: images (n, c, h, w) that the network takes.
    """

    def __init__(self, module: nn.Module, groups: Sequence[ChannelGroup], criterion: str, example: Tensor) -> None:
        self.module = working_copy(module)
        self.device = device_of(module)
        self._groups = tuple(groups)
        self._criterion = criterion
        self._normalisations = [layer for layer in self.module.modules() if isinstance(layer, _BatchNorm)]
        self._tracking = [layer.track_running_stats for layer in self._normalisations]
        self._fast = fast_dtype() == torch.bfloat16
        self._layout = torch.channels_last  # faster, but not every network's reshapes bear it
        self._lay_out()
        try:
            self.unpruned(example)
        except RuntimeError:
            self._layout = torch.contiguous_format
            self._lay_out()
            self.unpruned(example)

    def unpruned(self, images: Tensor) -> Tensor:
        """Return the logits of the network as it is, (n, k), without gradients."""
        with torch.no_grad(), self._fast_multiplying():
            return self._logits(images)

    def pruned(self, images: Tensor, gates: Mapping[str, Tensor]) -> Tensor:
        """Return the logits behind gates, (n, k) float32."""
        with (
            torch.enable_grad(),
            self._batch_statistics(),
            self._fast_multiplying(),
            gated(self.module, self._groups, gates),
        ):
            return self._logits(images)

    def _logits(self, images: Tensor) -> Tensor:
        images = images.contiguous(memory_format=self._layout)
        return logits_of(self.module, images, self._criterion).float()

    def _lay_out(self) -> None:
        self.module.to(memory_format=self._layout)  # type: ignore[call-overload]  # missing in torch's stubs

    def _fast_multiplying(self) -> torch.autocast:
        enabled = self._fast and self.device.type == "cpu"
        return torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=enabled)

    @contextmanager
    def _batch_statistics(self) -> Iterator[None]:
        for layer in self._normalisations:
            layer.train()
            layer.track_running_stats = False  # else the running statistics would move
        try:
            yield
        finally:
            for layer, tracking in zip(self._normalisations, self._tracking, strict=True):
                layer.eval()
                layer.track_running_stats = tracking
