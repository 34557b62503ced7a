"""Environmental selections: each puts a set of points in the order in which it would keep them."""

from hwloop.search.hamp.selection.crowding import crowding
from hwloop.search.hamp.selection.decomposition import decomposition
from hwloop.search.hamp.selection.hypervolume import hypervolume
from hwloop.search.hamp.selection.indicator import indicator
from hwloop.search.hamp.selection.order import Selector

SELECTORS: dict[str, Selector] = {
    "crowding": crowding,
    "hypervolume": hypervolume,
    "decomposition": decomposition,
    "indicator": indicator,
}
"""By name, in the order in which they draw."""

__all__ = ["SELECTORS", "Selector", "crowding", "decomposition", "hypervolume", "indicator"]
