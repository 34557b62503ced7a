"""pymoo's variation, on integers: the same for every algorithm that has none of its own."""

from __future__ import annotations

from typing import Any

from pymoo.operators.crossover.sbx import SBX
from pymoo.operators.mutation.pm import PM
from pymoo.operators.repair.rounding import RoundingRepair


def variation() -> dict[str, Any]:
    """Simulated binary crossover and polynomial mutation, both rounded to integers.

    Their indices are low (3), so that steps of whole levels are likely.
    """
    return {
        "crossover": SBX(prob=0.9, eta=3.0, vtype=float, repair=RoundingRepair()),
        "mutation": PM(eta=3.0, vtype=float, repair=RoundingRepair()),
    }
