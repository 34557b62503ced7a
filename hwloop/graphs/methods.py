"""How a round decides what to cut: UGS, ICPG, and the baselines that they must beat."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from hwloop.errors import UserError
from hwloop.graphs.graph import Graph, GraphSet
from hwloop.graphs.masker import Masker
from hwloop.graphs.masks import Masks, cut_edges, cut_weights, local_ranks, matrices
from hwloop.graphs.networks import GraphNetwork
from hwloop.graphs.training import Batches, Judged, MaskedNetwork, Recipe, State, derived_seed, fit, seeded

NOISE = 1e-5
"""UGS's masks begin at 1 with uniform noise of this size, so that equal ones are told apart."""


@dataclass(frozen=True)
class Rates:
    """What a round cuts of what remains; the defaults are those of UGS and ICPG.

    Attributes:
        edges: share of each graph's edges.
        weights: share of all weights.
    """

    edges: float = 0.05
    weights: float = 0.2

    def __post_init__(self) -> None:
        for name in ("edges", "weights"):
            if not 0 <= getattr(self, name) < 1:
                raise UserError(f"the rate of {name} is {getattr(self, name)}: it must be at least 0 and below 1")


@dataclass(frozen=True)
class Situation:
    """What a method sees at the beginning of a round.

    Attributes:
        data: graphs with the edges that remain.
        network: with its initial weights, to which every round rewinds; a copy that may be changed.
        masks: of the weights.
        trained: the state of the last ticket, best on the validation split.
        recipe: how to train.
        rates: how much to cut.
        seed: of the run.
        round: from 1.
    """

    data: GraphSet
    network: GraphNetwork
    masks: Masks
    trained: State
    recipe: Recipe
    rates: Rates
    seed: int
    round: int

    def seed_of(self, purpose: str) -> int:
        """A seed for one purpose in this round."""
        return derived_seed(self.seed, self.round, purpose)


@dataclass(frozen=True)
class Cut:
    """What a method decided.

    Attributes:
        masks: of the weights, after the round.
        edges: for each graph, a bool mask over the edges that it had before the round.
        masker: the state of ICPG's masker, which scores the edges of unseen graphs; None for other methods.
    """

    masks: Masks
    edges: list[Tensor]
    masker: State | None = None


class Method(ABC):
    """One way to choose what a round cuts.

    Attributes:
        name: as on the command line.
        inductive: whether it can cut edges of graphs that were not seen in training.
    """

    name: ClassVar[str]
    inductive: ClassVar[bool] = True

    @abstractmethod
    def cut(self, now: Situation) -> Cut:
        """Decide a round."""


class EdgeRanking(Method):
    """A method that ranks the edges of any graph, so that any share of them can be cut at once.

    Attributes:
        local: whether scores decide within the edges into each node (see `local_ranks`), or among all of a graph.
    """

    local: ClassVar[bool] = False

    def ranks(self, graph: Graph, scores: Tensor) -> Tensor:
        """(edges,) by which the edges of a graph, or of several as one, are cut."""
        return local_ranks(graph, scores) if self.local else scores

    @abstractmethod
    def rank_edges(self, now: Situation) -> list[Tensor]:
        """(edges,) for each graph: those of the lowest are cut."""


@dataclass(frozen=True)
class Learnt:
    """What ICPG's joint training left.

    Attributes:
        magnitudes: of the weights, by which they are ranked.
        scores: (edges,) for each graph, seen in training or not, by which edges are cut.
        masker: its state.
    """

    magnitudes: dict[str, Tensor]
    scores: list[Tensor]
    masker: State


class Icpg(EdgeRanking):
    """ICPG (Sui et al., JCST 2024): a masker scores the edges, and is trained together with the network.

    The published code takes the masker of the epoch that is best on the *test* split for some data sets, and the last
    one for others; here it is the best on the validation split, with the edges gone that this epoch's masker would cut.
    As there, weights are ranked by the network at the end of the training where graphs are classified, and at the best
    epoch where nodes are. Edges are ranked before the sigmoid: scores that are 0 to the last digit would be cut in the
    order of the nodes, and Planetoid's first nodes are those that are trained on.
    """

    name = "icpg"

    def cut(self, now: Situation) -> Cut:
        """See `Method.cut`."""
        learnt = self.learn(now)
        masks = cut_weights(learnt.magnitudes, now.masks, now.rates.weights)
        return Cut(masks, cut_edges(learnt.scores, now.rates.edges), learnt.masker)

    def rank_edges(self, now: Situation) -> list[Tensor]:
        """See `EdgeRanking.rank_edges`; trains for it."""
        return self.learn(now).scores

    def learn(self, now: Situation) -> Learnt:
        """Train the network and the masker together; what it leaves ranks all edges and weights."""
        recipe = now.recipe
        masker = new_masker(now.data.features, recipe, now.seed)
        whole = MaskedNetwork(now.network, now.masks)
        both = nn.ModuleDict({"whole": whole, "masker": masker})
        decays = (recipe.weight_decay, recipe.masker_weight_decay)
        groups = [
            {"params": list(one.parameters()), "lr": rate, "weight_decay": decay}
            for one, rate, decay in zip(
                (whole, masker), (recipe.learning_rate, recipe.masker_learning_rate), decays, strict=True
            )
        ]

        def logits(judged: Judged) -> Tensor:
            return whole.on(judged, masker(judged.graph))

        def pruned(judged: Judged) -> Tensor:
            ranks = torch.split(self.ranks(judged.graph, masker.logits(judged.graph)), judged.graph.edge_counts)
            return whole.on(judged, torch.cat(cut_edges(ranks, now.rates.edges)).to(torch.float32))

        batches = Batches(now.data, recipe.batch_size, now.network.config.layers)
        done = fit(batches, both, logits, groups, recipe, now.seed_of("masker"), validated=pruned)
        both.load_state_dict(done.last if now.data.inductive else done.best)
        magnitudes = {name: one.detach().abs() for name, one in matrices(now.network).items()}
        both.load_state_dict(done.best)
        scored = zip(now.data.graphs, score_edges(masker, now.data), strict=True)
        return Learnt(magnitudes, [self.ranks(*one) for one in scored], dict(masker.state_dict()))


class IcpgLocal(Icpg):
    """ICPG of which the scores decide within the edges into each node: hwloop's own variant.

    A score of ICPG is a sum of a term of each end, so that it ranks nodes more than edges, and nodes lose all their
    edges at once. Here those with the most edges lose first, their lowest.
    """

    name = "icpg-local"
    local = True


class Ugs(Method):
    """UGS (Chen et al., ICML 2021): one trainable factor for each edge and each weight, drawn to zero by an L1 term.

    It has no factor for an edge that it was not trained on. A factor below zero counts as zero, as in torch-geometric's
    version: the L1 term carries factors past zero, and a node's degree must stay positive. The published code cuts one
    more than floor(share * n) of each; here it is exactly that many, as for all methods.
    """

    name = "ugs"
    inductive = False

    def cut(self, now: Situation) -> Cut:
        """See `Method.cut`."""
        recipe = now.recipe
        (graph,) = now.data.graphs
        whole = MaskedNetwork(now.network, now.masks)
        with seeded(now.seed_of("ugs")):
            edges = nn.Parameter(_noisy_ones(torch.ones(graph.edges)))
            of = {name: nn.Parameter(_noisy_ones(one.detach())) for name, one in matrices(now.network).items()}
        # A ModuleDict's names may have no dots.
        factors = nn.ParameterList([edges, *of.values()])
        both = nn.ModuleDict({"whole": whole, "factors": factors})

        def logits(judged: Judged) -> Tensor:
            return whole.on(judged, edges.relu(), dict(of))

        def sparsify() -> None:
            for factor, size in [(edges, recipe.edge_l1), *((one, recipe.weight_l1) for one in of.values())]:
                if factor.grad is not None:
                    factor.grad.add_(factor.detach().sign(), alpha=size)

        groups = [{"params": list(both.parameters()), "lr": recipe.learning_rate, "weight_decay": recipe.weight_decay}]
        batches = Batches(now.data, recipe.batch_size, now.network.config.layers)
        done = fit(batches, both, logits, groups, recipe, now.seed_of("ugs"), after_backward=sparsify)
        both.load_state_dict(done.best)
        masks = cut_weights({name: one.abs() for name, one in of.items()}, now.masks, now.rates.weights)
        return Cut(masks, cut_edges([edges.abs()], now.rates.edges))


class Random(Method):
    """Edges and weights by lot."""

    name = "random"

    def cut(self, now: Situation) -> Cut:
        """See `Method.cut`."""
        generator = torch.Generator().manual_seed(now.seed_of("weights"))
        lots = {name: torch.rand(mask.shape, generator=generator) for name, mask in now.masks.items()}
        return Cut(cut_weights(lots, now.masks, now.rates.weights), cut_edges(_lots(now), now.rates.edges))


class RandomEdges(EdgeRanking):
    """Edges by lot, weights by magnitude: what a choice of edges must beat at the same weights."""

    name = "random-edges"

    def cut(self, now: Situation) -> Cut:
        """See `Method.cut`."""
        return Cut(_by_magnitude(now), cut_edges(self.rank_edges(now), now.rates.edges))

    def rank_edges(self, now: Situation) -> list[Tensor]:
        """See `EdgeRanking.rank_edges`."""
        return [self.ranks(*one) for one in zip(now.data.graphs, _lots(now), strict=True)]


class RandomEdgesLocal(RandomEdges):
    """The same within the edges into each node: what the scores of `IcpgLocal` must beat."""

    name = "random-edges-local"
    local = True


class Magnitude(Method):
    """Weights by magnitude after training (Frankle and Carbin 2019), all edges kept."""

    name = "magnitude"

    def cut(self, now: Situation) -> Cut:
        """See `Method.cut`."""
        return Cut(_by_magnitude(now), [torch.ones(one.edges, dtype=torch.bool) for one in now.data.graphs])


METHODS: Mapping[str, Method] = {
    one.name: one for one in (Icpg(), IcpgLocal(), Ugs(), Random(), RandomEdges(), RandomEdgesLocal(), Magnitude())
}


def get_method(name: str, data: GraphSet) -> Method:
    """A method by its name, if it can prune such data.

    Raises:
        UserError: there is no such method, or it cannot prune graphs that it was not trained on.
    """
    if name not in METHODS:
        raise UserError(f"unknown method {name!r}; known are {', '.join(METHODS)}")
    method = METHODS[name]
    if data.inductive and not method.inductive:
        raise UserError(
            f"{name} learns one number for each edge that it is trained on and has none for the edges of unseen graphs,"
            f" which {data.name} is tested on; use icpg, whose masker scores the edges of any graph"
        )
    return method


def get_ranking(name: str) -> EdgeRanking:
    """A method by its name that ranks edges.

    Raises:
        UserError: there is no such method.
    """
    rankings = {one.name: one for one in METHODS.values() if isinstance(one, EdgeRanking)}
    if name not in rankings:
        raise UserError(f"{name!r} ranks no edges of any graph; those that do are {', '.join(rankings)}")
    return rankings[name]


def new_masker(features: int, recipe: Recipe, seed: int) -> Masker:
    """ICPG's masker with its initial weights: the same for the same seed."""
    with seeded(derived_seed(seed, "masker")):
        return Masker(features, recipe.masker_hidden, recipe.masker_layers, recipe.masker_dropout)


@torch.no_grad()
def score_edges(masker: Masker, data: GraphSet) -> list[Tensor]:
    """(edges,) for each graph of a set, seen in training or not: what ranks its edges."""
    masker.eval()
    return [masker.logits(graph) for graph in data.graphs]


def _noisy_ones(like: Tensor) -> Tensor:
    return 1 + NOISE * (2 * torch.rand_like(like) - 1)


def _by_magnitude(now: Situation) -> Masks:
    trained = {name: now.trained[name].abs() for name in now.masks}
    return cut_weights(trained, now.masks, now.rates.weights)


def _lots(now: Situation) -> list[Tensor]:
    generator = torch.Generator().manual_seed(now.seed_of("edges"))
    return [torch.rand(one.edges, generator=generator) for one in now.data.graphs]
