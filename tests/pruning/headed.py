"""What the networks of these tests end with."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional


class Headed(nn.Module):
    """A body, global mean, a linear classifier."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.head = nn.Linear(channels, 5)

    def classify(self, maps: Tensor) -> Tensor:
        logits: Tensor = self.head(functional.adaptive_avg_pool2d(maps, 1).flatten(1))
        return logits
