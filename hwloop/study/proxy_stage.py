"""Whether a study's judge can be trusted: its fidelities against the full fine-tune, on candidates of equal cost.

Small networks err more than large ones at every fidelity, so over all sizes any estimate ranks well. What a search
needs is the order among candidates that cost the same: they are drawn from a band of MACs, or of predicted latency.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hwloop.errors import UserError
from hwloop.predictors import NetworkPredictor
from hwloop.progress import Progress
from hwloop.pruning import FIDELITIES, FULL_FINE_TUNE, SHARED_WEIGHTS, Candidate, PruningSpace
from hwloop.pruning.proxy import Contender, Judged, compare
from hwloop.runtimes import get_runtime
from hwloop.study.base import Base, prepare_base
from hwloop.study.config import StudyConfig, load_config
from hwloop.study.directory import StudyDirectory
from hwloop.study.judge_stage import estimator_on, shared_weights
from hwloop.study.sampling import sample_candidates
from hwloop.study.space import Moves, find_moves
from hwloop_agent.journal import Journal

FloatArray = NDArray[np.float64]

COSTS = ("macs", "latency")

_DRAWS = 2000  # candidates per attempt to fill the band
_ATTEMPTS = 20


@dataclass(frozen=True)
class Band:
    """Candidates that cost about the same.

    Attributes:
        low: lower end, as a share of the base network's cost.
        high: upper end.
        by: the cost, one of `COSTS`.
    """

    low: float = 0.35
    high: float = 0.5
    by: str = "macs"

    def __post_init__(self) -> None:
        if not 0 < self.low < self.high <= 1:
            raise UserError(
                f"the band is {self.low:g} to {self.high:g}: give shares of the base's cost, 0 < low < high <= 1"
            )
        if self.by not in COSTS:
            raise UserError(f"the band is of {self.by!r}: it can be of {' or '.join(COSTS)}")


@dataclass(frozen=True)
class ProxyReport:
    """The judge, judged.

    Attributes:
        band: where the candidates are from.
        candidates: as text.
        shares: of the base's cost, one per candidate.
        judged: one per fidelity, as asked; the full fine-tune last.
    """

    band: Band
    candidates: tuple[str, ...]
    shares: tuple[float, ...]
    judged: tuple[Judged, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return the report as JSON-able data; what is unknown is None."""
        return {
            "band": {"by": self.band.by, "low": self.band.low, "high": self.band.high},
            "candidates": [
                {"candidate": text, "share": share} for text, share in zip(self.candidates, self.shares, strict=True)
            ],
            "fidelities": [_judged(one) for one in self.judged],
        }


def validate_proxy(path: Path, count: int, band: Band, fidelities: Sequence[str], progress: Progress) -> ProxyReport:
    """Estimate candidates of a study at several fidelities and compare their ranking with the full fine-tune's.

    Works in the study's own directory: what it trains (base network, shared weights) the study uses, and the other way
    round. Every estimate is journalled in ``proxy.ndjson``: a comparison that was interrupted, or is asked for with
    more candidates or fidelities, estimates only what is new.

    Args:
        path: the study file.
        count: how many candidates.
        band: where they are from.
        fidelities: to be compared, of `FIDELITIES`; the full fine-tune need not be named.
        progress: is told of every estimate.

    Raises:
        UserError: a fidelity that there is not, a band that holds too few candidates, or a grain or latency that is
            not known yet.
        ConfigError: the study file has a mistake.
        StudyError: the study directory belongs to another study or is in use.
        DataError: the data cannot be read or do not fit the network.
        ModelError: the network cannot be built, traced, pruned or trained.
    """
    unknown = [name for name in fidelities if name not in FIDELITIES]
    if unknown:
        raise UserError(f"there is no fidelity {unknown[0]!r}; known are {', '.join(FIDELITIES)}")
    config = load_config(path)
    root = path.parent / (config.study.directory or path.stem)
    with StudyDirectory(root, config, path.read_text(encoding="utf-8")) as study:
        base = prepare_base(config, study, path.parent, progress)
        moves = _moves(config, base, study, progress)
        cost = _cost(band.by, moves, study)
        drawn = draw_in_band(moves.space, cost, band, count, config.study.seed)
        names = [*(name for name in dict.fromkeys(fidelities) if name != FULL_FINE_TUNE), FULL_FINE_TUNE]
        contenders = [partial(_contender, name, config, base, moves, study, progress) for name in names]
        with Journal.open(study.path("proxy.ndjson")) as journal:
            judged = compare(contenders, drawn, moves.space, journal, progress, context={"data": base.data.fingerprint})
    shares = cost([moves.space.base, *drawn])
    texts = tuple(moves.space.text(candidate) for candidate in drawn)
    return ProxyReport(band, texts, tuple((shares[1:] / shares[0]).tolist()), judged)


def draw_in_band(
    space: PruningSpace, cost: Callable[[Sequence[Candidate]], FloatArray], band: Band, count: int, seed: int
) -> list[Candidate]:
    """Draw distinct candidates whose cost is in a band.

    Asked for more of them, the first ones stay the same.

    Args:
        space: of the candidates.
        cost: (n,) costs of n candidates.
        band: shares of the base's cost.
        count: how many.
        seed: of the draws.

    Raises:
        UserError: So many are not found.
    """
    whole = cost([space.base])[0]
    found: dict[Candidate, None] = {}
    for attempt in range(_ATTEMPTS):
        drawn = sample_candidates(space, _DRAWS, seed + attempt)
        shares = cost(drawn) / whole
        inside = (band.low <= shares) & (shares <= band.high)
        found.update(dict.fromkeys(candidate for candidate, kept in zip(drawn, inside, strict=True) if kept))
        if len(found) >= count:
            return list(found)[:count]
    raise UserError(
        f"only {len(found)} of {_ATTEMPTS * _DRAWS} candidates that were drawn cost {band.low:g} to {band.high:g} of "
        f"the base's {band.by}, {count} were asked for: widen the band, ask for fewer, or set a smaller pruning.grain"
    )


def _moves(config: StudyConfig, base: Base, study: StudyDirectory, progress: Progress) -> Moves:
    runtime = get_runtime(config.measurement.runtime)
    if study.has("device.json"):
        runtime = runtime.for_device(study.read_json("device.json")["facts"])
    moves = find_moves(config, base, runtime.fusion, study, progress)
    if config.pruning.grain != "auto":
        return moves.with_grain(config.pruning.grain)
    if not study.has("grain.json"):
        raise UserError(
            "the step of the widths is not known yet: `hwloop run` learns it from the device, or set pruning.grain to "
            "a number"
        )
    return moves.with_grain(int(study.read_json("grain.json")["grain"]))


def _cost(by: str, moves: Moves, study: StudyDirectory) -> Callable[[Sequence[Candidate]], FloatArray]:
    def sizes(candidates: Sequence[Candidate]) -> list[NDArray[Any]]:
        widths, remains = moves.space.arrays(candidates)
        return [widths, remains] if moves.space.blocks else [widths]

    if by == "macs":
        return lambda candidates: moves.scalable.macs(*sizes(candidates)).astype(np.float64)
    if not study.has("predictor.json"):
        raise UserError("latencies are not known yet: `hwloop run` measures them, or give a band of MACs (--by macs)")
    predictor = NetworkPredictor.load(study.path("predictor.json"), moves.scalable)
    return lambda candidates: predictor.predict(*sizes(candidates)).latency_ms


def _contender(
    fidelity: str, config: StudyConfig, base: Base, moves: Moves, study: StudyDirectory, progress: Progress
) -> Contender:
    if fidelity != SHARED_WEIGHTS:
        return Contender(estimator_on(moves.surgery, fidelity, config, base))
    adapted = shared_weights(config, base, moves, study, progress)
    return Contender(estimator_on(adapted.plan, fidelity, config, base), adapted.seconds)


def _judged(one: Judged) -> dict[str, Any]:
    found = one.agreement
    return {
        "fidelity": one.fidelity,
        "tau": None if found is None else _finite(found.tau),
        "tau_low": None if found is None else _finite(found.low),
        "tau_high": None if found is None else _finite(found.high),
        "median_error": one.median_error,
        "seconds_each": one.seconds,
        "seconds_once": one.once_s,
        "images": one.estimates[0].n,
        "errors": [estimate.error for estimate in one.estimates],
    }


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
