"""From measured layers to whole networks: latency with an interval, and peak memory, for many candidates."""

from hwloop.predictors.conformal import Coverage
from hwloop.predictors.correction import Correction, fit_correction
from hwloop.predictors.layer_model import LayerModel
from hwloop.predictors.layer_sum import LayerSum, LayerSums
from hwloop.predictors.memory import MemoryModel, fit_memory
from hwloop.predictors.network_predictor import NetworkPredictor, Prediction
from hwloop.predictors.report import PredictorReport, evaluate

__all__ = [
    "Correction",
    "Coverage",
    "LayerModel",
    "LayerSum",
    "LayerSums",
    "MemoryModel",
    "NetworkPredictor",
    "Prediction",
    "PredictorReport",
    "evaluate",
    "fit_correction",
    "fit_memory",
]
