"""Limits that the networks of a front must keep, such as ``latency_ms <= 5``; kept by the upper ends of intervals."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hwloop.errors import UserError
from hwloop.search.objectives import BYTES_PER_MB, Costs

FloatArray = NDArray[np.float64]

_UPPER: Mapping[str, Callable[[Costs], FloatArray]] = {
    "latency_ms": lambda costs: costs.latency_high_ms,
    "peak_memory_mb": lambda costs: costs.peak_high_bytes / BYTES_PER_MB,
    "energy_mj": lambda costs: costs.energy_high_mj,
    "parameters": lambda costs: costs.parameters,
    "macs": lambda costs: costs.macs,
}

_FORM = re.compile(r"\s*(\w+)\s*<=\s*(\S+)\s*")


@dataclass(frozen=True)
class Constraint:
    """An upper limit.

    Attributes:
        name: of what is limited.
        limit: that may be reached, not passed.
    """

    name: str
    limit: float

    def __str__(self) -> str:
        return f"{self.name} <= {self.limit:g}"

    def violation(self, costs: Costs) -> FloatArray:
        """(n,) by how much, relative to the limit, the upper ends of n candidates are beyond it; 0 or less is kept.

        Raises:
            UserError: the predictor cannot tell, because it was never measured.
        """
        upper = _UPPER[self.name](costs)
        if not np.isfinite(upper).all():
            raise UserError(f"the constraint {self} cannot be kept: the predictor never saw {self.name} measured")
        return np.asarray(upper / self.limit - 1, dtype=np.float64)


def parse_constraints(texts: Sequence[str]) -> tuple[Constraint, ...]:
    """The constraints of a study file.

    Raises:
        UserError: a text is not of the form ``NAME <= NUMBER``, or a name is unknown or occurs twice.
    """
    found: dict[str, Constraint] = {}
    for text in texts:
        form = _FORM.fullmatch(text)
        try:
            limit = float(form[2]) if form else math.nan
        except ValueError:
            limit = math.nan
        if form is None or not (math.isfinite(limit) and limit > 0):
            raise UserError(f"the constraint {text!r} is not of the form 'latency_ms <= 5'")
        if form[1] not in _UPPER:
            raise UserError(f"the constraint {text!r} limits an unknown quantity; known are {', '.join(_UPPER)}")
        if form[1] in found:
            raise UserError(f"{form[1]} is limited twice")
        found[form[1]] = Constraint(form[1], limit)
    return tuple(found.values())
