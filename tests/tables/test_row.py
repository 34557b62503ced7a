"""A row is made from pooled trial records and keeps what the number depends on."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hwloop.layers import Layer
from hwloop.measurement import pool
from hwloop.tables import Context, LatencyTable, Row
from hwloop.tables.csv_file import read_csv, write_csv


def record(trial_id: str, median_ns: float, **fields: Any) -> dict[str, Any]:
    given: dict[str, Any] = {
        "trial_id": trial_id,
        "spec": {"threads": 2},
        "status": "ok",
        "reasons": [],
        "runtime": {"name": "onnxruntime", "version": "1.31.1"},
        "latency": {
            "samples_ns": [median_ns - 1.5, median_ns + 1.5],
            "median_ns": median_ns,
            "low_ns": median_ns - 1000,
            "high_ns": median_ns + 1000,
        },
        "memory": {"method": "VmHWM", "peak_bytes": 50_000_000, "model_bytes": 1000},
        "conditions": {"governor": "schedutil", "clock_mhz": 2000.0, "temperature_c": 50.0, "throttle": "none"},
        "started_at": "2026-11-22T10:00:00+00:00",
    }
    return given | fields


def test_a_row_holds_the_pooled_number_and_its_provenance(conv: Callable[..., Layer]) -> None:
    layer = conv(8, 8)
    records = [record("a:0", 1e6), record("b:0", 1.2e6)]
    row = Row.of(layer, pool(layer.key, records), records, device="here", cpu="Zen", agent_sha256="ff" * 32)
    assert row.context == Context("here", "Zen", "onnxruntime", "1.31.1", 2)
    assert (row.latency_ms, row.low_ms, row.high_ms) == (1.1, 0.999, 1.201)
    assert (row.processes, row.process_medians_ms) == (2, (1.0, 1.2))
    assert (row.governor, row.clock_mhz, row.throttle, row.canary_ratio) == ("schedutil", 2000.0, "none", None)
    assert row.measured_at == "2026-11-22T10:00:00+00:00"
    text = '[["a:0",[999998.5,1000001.5]],["b:0",[1199998.5,1200001.5]]]'
    assert row.samples_sha256 == hashlib.sha256(text.encode()).hexdigest()


def test_the_energy_of_a_run_survives_both_file_forms(conv: Callable[..., Layer], tmp_path: Path) -> None:
    layer = conv(8, 8)
    records = [record("a:0", 1e6, energy={"joules_per_run": 0.0125})]
    row = Row.of(layer, pool(layer.key, records), records, device="jetson", cpu="Cortex", agent_sha256="")
    table = LatencyTable([row])
    table.save(tmp_path / "t.parquet")
    write_csv(table, tmp_path / "t.csv")
    for read in (LatencyTable.load(tmp_path / "t.parquet"), read_csv(tmp_path / "t.csv")):
        assert read.rows[0].energy_mj == 12.5


def test_a_row_of_a_crash_has_no_latency_and_can_be_stored(conv: Callable[..., Layer]) -> None:
    layer = conv(8, 8)
    records = [record("a:0", 1.0, status="crashed", reasons=["SIGSEGV"], latency=None, memory=None)]
    row = Row.of(layer, pool(layer.key, records), records, device="here", cpu="Zen", agent_sha256="")
    assert not row.usable
    assert (row.status, row.reasons, row.processes) == ("crashed", ("SIGSEGV",), 0)
    assert LatencyTable([row]).lookup(layer).kind == "unsupported"
