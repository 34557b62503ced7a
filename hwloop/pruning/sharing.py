"""Candidates whose parameters *are* the base network's: sliced for real, and trained through the slices.

The surgery is asked once, on a copy of the network that holds the numbers of its parameters in their place; what comes
back says where each parameter of the candidate lies in the base network. So widths, removed blocks and parameters that
belong to no layer are all shared, by the very surgery that makes the networks which are shipped.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.func import functional_call

from hwloop.pruning.candidate import Candidate
from hwloop.pruning.surgery import SurgeryPlan


@dataclass(frozen=True)
class _Place:
    """Where a parameter of a candidate lies in the flat vector of all of the base's parameters."""

    indices: Tensor
    shape: torch.Size


class SharedWeights:
    """Makes candidates that compute with the base network's own parameters, as they are at each call.

    Buffers (the running statistics of batch normalisations) are each candidate's own.
    """

    def __init__(self, plan: SurgeryPlan) -> None:
        """Number the parameters of the plan's network; candidates will be in the mode that it is in now."""
        self._parameters = list(plan.module.parameters())
        self._plan = plan.on(_numbered(plan.module))

    def network(self, candidate: Candidate) -> Callable[[Tensor], Tensor]:
        """Return the forward function of a candidate.

        Gradients of what it returns reach the base network's parameters.

        Raises:
            ModelError: See `SurgeryPlan.apply`.
        """
        module = self._plan.apply(candidate)
        places = {
            name: _Place(parameter.detach().flatten().long(), parameter.shape)
            for name, parameter in module.named_parameters()
        }

        def forward(images: Tensor) -> Tensor:
            flat = torch.cat([parameter.flatten() for parameter in self._parameters])
            taken = {name: flat.index_select(0, place.indices).view(place.shape) for name, place in places.items()}
            logits: Tensor = functional_call(module, taken, (images,))
            return logits

        return forward


def _numbered(module: nn.Module) -> nn.Module:
    """A copy whose parameters hold their places in the flat vector: exact in float64 up to 2^53 of them."""
    twin = copy.deepcopy(module)
    start = 0
    for parameter in twin.parameters():
        stop = start + parameter.numel()
        numbers = torch.arange(start, stop, dtype=torch.float64).view(parameter.shape)
        parameter.requires_grad_(False)
        parameter.data = numbers
        start = stop
    return twin
