from __future__ import annotations

import sys
from pathlib import Path

import pytest

from hwloop.cli.main import main
from hwloop.tables import LatencyTable
from hwloop_agent.journal import read_records


def hwloop(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["hwloop", *arguments])
    with pytest.raises(SystemExit) as end:
        main()
    return int(end.value.code or 0)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
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
