"""From measured layers, or from whole networks alone: latency with an interval, and peak memory, of many candidates."""

from hwloop.predictors.conformal import Coverage
from hwloop.predictors.correction import Correction, fit_correction
from hwloop.predictors.graph import (
    Estimate,
    TransferredPredictor,
    WholeNetworkPredictor,
    choose_probes,
    describe_networks,
)
from hwloop.predictors.layer_sum import LayerSum, LayerSums
from hwloop.predictors.memory import MemoryModel, fit_memory
from hwloop.predictors.network_predictor import NetworkPredictor, Prediction
from hwloop.predictors.report import PredictorReport, evaluate

__all__ = [
    "Correction",
    "Coverage",
    "Estimate",
    "LayerSum",
    "LayerSums",
    "MemoryModel",
    "NetworkPredictor",
    "Prediction",
    "PredictorReport",
    "TransferredPredictor",
    "WholeNetworkPredictor",
    "choose_probes",
    "describe_networks",
    "evaluate",
    "fit_correction",
    "fit_memory",
]
