"""Costs that are measured on the device, one whole network at a time, in place of predicted ones."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike

from hwloop.errors import UserError
from hwloop.layers import ScalableNetwork
from hwloop.measurement import Bench, Measurement, Subject
from hwloop.predictors import Prediction
from hwloop.pruning import Candidate, PruningSpace
from hwloop.runtimes import Artifact


class MeasuredCosts:
    """A `CostModel` that asks the device.

    A network that was measured is in the trial journal and is not measured again, so a search that is resumed sees the
    same numbers. Every network that is asked for is a device trial.

    Attributes:
        scalable: the network's sizes.
        trials: networks that were asked of the device, or of its journal.

    Args:
        space: the candidates.
        scalable: see above.
        bench: measures.
        artifact: a candidate as the runtime loads it.
    """

    def __init__(
        self,
        space: PruningSpace,
        scalable: ScalableNetwork,
        bench: Bench,
        artifact: Callable[[Candidate], Artifact],
    ) -> None:
        self.scalable = scalable
        self.trials = 0
        self._space = space
        self._bench = bench
        self._artifact = artifact
        self._known: dict[Candidate, Measurement] = {}

    def predict(self, widths: ArrayLike, blocks: ArrayLike | None = None) -> Prediction:
        """What (n, G) widths and (n, B) flags of the blocks that remain (all, without flags) take on the device.

        Raises:
            UserError: a network could not be measured.
        """
        rows = np.asarray(widths)
        flags = np.ones((len(rows), len(self._space.blocks)), dtype=np.bool_) if blocks is None else np.asarray(blocks)
        candidates = [
            self._space.candidate([int(width) for width in row], [bool(flag) for flag in remains])
            for row, remains in zip(rows, flags, strict=True)
        ]
        self._measure(dict.fromkeys(c for c in candidates if c not in self._known))
        found = [self._known[candidate] for candidate in candidates]
        latency = np.array([m.latency_ms for m in found])
        return Prediction(
            latency_ms=latency,
            low_ms=np.array([m.interval_ms.low for m in found]),
            high_ms=np.array([m.interval_ms.high for m in found]),
            peak_bytes=np.array([float(m.peak_bytes) for m in found]),
            sum_of_layers_ms=latency,
            interpolated_share=np.zeros(len(found)),
            roofline=(),
            missing=(),
            energy_mj=np.array([m.energy_mj for m in found], dtype=np.float64),
        )

    def _measure(self, fresh: dict[Candidate, None]) -> None:
        if not fresh:
            return
        texts = {candidate: self._space.text(candidate) for candidate in fresh}
        subjects = [Subject(text, self._artifact(candidate)) for candidate, text in texts.items()]
        measured = self._bench.measure(subjects, "proposals on the device")
        self.trials += len(subjects)
        for candidate, text in texts.items():
            if not measured[text].usable:
                why = ", ".join(measured[text].reasons) or "no reason given"
                raise UserError(
                    f"{text} could not be measured ({measured[text].status}: {why}); run the study again, or let it"
                    ' search with predictions (resource_from = "predictor")'
                )
            self._known[candidate] = measured[text]
