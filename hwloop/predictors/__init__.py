"""From measured layers, or from whole networks alone: latency with an interval, and peak memory, of many candidates."""

from hwloop.predictors.acquisition import Pool, choose_layers, choose_networks, near_front
from hwloop.predictors.conformal import Coverage
from hwloop.predictors.correction import Correction, NetworkTerms, fit_correction
from hwloop.predictors.explanation import Explanation, explain
from hwloop.predictors.graph import (
    Estimate,
    TransferredPredictor,
    WholeNetworkPredictor,
    choose_probes,
    describe_networks,
)
from hwloop.predictors.layer_model import LayerModel
from hwloop.predictors.layer_sum import LayerSum, LayerSums
from hwloop.predictors.memory import MemoryModel, fit_memory
from hwloop.predictors.network_predictor import NetworkPredictor, Prediction
from hwloop.predictors.report import PredictorReport, evaluate
from hwloop.predictors.roofline import Roofline, fit_roofline

__all__ = [
    "Correction",
    "Coverage",
    "Estimate",
    "Explanation",
    "LayerModel",
    "LayerSum",
    "LayerSums",
    "MemoryModel",
    "NetworkPredictor",
    "NetworkTerms",
    "Pool",
    "Prediction",
    "PredictorReport",
    "Roofline",
    "TransferredPredictor",
    "WholeNetworkPredictor",
    "choose_layers",
    "choose_networks",
    "choose_probes",
    "describe_networks",
    "evaluate",
    "explain",
    "fit_correction",
    "fit_memory",
    "fit_roofline",
    "near_front",
]
