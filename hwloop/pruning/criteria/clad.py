"""The criterion is learned: CLAD, "Criterion learner and attention distillation for automated CNN pruning" (2025).

The paper's, as far as it could be read (its abstract): a differentiable criterion learner in each layer maps the
layer's filter parameters to importance; the learners are trained end to end by gradient, with attention distilled from
the unpruned network, and a polar regularisation.

From other papers, in their exact published form: attention transfer (Zagoruyko and Komodakis 2017, mean of squares;
`hwloop.training.losses`) and the polarisation regulariser (Zhuang et al. 2020, "Neuron-level structured pruning using
polarization regularizer": t·Σ|g| - Σ|g - mean(g)| with the mean over all layers), here per channel. Whether CLAD's
"polar regularization" is this one is not known.

Ours, because the paper's body was not at hand: one learner per channel group, as coupled layers can only lose a channel
together; what it looks at (each filter as a unit-free vector, and a few figures of it); its shape (two linear layers
around a hyperbolic tangent, shared over the group's channels); the weights, which stay fixed, and batch normalisations,
which use the batch's statistics; the budget, a price on the distance of the network's work from a target; the points
where attention is compared (the end of each resolution); Adam with a cosine schedule; and how importance is felt. It is
the chance that a channel stays: each step draws which channels are there, and the gradient goes straight through the
draw (Bengio et al. 2013). Used as factors instead, importances teach nothing: the batch normalisation behind a group
undoes a common factor, and ResNet-20's channels were ordered no better than at random. And as a search asks for
networks of any width, the chances of each step are shifted together, from few channels to nearly all. The score of a
channel is its importance before the sigmoid, so that channels which polarisation drove together still have an order.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from hwloop.errors import ModelError, UserError
from hwloop.pruning.criteria.attention_points import Point, find_points, recorded
from hwloop.pruning.criteria.criterion import Criterion, Scores
from hwloop.pruning.criteria.evidence import Evidence
from hwloop.pruning.criteria.filters import filters, normalisations
from hwloop.pruning.criteria.registry import register_criterion
from hwloop.pruning.criteria.running import device_of, explained
from hwloop.pruning.criteria.soft_work import SoftWork
from hwloop.pruning.criteria.virtual import VirtualNetwork
from hwloop.pruning.groups import ChannelGroup
from hwloop.training.losses import attention_transfer, cross_entropy

_HIDDEN = 32  # units of a learner
_FIRST_SCORE = 2.0  # nearly all importance is there at the beginning: sigmoid(2) is 0.88
_MOST_KEPT = 0.95  # the largest share that chances are shifted by: of what stays for certain nothing is learned


@dataclass(frozen=True)
class Learned:
    """What the learners found.

    Attributes:
        scores: by group name, (width,), before the sigmoid.
        losses: of every step.
        work: what is left of the network's multiply-accumulates behind the learned importances, 0 to 1.
    """

    scores: Scores
    losses: tuple[float, ...]
    work: float

    @property
    def importances(self) -> dict[str, NDArray[np.float64]]:
        """By group name, (width,) numbers of 0 to 1; the paper cuts at one half."""
        return {name: 1 / (1 + np.exp(-scores)) for name, scores in self.scores.items()}


@register_criterion
@dataclass(frozen=True)
class CLAD(Criterion):
    """Importance as learned from filter parameters.

    Attributes:
        epochs: passes over the images.
        learning_rate: of the learners, at its highest.
        target: of the network's multiply-accumulates, the share that is to be left.
        least_share: chances are shifted as if so much stayed of a channel of importance one half, up to 0.95.
        attention: weight of the attention transfer; as its published code has it, which also ordered best on images
            that ResNet-20 had not seen, of weights from 10 to 5000.
        polarisation: weight of the regulariser.
        shrinkage: t of the regulariser; above 1 it shrinks all importance, too.
        budget: weight of the distance from the target.
    """

    epochs: int = 12
    learning_rate: float = 0.02
    target: float = 0.5
    least_share: float = 0.2
    attention: float = 1000.0
    polarisation: float = 0.1
    shrinkage: float = 1.0
    budget: float = 5.0

    name = "clad"
    needs_images = True
    seeded = True
    equivariant = False  # the first layer of a learner begins with a random number for each weight of a filter

    def __post_init__(self) -> None:
        for setting, valid, limit in (
            ("epochs", self.epochs >= 1, "at least 1"),
            ("learning_rate", 0 < self.learning_rate < math.inf, "a positive number"),
            ("target", 0 < self.target <= 1, "above 0 and at most 1"),
            ("least_share", 0 < self.least_share < _MOST_KEPT, f"above 0 and below {_MOST_KEPT}"),
            ("attention", 0 <= self.attention < math.inf, "at least 0"),
            ("polarisation", 0 <= self.polarisation < math.inf, "at least 0"),
            ("shrinkage", 0 <= self.shrinkage < math.inf, "at least 0"),
            ("budget", 0 <= self.budget < math.inf, "at least 0"),
        ):
            if not valid:
                raise UserError(f"criterion 'clad': {setting} is {getattr(self, setting)}: it must be {limit}")

    def scores(self, module: nn.Module, groups: Sequence[ChannelGroup], evidence: Evidence) -> Scores:
        """Return the learned importances, before the sigmoid."""
        return self.learn(module, groups, evidence).scores

    def learn(self, module: nn.Module, groups: Sequence[ChannelGroup], evidence: Evidence) -> Learned:
        """Train the learners.

        Raises:
            ModelError: There are no images, the network fails on them, or the loss is not finite.
        """
        generator, device = evidence.generator(), device_of(module)
        learners = {
            group.name: _Learner(filter_features(module, group).to(device), group.divisor, generator)
            for group in groups
        }
        with explained(module, self.name):
            batches = list(evidence.batches(self.name, device, least=2))
            first = batches[0][0][:2]
            network = VirtualNetwork(module, groups, self.name, first)
            work = SoftWork(network.module, groups, first)
            points = find_points(network.module, first)
            losses = self._train(network, learners, batches, work, points, generator)
            with torch.no_grad():
                scores = {name: learner() for name, learner in learners.items()}
                left = float(work({name: found.sigmoid() for name, found in scores.items()}))
        return Learned({name: found.double().cpu().numpy() for name, found in scores.items()}, tuple(losses), left)

    def _train(
        self,
        network: VirtualNetwork,
        learners: Mapping[str, _Learner],
        batches: Sequence[tuple[Tensor, Tensor]],
        work: SoftWork,
        points: tuple[Point, ...],
        generator: torch.Generator,
    ) -> list[float]:
        parameters = [parameter for learner in learners.values() for parameter in learner.parameters()]
        optimizer = torch.optim.Adam(parameters, lr=self.learning_rate)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, self.epochs * len(batches))
        seen: list[list[Tensor]] = []  # what the unpruned network attends to, in each batch
        losses: list[float] = []
        with recorded(network.module, points) as maps:
            for images, _labels in batches:
                network.unpruned(images)
                # One map whose attention is that of all channels: a hundredth of the memory.
                seen.append([found.float().square().mean(1, keepdim=True).sqrt() for found in maps()])
            for _ in range(self.epochs):
                for (images, labels), attended in zip(batches, seen, strict=True):
                    scores = {name: learner() for name, learner in learners.items()}
                    importances = {name: found.sigmoid() for name, found in scores.items()}
                    shift = self._shift(generator)
                    gates = {
                        name: drawn_gates((found + shift).sigmoid(), learners[name].divisor, generator)
                        for name, found in scores.items()
                    }
                    logits = network.pruned(images, gates)
                    loss = (
                        cross_entropy(logits, labels)
                        + self.attention * attention_transfer([found.float() for found in maps()], attended)
                        + self.polarisation * polarisation(torch.cat(list(importances.values())), self.shrinkage)
                        + self.budget * (work(importances) - self.target).abs()
                    )
                    optimizer.zero_grad()
                    loss.backward()  # type: ignore[no-untyped-call]  # torch leaves Tensor.backward untyped
                    optimizer.step()
                    schedule.step()
                    losses.append(float(loss.detach()))
                    if not math.isfinite(losses[-1]):
                        raise ModelError(
                            f"criterion 'clad': its loss is {losses[-1]} after {len(losses)} steps (are the network "
                            "and the images finite? else lower learning_rate)"
                        )
        return losses

    def _shift(self, generator: torch.Generator) -> float:
        share = self.least_share + (_MOST_KEPT - self.least_share) * float(torch.rand((), generator=generator))
        return math.log(share / (1 - share))


def drawn_gates(chances: Tensor, divisor: int, generator: torch.Generator) -> Tensor:
    """Draw which channels are there, (width,) zeros and ones, with the gradient of their chances.

    Args:
        chances: (width,) of staying, 0 to 1; at least the likeliest stays.
        divisor: of the group: channels that a grouped convolution keeps together have one draw.
        generator: of the draws.
    """
    draws = torch.rand(len(chances) // divisor, generator=generator).repeat(divisor).to(chances.device)
    stays = (draws < chances.detach()).to(chances.dtype)
    if not stays.any():
        stays = (chances.detach() == chances.detach().max()).to(chances.dtype)
    return stays + chances - chances.detach()


def polarisation(importances: Tensor, shrinkage: float) -> Tensor:
    """Return the polarisation regulariser per channel, a scalar: low where importances are 0 or far above their mean.

    Args:
        importances: (n,) of all groups, 0 to 1.
        shrinkage: t of the paper.
    """
    return shrinkage * importances.abs().mean() - (importances - importances.mean()).abs().mean()


def filter_features(module: nn.Module, group: ChannelGroup) -> Tensor:
    """Return what a learner sees of each channel, (width, features) float32.

    The filters of every root as vectors of about unit length, then figures in units of their spread over the group:
    L1 and L2 norm, mean, deviation, distance to the other filters, and scale and shift of the normalisations.
    """
    vectors: list[Tensor] = []
    figures: list[Tensor] = []
    for rows in filters(module, group):
        vectors.append(rows / rows.square().sum(1).mean().sqrt().clamp(min=1e-12))
        figures += [
            rows.abs().sum(1),
            rows.square().sum(1).sqrt(),
            rows.mean(1),
            rows.std(1, correction=0),
            torch.cdist(rows, rows).mean(1),
        ]
    for scale, shift in normalisations(module, group):
        figures += [scale, shift]
    table = torch.stack(figures, dim=1)
    table = (table - table.mean(0)) / table.std(0, correction=0).clamp(min=1e-12)
    return torch.cat([*vectors, table], dim=1).float()


class _Learner(nn.Module):
    """From the features of a group's channels to their importance before the sigmoid."""

    def __init__(self, features: Tensor, divisor: int, generator: torch.Generator) -> None:
        super().__init__()
        self.divisor = divisor
        self.register_buffer("features", features, persistent=False)
        count = features.shape[1]
        # Rows have about the length of the root of two kinds of parts: the numbers that come out have a size near one.
        spread = 1 / features.square().sum(1).mean().sqrt().clamp(min=1e-12)
        first = torch.randn(_HIDDEN, count, generator=generator).to(features.device) * spread
        self.first = nn.Parameter(first)
        self.bias = nn.Parameter(features.new_zeros(_HIDDEN))
        self.second = nn.Parameter(features.new_zeros(1, _HIDDEN))
        self.score = nn.Parameter(features.new_full((1,), _FIRST_SCORE))

    def forward(self) -> Tensor:
        """Return the (width,) scores."""
        features = self.get_buffer("features")
        hidden = torch.tanh(functional.linear(features, self.first, self.bias))
        scores = functional.linear(hidden, self.second, self.score)
        # Channels that a grouped convolution keeps together have one importance: the mean of theirs.
        return scores.view(self.divisor, -1).mean(0).repeat(self.divisor)
