"""NetAdapt (Yang et al. 2018): one group of channels less at a time, whichever costs the least accuracy.

`NetAdapt` is the loop as an algorithm of the registry: it asks one proposal per group and iteration, and works with any
evaluator. `ShortTermTuner` is the evaluator of the paper: each proposal inherits the weights of the network that it was
cut from and is fine-tuned for a few steps. The two share a `Lineage`, which says what was cut from what.
"""

from hwloop.search.netadapt.algorithm import NetAdapt, recipe
from hwloop.search.netadapt.lineage import Lineage
from hwloop.search.netadapt.settings import NetAdaptSettings, TuningSettings
from hwloop.search.netadapt.tuning import ShortTermTuner

__all__ = ["Lineage", "NetAdapt", "NetAdaptSettings", "ShortTermTuner", "TuningSettings", "recipe"]
