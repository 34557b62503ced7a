"""The judge: how many mistakes a pruned network makes, at four fidelities."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping

import torch
from torch import nn

from hwloop.pruning.candidate import Candidate
from hwloop.pruning.digests import digest, weights_digest
from hwloop.pruning.estimate import ErrorEstimate
from hwloop.pruning.folding import foldable_pairs
from hwloop.pruning.held_out import HeldOut
from hwloop.pruning.preparation import Preparation
from hwloop.pruning.racing import has_lost, looks
from hwloop.pruning.surgery import SurgeryPlan
from hwloop.training import torch_threads

RECALIBRATED = "recalibrated"
SHARED_WEIGHTS = "shared-weights"
SHORT_FINE_TUNE = "short-fine-tune"
FULL_FINE_TUNE = "full-fine-tune"

FIDELITIES = (RECALIBRATED, SHARED_WEIGHTS, SHORT_FINE_TUNE, FULL_FINE_TUNE)
"""From the cheapest to the dearest: statistics of batch normalisations measured anew; the same, from weights that were
trained for all candidates together (`adapt`); some training; the training that a chosen network gets in the end."""


class ErrorEstimator:
    """Estimates the error of candidates at one fidelity: slice, prepare, fold, count mistakes on held-out images.

    The same candidate gives the same estimate on one machine and number of threads; it is kept, so asking again costs
    nothing. A base network whose weights have changed needs a new estimator.

    Attributes:
        fidelity: one of `FIDELITIES`.
    """

    def __init__(
        self,
        fidelity: str,
        plan: SurgeryPlan,
        preparation: Preparation,
        held_out: HeldOut,
        *,
        threads: int | None = None,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        """Prepare the estimator.

        Args:
            fidelity: what the estimates are called.
            plan: of the base network, or of the network with the shared weights.
            preparation: of each sliced network.
            held_out: images that every candidate is judged on.
            threads: of torch while judging; None leaves the number as it is.
            clock: in seconds, for `ErrorEstimate.seconds`.
        """
        self.fidelity = fidelity
        self._plan = plan
        self._preparation = preparation
        self._held_out = held_out
        self._pairs = foldable_pairs(plan.module, held_out.input_shape)
        self._threads = threads
        self._clock = clock
        self._known: dict[Candidate, ErrorEstimate] = {}

    @property
    def conditions(self) -> Mapping[str, str]:
        """Return what the estimates depend on, beside the images and the candidate."""
        return {
            "fidelity": self.fidelity,
            "weights": weights_digest(self._plan.module)[:16],
            "order": digest(json.dumps(self._plan.order, sort_keys=True).encode())[:16],
            **self._held_out.conditions,
            **self._preparation.conditions,
        }

    def estimate(self, candidate: Candidate, *, limit: float = 1.0) -> ErrorEstimate:
        """Return the estimate of a candidate; asked twice, it is evaluated once.

        Args:
            candidate: the network.
            limit: an error that it must reach (`limit_of`): as soon as it certainly does not, counting stops. It costs
                nothing more where the limit is 1.

        Raises:
            ModelError: The widths or blocks are not those of the network, or it fails on the images.
        """
        known = self._known.get(candidate)
        if known is None or not (known.complete or known.low > limit):
            known = self._known[candidate] = self.evaluate(candidate, limit=limit)
        return known

    def evaluate(self, candidate: Candidate, *, limit: float = 1.0) -> ErrorEstimate:
        """Estimate anew, whatever is known already; see `estimate`."""
        started = self._clock()
        total = len(self._held_out)
        planned = looks(total) if limit < 1 else (total,)
        errors = seen = 0
        with torch_threads(self._threads):
            network = self._prepared(candidate)
            self._held_out.ready(network, self._pairs)
            for end in planned:
                errors += self._held_out.errors(network, seen, end)
                seen = end
                if has_lost(errors, seen, limit, len(planned)):
                    break
        return ErrorEstimate(self.fidelity, errors, seen, self._clock() - started, seen == total)

    def prepared(self, candidate: Candidate) -> nn.Module:
        """Return a candidate as it is judged, before folding: sliced and prepared."""
        with torch_threads(self._threads):
            network = self._prepared(candidate)
        network.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]  # missing in the stubs
        return network

    def _prepared(self, candidate: Candidate) -> nn.Module:
        network = self._plan.apply(candidate)
        self._preparation.prepare(network)
        return network.eval()
