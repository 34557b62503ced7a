"""Training and accuracy of networks."""

from hwloop.training.accuracy import accuracy, error_count, evaluating, predictions
from hwloop.training.augmentation import mixed_images, random_crop, random_flip
from hwloop.training.checkpoint import Checkpoints
from hwloop.training.config import FitConfig
from hwloop.training.fit import FitReport, fit
from hwloop.training.hardware import fast_dtype, torch_threads
from hwloop.training.teacher import attention_points, features

__all__ = [
    "Checkpoints",
    "FitConfig",
    "FitReport",
    "accuracy",
    "attention_points",
    "error_count",
    "evaluating",
    "fast_dtype",
    "features",
    "fit",
    "mixed_images",
    "predictions",
    "random_crop",
    "random_flip",
    "torch_threads",
]
