"""What layers cost on one device and runtime: looked up or interpolated, never guessed silently."""

from hwloop.tables.build import measure_layers
from hwloop.tables.costs import Entry, Kind, LayerCosts, Point
from hwloop.tables.geometry import WidthPair, geometry, width_pair
from hwloop.tables.grain import STEPS, Grain, learn_grain, pool_grains
from hwloop.tables.latency_table import LatencyTable
from hwloop.tables.row import Context, Row
from hwloop.tables.surface import KINDS, Surface, SurfaceValues

__all__ = [
    "KINDS",
    "STEPS",
    "Context",
    "Entry",
    "Grain",
    "Kind",
    "LatencyTable",
    "LayerCosts",
    "Point",
    "Row",
    "Surface",
    "SurfaceValues",
    "WidthPair",
    "geometry",
    "learn_grain",
    "measure_layers",
    "pool_grains",
    "width_pair",
]
