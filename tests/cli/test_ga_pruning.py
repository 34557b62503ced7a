"""`hwloop ga-pruning` from a study file to pruned weights, and what it refuses."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import torch

from hwloop.cli.main import main

STUDY = """
[model]
name = "lenet_caffe"
[data]
source = "digits"
image_size = 16
[training]
epochs = 2
learning_rate = 0.03
"""


def hwloop(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["hwloop", *arguments])
    with pytest.raises(SystemExit) as end:
        main()
    return int(end.value.code or 0)


def test_weights_are_pruned_from_a_study_file_and_a_second_run_only_reads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    study = tmp_path / "mine.toml"
    study.write_text(STUDY)
    command = ("ga-pruning", str(study), "--emphasis", "computation", "--rounds", "1")
    assert hwloop(monkeypatch, *command, "--json") == 0
    result = json.loads(capsys.readouterr().out)
    folder = tmp_path / "mine" / "ga-pruning-computation-coarse"
    state = torch.load(folder / "pruned.pt", weights_only=True)
    zeros = sum(int((tensor == 0).sum()) for tensor in state.values())
    assert zeros == result["census"]["all_parameters"] - result["census"]["parameters"]
    assert json.loads((folder / "result.json").read_text()) == result
    assert hwloop(monkeypatch, *command) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert f"test accuracy {result['test_accuracy']:.2%} against {result['base_test_accuracy']:.2%}" in shown
    assert "fewer multiply-accumulates without zero kernels" in shown
    assert len((folder / "rounds.ndjson").read_text().splitlines()) == 2


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (("--emphasis", "speed"), "there is no emphasis 'speed'; known are sparsity, computation"),
        (("--granularity", "fine"), "granularity is 'fine': it must be 'unstructured' or 'coarse'"),
        (("--rounds", "0"), "rounds is 0: it must be at least 1"),
    ],
)
def test_bad_options_are_one_line(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    options: tuple[str, str],
    text: str,
) -> None:
    study = tmp_path / "mine.toml"
    study.write_text(STUDY)
    assert hwloop(monkeypatch, "ga-pruning", str(study), *options) == 2
    assert text in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "mine").exists()
