"""One network in context: end to end, layer by layer, profiled, with its memory; and two of them compared."""

from hwloop.profiling.comparison import Comparison, compare
from hwloop.profiling.fusion import PairVerdict, judge_pair
from hwloop.profiling.measuring import Wanted, add_layers, measure_network
from hwloop.profiling.model import Model, OnnxModel, OwnFile, TorchModel, open_model
from hwloop.profiling.result import (
    Bytes,
    Collection,
    LayerResult,
    NetworkResult,
    Profile,
    ProfileRow,
    Timing,
    as_json,
    load_results,
    save_result,
)

__all__ = [
    "Bytes",
    "Collection",
    "Comparison",
    "LayerResult",
    "Model",
    "NetworkResult",
    "OnnxModel",
    "OwnFile",
    "PairVerdict",
    "Profile",
    "ProfileRow",
    "Timing",
    "TorchModel",
    "Wanted",
    "add_layers",
    "as_json",
    "compare",
    "judge_pair",
    "load_results",
    "measure_network",
    "open_model",
    "save_result",
]
