"""The part of a network that is alive: it computes the same, and is cheaper to evaluate and to retrain."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor, nn

from hwloop.pruning import Candidate, Carried, Carrier
from hwloop.search.ga_pruning.anatomy import Anatomy, Census


class Living:
    """A network without its dead channels, and the way back.

    Attributes:
        network: the living channels, a network of its own.
        anatomy: of it; its shares are of the whole network.

    Args:
        state: a settled state dict of the whole network.
        anatomy: of the whole network.
        carrier: of the whole network.
        unpruned: its census before anything was pruned.
        input_shape: (channels, height, width) of an image.
    """

    def __init__(
        self,
        state: Mapping[str, Tensor],
        anatomy: Anatomy,
        carrier: Carrier,
        unpruned: Census,
        input_shape: Sequence[int],
    ) -> None:
        kept = anatomy.living(state)
        self._carrier = carrier
        self._plan = carrier.plan(Carried(state, kept))
        self._candidate = Candidate(tuple(len(kept[group.name]) for group in anatomy.groups))
        self.network: nn.Module = self._plan.apply(self._candidate)
        self.anatomy = Anatomy(self.network, input_shape, unpruned)

    def whole(self) -> dict[str, Tensor]:
        """The state dict of the whole network with what this part has become; dead channels are zero."""
        return dict(self._carrier.carry(self.network, self._plan, self._candidate).state)
