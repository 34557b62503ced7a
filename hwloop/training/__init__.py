"""Training and accuracy of networks."""

from hwloop.training.accuracy import accuracy, error_count, evaluating, predictions
from hwloop.training.augmentation import random_crop, random_flip
from hwloop.training.fit import FitConfig, FitReport, fit
from hwloop.training.hardware import fast_dtype, torch_threads

__all__ = [
    "FitConfig",
    "FitReport",
    "accuracy",
    "error_count",
    "evaluating",
    "fast_dtype",
    "fit",
    "predictions",
    "random_crop",
    "random_flip",
    "torch_threads",
]
