"""What layers cost on one device and runtime: looked up or interpolated, never guessed silently."""

from hwloop.tables.build import measure_layers
from hwloop.tables.catalogue import Listed, list_tables, shipped_folder
from hwloop.tables.clocks import Clocks
from hwloop.tables.comparison import LayerComparison, TableComparison, compare_tables
from hwloop.tables.costs import Entry, Kind, LayerCosts, Point
from hwloop.tables.geometry import WidthPair, geometry, width_pair
from hwloop.tables.grain import STEPS, Grain, learn_grain, pool_grains
from hwloop.tables.latency_table import LatencyTable
from hwloop.tables.row import Context, Row
from hwloop.tables.surface import KINDS, Surface, SurfaceValues

__all__ = [
    "KINDS",
    "STEPS",
    "Clocks",
    "Context",
    "Entry",
    "Grain",
    "Kind",
    "LatencyTable",
    "LayerComparison",
    "LayerCosts",
    "Listed",
    "Point",
    "Row",
    "Surface",
    "SurfaceValues",
    "TableComparison",
    "WidthPair",
    "compare_tables",
    "geometry",
    "learn_grain",
    "list_tables",
    "measure_layers",
    "pool_grains",
    "shipped_folder",
    "width_pair",
]
