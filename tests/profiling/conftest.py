from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from hwloop.profiling import NetworkResult, Timing


@pytest.fixture
def result() -> Callable[..., NetworkResult]:
    """Makes results with two processes; keyword arguments replace fields."""

    def make(
        latency_ms: float = 10.0, spread: float = 0.01, noise_floor: float | None = 0.02, **fields: Any
    ) -> NetworkResult:
        timing = Timing(
            status="ok",
            latency_ms=latency_ms,
            low_ms=latency_ms * (1 - spread),
            high_ms=latency_ms * (1 + spread),
            process_medians_ms=(latency_ms * (1 - spread / 2), latency_ms * (1 + spread / 2)),
        )
        return NetworkResult(
            **{
                "model": "net",
                "device": "local",
                "cpu": "a processor",
                "runtime": "onnxruntime",
                "runtime_version": "1.31.1",
                "threads": 1,
                "agent_sha256": "a" * 64,
                "measured_at": "2026-11-23T08:00:00Z",
                "artifact_sha256": "b" * 64,
                "artifact_bytes": 1000,
                "parameters": 10,
                "macs": 20,
                "end_to_end": timing,
                "noise_floor": noise_floor,
                **fields,
            }
        )

    return make
