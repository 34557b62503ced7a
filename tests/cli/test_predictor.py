"""A space is sampled to a target error, and its predictor fitted, judged and explained, on this machine."""

from __future__ import annotations

import csv
import json
import sys
from pathlib import Path

import pytest

from hwloop.cli.main import main


def hwloop(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["hwloop", *arguments])
    try:
        main()
    except SystemExit as stop:
        return int(stop.code or 0)
    return 0


@pytest.mark.slow
def test_a_space_is_sampled_fitted_judged_and_explained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    table = tmp_path / "lenet.parquet"
    build = [
        "table", "build", "lenet5", "-o", str(table), "--input", "1x28x28", "--target-error", "90%", "--max-layers",
        "24", "--max-networks", "6", "--held-out", "4", "--minutes", "3", "--grain", "2",
    ]  # fmt: skip
    assert hwloop(monkeypatch, *build) == 0
    with table.with_suffix(".curve.csv").open() as file:
        curve = list(csv.DictReader(file))
    assert int(curve[-1]["measurements"]) <= 30
    networks = json.loads(table.with_suffix(".networks.json").read_text())
    assert 4 <= len(networks["networks"]) <= 6
    assert networks["about"]["model"] == "lenet5"
    journal = table.with_suffix(".trials.ndjson").read_bytes()
    predictor = table.with_suffix(".predictor.json")
    first = predictor.read_bytes()

    assert hwloop(monkeypatch, *build) == 0  # goes on where it was: at the end
    assert table.with_suffix(".trials.ndjson").read_bytes() == journal
    assert predictor.read_bytes() == first

    assert hwloop(monkeypatch, "predictor", "fit", str(table), "-o", str(tmp_path / "again.predictor.json")) == 0
    assert (tmp_path / "again.predictor.json").read_bytes() == first
    capsys.readouterr()
    assert hwloop(monkeypatch, "predictor", "evaluate", str(predictor), "--json") == 0
    assert json.loads(capsys.readouterr().out)["networks"] == 4
    assert hwloop(monkeypatch, "predictor", "explain", str(predictor), "--json") == 0
    explained = json.loads(capsys.readouterr().out)
    assert explained["low_ms"] <= explained["latency_ms"] <= explained["high_ms"]
    assert {layer["kind"] for layer in explained["layers"]} <= {"exact", "interpolated", "extrapolated", "roofline"}
    assert hwloop(monkeypatch, "predictor", "explain", str(predictor)) == 0
    assert "least sure" in capsys.readouterr().out
    assert hwloop(monkeypatch, "predictor", "explain", str(predictor), "nothing=3") == 2
    assert "no channel group is named 'nothing'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--target-error", "lots"], "give a share such as 5% or 0.05"),
        (["--target-error", "200%"], "give a share such as 5% or 0.05"),
    ],
)
def test_a_target_that_is_none_is_refused(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    options: list[str],
    said: str,
) -> None:
    assert hwloop(monkeypatch, "table", "build", "lenet5", "-o", str(tmp_path / "t.parquet"), *options) == 2
    assert said in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("command", ["fit", "evaluate", "explain"])
def test_a_missing_or_broken_file_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    path = tmp_path / "x.parquet"
    assert hwloop(monkeypatch, "predictor", command, str(path)) == 2
    assert "cannot be read" in capsys.readouterr().err
    broken = tmp_path / "n.json"
    broken.write_text('{"networks": [1], "about": {}}')
    assert hwloop(monkeypatch, "predictor", command, str(path), "--networks", str(broken)) == 2
    error = capsys.readouterr().err
    assert "holds no measured networks" in error
    assert error.count("\n") == 1
