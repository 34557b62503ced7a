"""Pruning of graph neural networks: the graphs, and the networks on them (UGS, ICPG), with measured cost.

::

    sources ─► GraphSet ─► rounds.prune(method) ─► Round, Checkpoint ─► deployment ─► [agent on the device]
                                 ▲      │
                                 └──────┘  cut, rewind, train the ticket

Cora and CiteSeer need nothing but hwloop; superpixels and files of torch-geometric need the extra `graphs`.
"""

from hwloop.graphs.curves import CurvePoint, chosen_round, curve, front_rounds, holds_to
from hwloop.graphs.deployment import Deployed, deployed_graph, measure_deployed
from hwloop.graphs.graph import Graph, GraphSet, SparseRows, make_graph
from hwloop.graphs.methods import METHODS, Method, Rates, get_method, get_ranking
from hwloop.graphs.networks import KINDS, GraphNetwork, NetworkConfig, build_network
from hwloop.graphs.rounds import Plan, initial_network, prune
from hwloop.graphs.runfolder import Checkpoint, ClaimedFolder, Round, RunFolder
from hwloop.graphs.slimming import slim
from hwloop.graphs.sources import open_graphs, usual_network, usual_recipe
from hwloop.graphs.superpixels import SuperpixelConfig
from hwloop.graphs.training import Recipe, train_ticket

__all__ = [
    "KINDS",
    "METHODS",
    "Checkpoint",
    "ClaimedFolder",
    "CurvePoint",
    "Deployed",
    "Graph",
    "GraphNetwork",
    "GraphSet",
    "Method",
    "NetworkConfig",
    "Plan",
    "Rates",
    "Recipe",
    "Round",
    "RunFolder",
    "SparseRows",
    "SuperpixelConfig",
    "build_network",
    "chosen_round",
    "curve",
    "deployed_graph",
    "front_rounds",
    "get_method",
    "get_ranking",
    "holds_to",
    "initial_network",
    "make_graph",
    "measure_deployed",
    "open_graphs",
    "prune",
    "slim",
    "train_ticket",
    "usual_network",
    "usual_recipe",
]
