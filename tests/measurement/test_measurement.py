from __future__ import annotations

import math
from typing import Any

import pytest

from hwloop.measurement import Interval, noise_floor, pool


def record(
    median_ms: float, *, status: str = "ok", reasons: tuple[str, ...] = (), replicate: int = 0
) -> dict[str, Any]:
    base: dict[str, Any] = {"trial_id": f"t{replicate}:0", "status": status, "reasons": list(reasons)}
    if status not in ("ok", "degraded"):
        return base
    return base | {
        "spec": {"threads": 1},
        "runtime": {"name": "onnxruntime", "version": "1.31.1"},
        "latency": {
            "median_ns": median_ms * 1e6,
            "low_ns": (median_ms - 0.1) * 1e6,
            "high_ns": (median_ms + 0.1) * 1e6,
        },
        "memory": {"method": "VmHWM", "peak_bytes": 1000 + replicate, "model_bytes": 10 + replicate},
        "conditions": {"throttle": "unknown", "canary_ratio": 1.0 + replicate / 100},
        "boot_id": "b",
        "started_at": "2026-01-01T00:00:00Z",
    }


def test_the_pooled_latency_is_the_median_of_processes_and_its_interval_their_envelope() -> None:
    pooled = pool("k", [record(2.0), record(5.0, replicate=1), record(3.0, replicate=2)])
    assert pooled.latency_ms == pytest.approx(3.0)
    assert pooled.interval_ms == Interval(pytest.approx(1.9), pytest.approx(5.1))
    assert pooled.peak_bytes == 1001
    assert pooled.provenance["canary_ratio"] == 1.02
    assert pooled.provenance["throttle"] == "unknown"


def test_degraded_processes_are_used_only_when_no_other_is_there() -> None:
    both = pool("k", [record(2.0), record(9.0, status="degraded", reasons=("canary drift",), replicate=1)])
    assert both.status == "ok"
    assert both.process_medians_ms == (2.0,)
    only = pool("k", [record(9.0, status="degraded", reasons=("canary drift",))])
    assert only.status == "degraded"
    assert only.usable
    assert only.reasons == ("canary drift",)


def test_energy_is_the_median_of_the_processes_that_could_read_it() -> None:
    watched = [record(2.0) | {"energy": {"joules_per_run": joules}} for joules in (0.004, None, 0.002, 0.003)]
    assert pool("k", watched).energy_mj == pytest.approx(3.0)
    assert pool("k", [record(2.0) | {"energy": {"joules_per_run": None, "reason": "no sensor"}}]).energy_mj is None


def test_crashes_are_a_result_without_a_number() -> None:
    crashed = pool("k", [record(0, status="crashed", reasons=("SIGSEGV",)), record(0, status="crashed")])
    assert crashed.status == "crashed"
    assert not crashed.usable
    assert math.isnan(crashed.latency_ms)
    assert crashed.reasons == ("SIGSEGV",)


def test_the_noise_floor_is_the_median_difference_of_two_processes() -> None:
    pairs = [
        pool("a", [record(1.0), record(1.1)]),
        pool("b", [record(2.0), record(2.0)]),
        pool("c", [record(1.0)]),
    ]
    assert noise_floor(pairs) == pytest.approx((0.1 / 1.05 + 0) / 2)
    assert math.isnan(noise_floor([pairs[2]]))
