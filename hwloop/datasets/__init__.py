"""Readers of labelled images: bundled digits, Parquet, folders, .npz."""

from hwloop.datasets.config import SOURCES, DataConfig
from hwloop.datasets.images import ImageData, ImageSet
from hwloop.datasets.labels import require_outputs
from hwloop.datasets.loading import load_images

__all__ = ["SOURCES", "DataConfig", "ImageData", "ImageSet", "load_images", "require_outputs"]
