"""Latency, or any other positive quantity, of networks from whole networks that were measured and nothing else."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from numpy.typing import ArrayLike

from hwloop.errors import DataError, UserError
from hwloop.files import write_atomic
from hwloop.layers import Network
from hwloop.predictors.conformal import Coverage
from hwloop.predictors.graph.encoding import Blocks, Encoding
from hwloop.predictors.graph.features import Described, describe_networks
from hwloop.predictors.graph.regression import Estimate, FloatArray, Regression, checked_values

FORMAT = 1
"""Version of the JSON file."""

KIND = "whole networks"
"""What the JSON file says that it predicts from."""


class WholeNetworkPredictor:
    """Learns from the graphs of measured networks what a network costs; needs no latency table.

    What it sees of a network are counts of its layers with their neighbourhoods, the work of its layers by kind and
    size of map, and its size and depth (`hwloop.predictors.graph.features`). Whether the runtime executes dead
    branches is not known beforehand: the evidence decides between everything, what is live, and both. Whether the
    measurements are disturbed is not known either: the error without each network decides between Gaussian noise and
    Student's t.

    Args:
        encoding: of networks.
        raw: what it makes of the measured networks.
        regression: from that to the measured quantity.
    """

    def __init__(self, encoding: Encoding, raw: Blocks, regression: Regression) -> None:
        self.encoding = encoding
        self.regression = regression
        self._raw = raw

    @classmethod
    def fit(
        cls, networks: Sequence[Network], values: ArrayLike, *, coverage: float = 0.9, seed: int = 0
    ) -> WholeNetworkPredictor:
        """Learn from measured networks.

        Args:
            networks: n of them.
            values: (n,) what was measured, positive: latencies, peak bytes, joules.
            coverage: of the intervals.
            seed: of the choice of networks that the kernel's parameters are fitted on, where there are many.

        Raises:
            UserError: too few networks, values that are not positive and finite or not as many as networks, or
                networks that do not differ.
        """
        return cls.fit_described(describe_networks(networks), values, coverage=coverage, seed=seed)

    @classmethod
    def fit_described(
        cls, described: Described, values: ArrayLike, *, coverage: float = 0.9, seed: int = 0
    ) -> WholeNetworkPredictor:
        """As `fit`, from what `describe_networks` returned."""
        measured = checked_values(values, len(described))
        candidates = []
        for flows in described.choices():
            encoding = Encoding.learned(described, flows)
            if not encoding.blocks:
                raise UserError(f"the {len(described)} networks do not differ in anything: measure other ones")
            raw = encoding.raw(described)
            candidates.append(cls(encoding, raw, Regression.fit(encoding.scaled(raw), measured, coverage, seed)))
        best = max(candidates, key=lambda candidate: candidate.regression.process.log_evidence)
        return cls(best.encoding, best._raw, best.regression.robust_where_better(seed))

    @property
    def coverage(self) -> Coverage:
        """What the intervals promise."""
        return self.regression.coverage

    @property
    def flows(self) -> tuple[str, ...]:
        """What is taken to be executed: ``everything``, ``live``, or both."""
        return self.encoding.flows

    def predict(self, networks: Sequence[Network]) -> Estimate:
        """Predict n networks, with intervals."""
        return self.predict_described(describe_networks(networks, self.flows))

    def predict_described(self, described: Described) -> Estimate:
        """As `predict`, from what `describe_networks` returned."""
        return self.regression.estimate(self.encoding.blocks_of(described))

    def logarithms(self, described: Described) -> FloatArray:
        """(n,) natural logarithms of the predictions."""
        return self.regression.logarithm(self.encoding.blocks_of(described))

    def save(self, path: Path) -> None:
        """Write the predictor as JSON, whole or not at all.

        Raises:
            DataError: the file cannot be written.
        """
        try:
            write_atomic(path, json.dumps(self.to_dict(), sort_keys=True, allow_nan=False))
        except OSError as error:
            raise DataError(f"predictor {path} cannot be written: {error.strerror or error}") from error

    def to_dict(self) -> dict[str, Any]:
        """Everything that predictions depend on, as JSON-able data."""
        return {
            "format": FORMAT,
            "kind": KIND,
            "encoding": self.encoding.to_dict(),
            "networks": self.encoding.rows_to_lists(self._raw),
            "regression": self.regression.to_dict(),
        }

    @classmethod
    def load(cls, path: Path) -> WholeNetworkPredictor:
        """Read a predictor.

        Raises:
            DataError: no such file, not a predictor of whole networks, or of a newer format.
        """
        try:
            content = json.loads(path.read_text())
            version, kind = int(content["format"]), content["kind"]
        except FileNotFoundError:
            raise DataError(f"there is no predictor at {path}") from None
        except OSError as error:
            raise DataError(f"predictor {path} cannot be read: {error.strerror or error}") from error
        except (ValueError, KeyError, TypeError) as error:
            raise DataError(f"{path} is no predictor of {KIND}, or is damaged: {error}") from error
        if kind != KIND:
            raise DataError(f"{path} is no predictor of {KIND} but of {kind!r}")
        if version > FORMAT:
            raise DataError(f"predictor {path} has format {version}, this hwloop reads up to {FORMAT}; use a newer one")
        try:
            return cls.from_dict(content)
        except (KeyError, TypeError, ValueError, IndexError) as error:
            raise DataError(f"predictor {path} is damaged: {error}") from error

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> WholeNetworkPredictor:
        """The inverse of `to_dict`."""
        encoding = Encoding.from_dict(content["encoding"])
        raw = encoding.rows_from_lists(content["networks"])
        return cls(encoding, raw, Regression.from_dict(content["regression"], encoding.scaled(raw)))
