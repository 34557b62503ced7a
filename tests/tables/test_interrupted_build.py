"""A build that is killed a hundred times loses nothing and measures nothing twice."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import replace
from pathlib import Path

import onnx
import pytest
from onnx import TensorProto, helper

from hwloop.devices.replay import workload_of
from hwloop.layers import Layer
from hwloop.measurement import TimingProtocol, Trial
from hwloop.runtimes import get_runtime
from hwloop.tables import Context, LatencyTable, Row
from hwloop_agent.journal import read_records
from tests.tables.killing import build, moment

LAYERS, PROCESSES, KILLS = 20, 45, 100
# Of the journal, between two kills: so few that the build is not done before the last one.
MOST_BYTES = 12_000
BUILD = ("network.onnx", "--device", "recorded", "--processes", str(PROCESSES), "-o")


def network() -> onnx.ModelProto:
    """A chain of matrix products of growing width: every one is a layer of its own."""
    nodes, constants = [], []
    for width in range(1, LAYERS + 1):
        name = f"w{width}"
        constants.append(helper.make_tensor(name, TensorProto.FLOAT, [width, width + 1], [0.5] * (width * (width + 1))))
        nodes.append(helper.make_node("MatMul", [f"x{width}", name], [f"x{width + 1}"]))
    graph = helper.make_graph(
        nodes,
        "chain",
        [helper.make_tensor_value_info("x1", TensorProto.FLOAT, [1, 1])],
        [helper.make_tensor_value_info(f"x{LAYERS + 1}", TensorProto.FLOAT, [1, LAYERS + 1])],
        constants,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 9
    return model


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A network, and a device that answers from a table of its layers, a few milliseconds each."""
    for name in ("CACHE", "CONFIG", "STATE"):
        monkeypatch.setenv(f"XDG_{name}_HOME", str(tmp_path / name))
    onnx.save(network(), tmp_path / "network.onnx")
    (tmp_path / "devices.toml").write_text(
        '[devices.quick]\nreplay = "source.parquet"\n[devices.recorded]\nreplay = "source.parquet"\ntrial_s = 0.004\n'
    )
    context = Context("pi", "Pi 4", "onnxruntime", "1.23.2", 1)
    runtime = get_runtime("onnxruntime")
    rows = []
    for width in range(1, LAYERS + 1):
        layer = Layer("linear", ((1, width),), (1, width + 1))
        latency_ms = 0.01 + 0.001 * width
        medians = (0.998 * latency_ms, 1.002 * latency_ms)
        workload = workload_of(Trial(runtime.layer(layer), 1, TimingProtocol()).spec)
        numbers = (latency_ms, 0.995 * latency_ms, 1.005 * latency_ms, medians)
        rows.append(Row(layer.key, *numbers, 5_000_000, 1000, "ok", (), context, workload_sha256=workload))
    LatencyTable(rows).save(tmp_path / "source.parquet")
    return tmp_path


def finished(folder: Path) -> list[str]:
    records, _ = read_records(folder / "t.trials.ndjson")
    return [record["trial_id"] for record in records if "event" not in record]


@pytest.mark.slow
def test_a_build_that_is_killed_a_hundred_times_loses_nothing(folder: Path) -> None:
    wanted_trials = LAYERS * PROCESSES
    kept: list[str] = []
    killed = killed_at_work = 0
    rng = random.Random(0)
    for _ in range(KILLS):
        when = moment(rng, folder / "t.trials.ndjson", longest_s=0.6, most_bytes=MOST_BYTES)
        killed += build(folder, (*BUILD, "t.parquet"), when) == -9
        now = finished(folder)
        assert now[: len(kept)] == kept, "a finished trial was lost"
        killed_at_work += len(kept) < len(now)
        kept = now
    print(f"{killed} of {KILLS} builds were killed, {killed_at_work} while measuring; {len(kept)} trials were kept")
    assert killed == KILLS
    assert killed_at_work >= KILLS // 4
    assert build(folder, (*BUILD, "t.parquet")) == 0
    trials = finished(folder)
    assert trials[: len(kept)] == kept
    assert max(Counter(trials).values()) == 1, "a trial was measured twice"
    table = LatencyTable.load(folder / "t.parquet")
    assert sum(row.processes for row in table.rows) == wanted_trials
    assert {row.status for row in table.rows} == {"ok"}
    # What comes out is what an undisturbed build gives.
    assert build(folder, (*BUILD, "undisturbed.parquet")) == 0
    undisturbed = LatencyTable.load(folder / "undisturbed.parquet")
    assert [replace(row, reasons=()) for row in table.rows] == [replace(row, reasons=()) for row in undisturbed.rows]
    assert not list(folder.glob(".*.tmp"))


def test_a_table_is_built_again_from_a_table(folder: Path) -> None:
    quick = ("network.onnx", "--device", "quick", "--processes", "2", "-o", "t.parquet")
    assert build(folder, quick) == 0
    table, source = LatencyTable.load(folder / "t.parquet"), LatencyTable.load(folder / "source.parquet")
    assert [row.key for row in table.rows] == [row.key for row in source.rows]
    for row, recorded in zip(table.rows, source.rows, strict=True):
        assert row.status == "ok"
        assert row.latency_ms == pytest.approx(recorded.latency_ms, rel=0.02)
        assert (row.peak_bytes, row.processes) == (recorded.peak_bytes, 2)
    assert table.context is not None
    assert table.context.cpu == "REPLAYED, not measured now: Pi 4"
