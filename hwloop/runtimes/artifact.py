"""What a runtime loads, and how to feed it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Any


@dataclass(frozen=True)
class InputSpec:
    """One input of an artifact.

    Attributes:
        name: as the runtime knows it.
        shape: all sizes known.
        dtype: numpy name.
        distribution: "normal" (mean 0, variance 1): what keeps activations in the range of real networks.
        seed: of the values.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str = "float32"
    distribution: str = "normal"
    seed: int = 0

    def to_spec(self) -> dict[str, Any]:
        """The JSON form inside a trial's spec."""
        return asdict(self) | {"shape": list(self.shape)}


Options = Mapping[str, Any]
"""What the agent's runtime needs to know to load the artifact; JSON-able, such as {"free_dimensions": {"batch": 1}}."""


@dataclass(frozen=True)
class Artifact:
    """What a runtime loads, and how to feed it.

    Attributes:
        data: the file's bytes.
        suffix: of the file (".onnx").
        runtime: name of the runtime that loads it.
        inputs: what to feed.
        options: for the runtime; JSON-able.
        label: for people: the layer's key or the network's name; no part of the identity.
        layout: of the artifact's inputs and outputs of four dimensions, beside torch's: "NCHW" or "NHWC".
        variant: of the runtime that it was made for (`Runtime.variant`); it shows in the data or the options too.
        extras: optional keys of a trial's spec: {"profile": True}, {"keep_outputs": True}.
    """

    data: bytes
    suffix: str
    runtime: str
    inputs: tuple[InputSpec, ...]
    options: Options = field(default_factory=dict)
    label: str = ""
    layout: str = "NCHW"
    variant: str = ""
    extras: Options = field(default_factory=dict)

    @cached_property
    def sha256(self) -> str:
        """Hex digest of `data`."""
        return hashlib.sha256(self.data).hexdigest()

    def to_spec(self) -> dict[str, Any]:
        """The JSON form of the file inside a trial's spec: {"sha256", "suffix", "size"}."""
        return {"sha256": self.sha256, "suffix": self.suffix, "size": len(self.data)}

    def trial_spec(self) -> dict[str, Any]:
        """Everything that the artifact contributes to a trial's spec: artifact, runtime, options, inputs, extras."""
        return {
            "artifact": self.to_spec(),
            "runtime": self.runtime,
            "options": _plain(self.options),
            "inputs": [one.to_spec() for one in self.inputs],
            **_plain(self.extras),
        }


def _plain(value: Any) -> Any:
    """Mappings as dicts, so that `json` writes them."""
    return {str(key): _plain(item) for key, item in value.items()} if isinstance(value, Mapping) else value
