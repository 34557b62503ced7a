"""Iterative pruning of graphs and network together: cut, rewind, train the ticket, again (Chen et al., ICML 2021)."""

from __future__ import annotations

import copy
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field

import torch

from hwloop.errors import UserError
from hwloop.graphs.graph import GraphSet
from hwloop.graphs.masks import Masks, narrowed, sparsity, whole
from hwloop.graphs.methods import Method, Rates, Situation
from hwloop.graphs.networks import GraphNetwork, NetworkConfig, build_network
from hwloop.graphs.runfolder import Checkpoint, Round, RunFolder
from hwloop.graphs.training import Recipe, State, derived_seed, seeded, train_ticket
from hwloop.progress import Progress


@dataclass(frozen=True)
class Plan:
    """A pruning run.

    Attributes:
        network: its shape.
        recipe: how it is trained.
        rates: what a round cuts.
        rounds: how many.
        seed: of the initial weights and everything drawn later.
    """

    network: NetworkConfig
    recipe: Recipe
    rates: Rates = field(default_factory=Rates)
    rounds: int = 20
    seed: int = 0

    def __post_init__(self) -> None:
        if self.rounds < 1:
            raise UserError(f"rounds is {self.rounds}: it must be at least 1")

    def settings(self, data: GraphSet, method: Method) -> dict[str, object]:
        """What identifies a run; the number of rounds does not, so that a run can be extended."""
        return {
            "data": data.name,
            "data_sha256": data.fingerprint,
            "method": method.name,
            "network": self.network.content(),
            "recipe": self.recipe.content(),
            "rates": asdict(self.rates),
            "seed": self.seed,
        }


def initial_network(plan: Plan) -> GraphNetwork:
    """The network with the weights to which every round rewinds."""
    with seeded(derived_seed(plan.seed, "network")):
        return build_network(plan.network)


def prune(data: GraphSet, method: Method, plan: Plan, folder: RunFolder, progress: Progress) -> Sequence[Round]:
    """Run the rounds that are not in the folder yet.

    Each round sees only what the last one left and seeds of its own, so that a run that was interrupted ends as it
    would have ended.

    Args:
        data: the graphs, unpruned.
        method: see `hwloop.graphs.methods.get_method`.
        plan: the run.
        folder: opened with the plan's settings.
        progress: is told of rounds.

    Returns:
        All rounds of the folder up to `plan.rounds`, round 0 being the network unpruned.

    Raises:
        ModelError: a training diverged.
        StudyError: a checkpoint is damaged.
    """
    start = initial_network(plan)
    done = len(folder.rounds)
    left = folder.checkpoint(done - 1) if done else None
    about = f"{method.name} on {data.name}, seed {plan.seed}"
    with progress.step(about, plan.rounds + 1, min(done, plan.rounds + 1)) as step:
        for number in range(done, plan.rounds + 1):
            began = time.monotonic()
            masks, edges, masker = _decide(data, method, plan, start, left, number)
            seed = derived_seed(plan.seed, number, "ticket")
            ticket = train_ticket(copy.deepcopy(start), masks, data.keep(edges), plan.recipe, seed)
            left = Checkpoint(masks, edges, ticket.state, masker)
            finished = Round(
                round=number,
                edge_sparsity=sparsity(left.edges),
                weight_sparsity=sparsity(list(left.masks.values())),
                validation=ticket.validation.accuracy,
                validation_loss=ticket.validation.loss,
                test=ticket.test.accuracy,
                epoch=ticket.epoch,
                seconds=round(time.monotonic() - began, 3),
            )
            folder.add(finished, left)
            step.advance(1, f"round {number}: validation {finished.validation:.3f}")
    return folder.rounds[: plan.rounds + 1]


def _decide(
    data: GraphSet, method: Method, plan: Plan, start: GraphNetwork, left: Checkpoint | None, number: int
) -> tuple[Masks, list[torch.Tensor], State | None]:
    """Masks, edges that remain of the original ones, and the masker after the cut of a round; round 0 cuts nothing."""
    if left is None:
        return whole(start), [torch.ones(one.edges, dtype=torch.bool) for one in data.graphs], None
    now = Situation(
        data=data.keep(left.edges),
        network=copy.deepcopy(start),
        masks=left.masks,
        trained=left.ticket,
        recipe=plan.recipe,
        rates=plan.rates,
        seed=plan.seed,
        round=number,
    )
    cut = method.cut(now)
    return cut.masks, narrowed(left.edges, cut.edges), cut.masker
