"""What a trial runs, apart from how it is timed and which process it is: by this, recordings are looked up."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hwloop_agent import protocol

FIRST_ANCHOR = 1 << 30
"""Replicates from here on are anchors: a subject of the campaign that is measured again and again."""


def workload_of(spec: Mapping[str, Any]) -> str:
    """Return a digest of artifact, runtime, options, inputs and threads of a trial's spec."""
    return protocol.spec_digest({name: spec[name] for name in spec if name not in ("replicate", "timing")})
