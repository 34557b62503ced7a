"""What a search can minimise."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hwloop.errors import UserError
from hwloop.predictors import Prediction

FloatArray = NDArray[np.float64]

BYTES_PER_MB = 1e6


class ScalableCosts(Protocol):
    """The sizes of n candidates; `hwloop.layers.ScalableNetwork` has them."""

    def parameters(self, widths: ArrayLike, blocks: ArrayLike | None = None) -> NDArray[np.int64]:
        """(n,) parameters of (n, G) widths and (n, B) flags of the blocks that remain."""
        ...

    def macs(self, widths: ArrayLike, blocks: ArrayLike | None = None) -> NDArray[np.int64]:
        """(n,) multiply-accumulates of (n, G) widths and (n, B) flags of the blocks that remain."""
        ...


class CostModel(Protocol):
    """What a search asks of a device's predictor; `hwloop.predictors.NetworkPredictor` is one."""

    @property
    def scalable(self) -> ScalableCosts:
        """The network's sizes."""
        ...

    def predict(self, widths: ArrayLike) -> Prediction:
        """What (n, G) widths cost on the device."""
        ...


class BlockCostModel(CostModel, Protocol):
    """A cost model for a space with removable blocks."""

    def predict(self, widths: ArrayLike, blocks: ArrayLike | None = None) -> Prediction:
        """What (n, G) widths and (n, B) flags of the blocks that remain cost on the device."""
        ...


@dataclass(frozen=True)
class Costs:
    """What the device and the network say about n candidates: cheap, and the same whenever asked.

    Attributes:
        latency_ms: (n,) predicted.
        peak_bytes: (n,) predicted; nan where memory was not measured.
        parameters: (n,).
        macs: (n,).
        latency_low_ms: (n,) lower end of the latency's interval.
        latency_high_ms: (n,) upper end.
        peak_high_bytes: (n,) upper end of the peak's.
        energy_mj: (n,) predicted, of one run; nan where energy was not measured.
        energy_high_mj: (n,) upper end of the energy's.
    """

    latency_ms: FloatArray
    peak_bytes: FloatArray
    parameters: FloatArray
    macs: FloatArray
    latency_low_ms: FloatArray
    latency_high_ms: FloatArray
    peak_high_bytes: FloatArray
    energy_mj: FloatArray
    energy_high_mj: FloatArray

    @classmethod
    def of(cls, model: CostModel, widths: NDArray[np.int64], blocks: NDArray[np.bool_] | None = None) -> Costs:
        """The costs of (n, G) widths and (n, B) blocks; with blocks the model must be a `BlockCostModel`."""
        prediction = model.predict(widths) if blocks is None else cast(BlockCostModel, model).predict(widths, blocks)
        energy, energy_high = prediction.energy_mj, prediction.energy_high_mj
        unknown = np.full(len(prediction.latency_ms), np.nan)
        return cls(
            latency_ms=prediction.latency_ms,
            peak_bytes=prediction.peak_bytes,
            parameters=model.scalable.parameters(widths, blocks).astype(np.float64),
            macs=model.scalable.macs(widths, blocks).astype(np.float64),
            latency_low_ms=prediction.low_ms,
            latency_high_ms=prediction.high_ms,
            peak_high_bytes=prediction.peak_high_bytes,
            energy_mj=unknown if energy is None else energy,
            energy_high_mj=unknown if energy_high is None else energy_high,
        )


@dataclass(frozen=True)
class Objective:
    """Something that is minimised.

    Attributes:
        name: as in `study.toml`.
        unit: for people.
        cost: (n,) values from the costs of n candidates; None for the error, which takes data and an
            evaluation.
    """

    name: str
    unit: str
    cost: Callable[[Costs], FloatArray] | None

    @property
    def expensive(self) -> bool:
        """Whether each candidate has to be evaluated on data."""
        return self.cost is None


_OBJECTIVES = (
    Objective("error", "share of wrong answers", None),
    Objective("latency_ms", "ms", lambda costs: costs.latency_ms),
    Objective("peak_memory_mb", "MB (10^6 bytes)", lambda costs: costs.peak_bytes / BYTES_PER_MB),
    Objective("energy_mj", "mJ", lambda costs: costs.energy_mj),
    Objective("parameters", "", lambda costs: costs.parameters),
    Objective("macs", "", lambda costs: costs.macs),
)

_BY_NAME = {objective.name: objective for objective in _OBJECTIVES}


def list_objectives() -> tuple[str, ...]:
    """Names of all objectives."""
    return tuple(_BY_NAME)


def get_objectives(names: Sequence[str]) -> tuple[Objective, ...]:
    """The objectives of a search, in the order given.

    Raises:
        UserError: a name is unknown or occurs twice, or there is none.
    """
    if not names:
        raise UserError(f"a search needs at least one objective; known are {', '.join(_BY_NAME)}")
    for position, name in enumerate(names):
        if name not in _BY_NAME:
            raise UserError(f"there is no objective {name!r}; known are {', '.join(_BY_NAME)}")
        if name in names[:position]:
            raise UserError(f"objective {name!r} is given twice")
    return tuple(_BY_NAME[name] for name in names)
