"""Predictors that learn from whole measured networks and their graphs alone, and transfer to new devices."""

from hwloop.predictors.graph.features import Described, describe_networks
from hwloop.predictors.graph.regression import Estimate
from hwloop.predictors.graph.transfer import Evidence, TransferredPredictor, choose_probes
from hwloop.predictors.graph.whole_network import WholeNetworkPredictor

__all__ = [
    "Described",
    "Estimate",
    "Evidence",
    "TransferredPredictor",
    "WholeNetworkPredictor",
    "choose_probes",
    "describe_networks",
]
