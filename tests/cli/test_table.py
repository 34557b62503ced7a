from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from hwloop.cli.main import main
from hwloop.layers import Layer
from hwloop.tables import Context, LatencyTable, Row
from hwloop_agent.journal import read_records


def hwloop(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["hwloop", *arguments])
    with pytest.raises(SystemExit) as end:
        main()
    return int(end.value.code or 0)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in ("CACHE", "CONFIG", "STATE"):
        monkeypatch.setenv(f"XDG_{name}_HOME", str(tmp_path / name))
    return tmp_path


@pytest.mark.parametrize("runtime", ["onnxruntime", "litert"])
def test_a_networks_layers_become_a_table_and_are_measured_once(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], runtime: str
) -> None:
    build = (
        "table",
        "build",
        "lenet5",
        "--input",
        "1x28x28",
        "--runtime",
        runtime,
        "--processes",
        "1",
        "-o",
        "t.parquet",
    )
    assert hwloop(monkeypatch, *build) == 0
    table = LatencyTable.load(folder / "t.parquet")
    assert {row.key.split()[0] for row in table.rows} == {"conv", "max_pool", "linear"}
    assert all(row.usable for row in table.rows)
    trials = len(read_records(folder / "t.trials.ndjson")[0])
    assert hwloop(monkeypatch, *build) == 0
    assert len(read_records(folder / "t.trials.ndjson")[0]) == trials
    capfd.readouterr()
    assert hwloop(monkeypatch, "table", "show", "t.parquet") == 0
    shown = capfd.readouterr().out
    assert runtime in shown
    assert "max_pool" in shown


def test_nonsense_is_one_line_and_exit_code_2(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    for arguments, part in (
        (("build", "lenet5", "--input", "28", "-o", "t.parquet"), "3x32x32"),
        (("build", "lenet5", "--device", "pi", "--input", "1x28x28", "-o", "t.parquet"), "pi"),
        (("build", "none.onnx", "-o", "t.parquet"), "none.onnx"),
        (("show", "t.txt"), "t.txt"),
    ):
        assert hwloop(monkeypatch, "table", *arguments) == 2
        error = capfd.readouterr().err.strip()
        assert part in error
        assert len(error.splitlines()) == 1


def test_a_table_is_one_line_a_layer_and_its_reasons_are_grouped(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    context = Context("pi", "Pi 4", "onnxruntime", "1.23.2", 1)

    def row(width: int, status: str, *reasons: str) -> Row:
        key = Layer("conv", ((1, 8, 8, 8),), (1, width, 8, 8), kernel=(3, 3), padding=(1, 1, 1, 1)).key
        number = 1.0 if status in ("ok", "degraded") else float("nan")
        return Row(key, number, number, number, (), 0, 0, status, reasons, context, emulated=True)

    rows = [
        row(1, "ok"),
        row(2, "degraded", "only 3 of 60 blocks ran at full pace", "31.2 % of the timed part waiting"),
        row(3, "degraded", "only 7 of 60 blocks ran at full pace"),
        row(4, "quarantined", "the board rebooted [/] (boot ab12)"),
        row(5, "ok", "drifting span, re-run"),
    ]
    LatencyTable(rows).save(folder / "t.parquet")
    monkeypatch.setenv("COLUMNS", "120")
    assert hwloop(monkeypatch, "table", "show", "t.parquet") == 0
    lines = capfd.readouterr().out.splitlines()
    assert sum(line.startswith("conv ") for line in lines) == 5
    assert [line.split()[-1] for line in lines if line.startswith("conv ")] == [one.status for one in rows]
    assert any("EMULATED" in line for line in lines)
    assert (
        "2 of 5 rows are degraded: 2 × only N of N blocks ran at full pace; 1 × N % of the timed part waiting" in lines
    )
    assert "1 of 5 rows is quarantined: 1 × the board rebooted [/] (boot ab12)" in lines
    assert "2 of 5 rows are ok: 1 × drifting span, re-run" in lines
    assert hwloop(monkeypatch, "table", "show", "t.parquet", "--reasons") == 0
    assert "only 7 of 60 blocks" in capfd.readouterr().out
    assert hwloop(monkeypatch, "table", "show", "t.parquet", "--json") == 0
    told = json.loads(capfd.readouterr().out)
    assert [one["status"] for one in told] == [one.status for one in rows]
    assert [one["latency_ms"] for one in told] == [1.0, 1.0, 1.0, None, 1.0]
    assert all(one["emulated"] for one in told)
