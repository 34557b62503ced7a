"""Each group is given the plain criterion that suits it, learned for all groups at once.

He et al. 2020, "Learning filter pruning criteria" (LFPC). The paper's: a differentiable sampler that holds, for each
layer, a distribution over a set of plain criteria; one criterion is sampled for all layers at once, the network is
pruned with them virtually, and its loss is the sampler's training signal; afterwards each layer takes its likeliest.
Recalled, not read: the set (L1, L2, geometric median) and the relaxation (Gumbel-softmax, straight through). Ours: one
choice per channel group; the share of channels that is kept is drawn anew in each step, as hwloop's search may ask for
any; masks stand where groups are read; the images are those of the evidence.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from hwloop.errors import UserError
from hwloop.pruning.criteria.criterion import Criterion, Scores
from hwloop.pruning.criteria.evidence import Evidence
from hwloop.pruning.criteria.ranking import ranked
from hwloop.pruning.criteria.registry import get_criterion, list_criteria, register_criterion
from hwloop.pruning.criteria.running import device_of, explained
from hwloop.pruning.criteria.virtual import VirtualNetwork
from hwloop.pruning.groups import ChannelGroup


@register_criterion
@dataclass(frozen=True)
class LFPC(Criterion):
    """The scores of the plain criterion that was chosen for each group.

    Attributes:
        choices: names of the criteria to choose from.
        epochs: passes over the images while the sampler learns.
        learning_rate: of the sampler (Adam).
        temperature: of the relaxation.
        least_share: of each group's channels, the least that is kept while learning; up to 1 - `least_share`.
    """

    choices: tuple[str, ...] = ("l1", "l2", "fpgm")
    epochs: int = 4
    learning_rate: float = 0.1
    temperature: float = 1.0
    least_share: float = 0.25

    name = "lfpc"
    needs_images = True
    seeded = True

    def __post_init__(self) -> None:
        for name in self.choices:
            if name not in list_criteria() or name == self.name or get_criterion(name).needs_images:
                raise UserError(f"criterion 'lfpc' chooses between criteria that look at weights; {name!r} is none")
        for setting, valid, limit in (
            ("choices", len(self.choices) >= 2, "at least two names"),
            ("epochs", self.epochs >= 1, "at least 1"),
            ("learning_rate", self.learning_rate > 0, "positive"),
            ("temperature", self.temperature > 0, "positive"),
            ("least_share", 0 < self.least_share <= 0.5, "above 0 and at most 0.5"),
        ):
            if not valid:
                raise UserError(f"criterion 'lfpc': {setting} is {getattr(self, setting)}: it must be {limit}")

    def scores(self, module: nn.Module, groups: Sequence[ChannelGroup], evidence: Evidence) -> Scores:
        """Return, of each group, the scores by its own criterion."""
        offered = {name: get_criterion(name).scores(module, groups, evidence) for name in self.choices}
        chosen = self.chosen(module, groups, evidence)
        return {group.name: offered[chosen[group.name]][group.name] for group in groups}

    def chosen(self, module: nn.Module, groups: Sequence[ChannelGroup], evidence: Evidence) -> dict[str, str]:
        """Return the name of the criterion that suits each group, by group name.

        Raises:
            ModelError: There are no images, or the network fails on them.
        """
        evidence.needed_by(self.name)
        device, generator = device_of(module), evidence.generator()
        scored = [get_criterion(name).scores(module, groups, evidence) for name in self.choices]
        ranks = {
            group.name: torch.stack(
                [torch.tensor(ranked(group, scores[group.name])).argsort() for scores in scored]
            ).to(device)
            for group in groups
        }
        preferences = torch.zeros(len(groups), len(self.choices), device=device, requires_grad=True)
        optimizer = torch.optim.Adam([preferences], lr=self.learning_rate)
        with explained(module, self.name):
            example, _ = next(evidence.batches(self.name, device))
            network = VirtualNetwork(module, groups, self.name, example[:2])
            for _ in range(self.epochs):
                for images, labels in evidence.batches(self.name, device):
                    if len(images) < 2:
                        continue  # one image has no batch statistics
                    samples = self._sampled(preferences, generator)
                    span = 1 - 2 * self.least_share
                    share = self.least_share + span * float(torch.rand((), generator=generator))
                    gates = {
                        group.name: sample @ (ranks[group.name] < _kept(group, share)).float()
                        for group, sample in zip(groups, samples, strict=True)
                    }
                    loss = functional.cross_entropy(network.pruned(images, gates), labels)
                    optimizer.zero_grad()
                    loss.backward()  # type: ignore[no-untyped-call]  # torch leaves Tensor.backward untyped
                    optimizer.step()
        best = preferences.detach().argmax(1).tolist()
        return {group.name: self.choices[index] for group, index in zip(groups, best, strict=True)}

    def _sampled(self, preferences: Tensor, generator: torch.Generator) -> Tensor:
        """Return (groups, choices): one is 1 in each row, with the gradient of the softmax that it was drawn from."""
        uniform = torch.rand(preferences.shape, generator=generator).clamp(1e-9, 1 - 1e-7).to(preferences.device)
        noisy = (preferences - (-uniform.log()).log()) / self.temperature
        soft = noisy.softmax(1)
        hard = functional.one_hot(soft.argmax(1), preferences.shape[1]).float()
        return hard - soft.detach() + soft


def _kept(group: ChannelGroup, share: float) -> int:
    """Return how many channels are about a share of a group, whole places of its blocks."""
    return max(1, round(share * group.width / group.divisor)) * group.divisor
