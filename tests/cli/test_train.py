"""`hwloop train`, `evaluate`, `prune` and `export`, as a user calls them, on the bundled digits."""

from __future__ import annotations

import importlib.util
import itertools
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch

from hwloop.cli import display
from hwloop.cli.main import main
from hwloop.models.weights import read_checkpoint
from hwloop.study.network import read_description
from tests.full_disk import files_up_to

DATA = ("--data", "digits", "--image-size", "16", "--limit", "900")
TRAIN = ("train", "resnet8", *DATA, "--epochs", "2", "--batch-size", "64", "--torch-device", "cpu", "--threads", "1")
WIDTHS = "layer1.0.conv1=8 layer2.0.conv1=16 layer3.0.conv1=24"

Hwloop = Callable[..., tuple[int, str, str]]


@pytest.fixture
def hwloop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Hwloop:
    """The command, run in this process and in a folder of its own; returns exit code, stdout and stderr."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["hwloop", *arguments])
        with pytest.raises(SystemExit) as end:
            main()
        shown = capfd.readouterr()
        return int(end.value.code or 0), shown.out, shown.err

    return run


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights of a small trained network."""
    path = tmp_path_factory.mktemp("base") / "base.pt"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["hwloop", *TRAIN, "-o", str(path)])
        with pytest.raises(SystemExit) as end:
            main()
    assert not end.value.code
    return path


def _json(hwloop: Hwloop, *arguments: str) -> Any:
    code, out, err = hwloop(*arguments, "--json")
    assert code == 0, err
    return json.loads(out)


def _same_weights(one: Path, other: Path) -> bool:
    states = [read_checkpoint(path)["state_dict"] for path in (one, other)]
    return all(torch.equal(states[0][name], states[1][name]) for name in states[0] | states[1])


def test_training_is_told_goes_on_and_is_evaluated(hwloop: Hwloop, base: Path, tmp_path: Path) -> None:
    first = _json(hwloop, *TRAIN, "-o", "net.pt")
    assert len(first["losses"]) == 2
    assert first["losses"][1] < first["losses"][0]
    assert _same_weights(base, tmp_path / "net.pt"), "the seed decides the weights"
    assert _json(hwloop, *TRAIN, "-o", "net.pt") == first
    found = _json(hwloop, "evaluate", "resnet8", "--weights", "net.pt", *DATA)
    assert {key: found[key] for key in first["test"]} == first["test"]
    assert found["low"] < found["top1"] < found["high"]
    code, out, _ = hwloop("evaluate", "resnet8", "--weights", "net.pt", *DATA, "--part", "validation")
    assert code == 0
    assert f"{first['validation']['correct']} of {first['validation']['images']}" in out


def test_a_candidate_is_cut_fine_tuned_with_its_base_as_teacher_and_rebuilt_from_its_text(
    hwloop: Hwloop, base: Path, tmp_path: Path
) -> None:
    _, listed, _ = hwloop("prune", "resnet8", "--weights", str(base), *DATA, "--widths", "-")
    groups = dict(line.split("=") for line in listed.split() if not line.startswith("-"))
    text = " ".join(f"{name}={max(8, int(width) // 2)}" for name, width in groups.items())
    common = ("prune", "resnet8", "--weights", str(base), *DATA, "--widths", text, "--threads", "1")
    plain = _json(hwloop, *common, "-o", "plain.pt", "--criterion", "l2")
    assert plain["candidate"] == text
    assert plain["pruned"]["parameters"] < plain["base"]["parameters"]
    assert plain["pruned"]["macs"] < plain["base"]["macs"]
    taught = ("--epochs", "1", "--batch-size", "64", "--distillation", "0.5", "--attention", "10")
    tuned = _json(hwloop, *common, "-o", "tuned.pt", *taught)
    assert tuned["fine_tuned"]["attention_points"] == ["layer1", "layer2", "layer3"]
    assert tuned["fine_tuned"]["test"]["correct"] > 0
    for name, told in (("plain.pt", plain["pruned"]), ("tuned.pt", tuned["fine_tuned"])):
        found = _json(hwloop, "evaluate", "resnet8", "--weights", name, *DATA)
        assert found["correct"] == told["test"]["correct"], "built again from name, text and weights"
        described = read_description(tmp_path / name)
        assert described is not None
        assert described.pruned is not None
        assert described.pruned.text == text
    assert _json(hwloop, *common, "-o", "plain.pt", "--criterion", "l2") == plain


@pytest.mark.parametrize("name", ["net.onnx", "net.pt2", "net.tflite"])
def test_an_exported_file_gives_the_networks_right_answers(hwloop: Hwloop, base: Path, name: str) -> None:
    if name == "net.tflite" and importlib.util.find_spec("ai_edge_litert") is None:
        pytest.skip("the extra tflite is not installed")
    told = _json(hwloop, "export", "resnet8", "--weights", str(base), *DATA, "-o", name)
    assert told["correct"] == told["torch_correct"] > 0
    found = _json(hwloop, "evaluate", name, *DATA)
    assert found["correct"] == told["correct"]
    assert name.rpartition(".")[2] in found["method"]


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("tvm") is None, reason="the extra tvm is not installed")
def test_a_tvm_library_gives_the_networks_right_answers(hwloop: Hwloop, base: Path) -> None:
    told = _json(hwloop, "export", "resnet8", "--weights", str(base), *DATA, "-o", "net.so")
    assert told["correct"] == told["torch_correct"] > 0


def test_a_file_that_answers_otherwise_is_not_written(
    hwloop: Hwloop, base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An exporter that loses the classifier's weights stands for one with a bug."""
    from hwloop.study import exported

    sound = exported.export_onnx

    def faulty(*arguments: Any, **named: Any) -> bytes:
        model = onnx.load_from_string(sound(*arguments, **named))
        lost = next(one for one in model.graph.initializer if list(one.dims)[:1] == [10])
        lost.CopyFrom(onnx.numpy_helper.from_array(np.zeros(list(lost.dims), np.float32), lost.name))
        return bytes(model.SerializeToString())

    monkeypatch.setattr(exported, "export_onnx", faulty)
    code, _, err = hwloop("export", "resnet8", "--weights", str(base), *DATA, "-o", "net.onnx")
    assert code == 2
    assert "not written: the onnx file gives" in err
    assert "images apart" in err
    assert not (tmp_path / "net.onnx").exists()


def test_a_disk_that_fills_is_told_in_one_line_and_the_file_before_is_intact(
    hwloop: Hwloop, base: Path, tmp_path: Path
) -> None:
    weights = ("--weights", str(base), *DATA)
    for command, path in (
        (("prune", "resnet8", *weights, "--widths", WIDTHS), tmp_path / "pruned.pt"),
        (("export", "resnet8", *weights), tmp_path / "net.onnx"),
    ):
        assert hwloop(*command, "-o", path.name)[0] == 0
        before, names = path.read_bytes(), sorted(one.name for one in tmp_path.iterdir())
        with files_up_to(len(before) // 2):
            code, _, err = hwloop(*command, "-o", path.name)
        assert code in (1, 2), err
        assert "File too large" in err
        assert "run the same command again" in err
        assert err.count("\n") == 1
        assert path.read_bytes() == before
        assert sorted(one.name for one in tmp_path.iterdir()) == names


def test_an_interrupted_command_goes_on_to_the_same_weights(
    hwloop: Hwloop, base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = itertools.count(1)

    def interrupted(*_: Any, **__: Any) -> None:
        if next(steps) == 13:
            raise KeyboardInterrupt

    command = (*TRAIN, "-o", "net.pt", "--save-every", "0")
    with monkeypatch.context() as patched:
        patched.setattr(display._QuietStep, "advance", interrupted)
        assert hwloop(*command)[0] == 130
    assert read_checkpoint(tmp_path / "net.pt")["position"]["step"] == 13
    assert hwloop(*command)[0] == 0
    assert _same_weights(tmp_path / "net.pt", base)


@pytest.mark.slow
def test_the_speed_up_of_a_candidate_is_measured_on_a_device(hwloop: Hwloop, base: Path) -> None:
    _, listed, _ = hwloop("prune", "resnet8", "--weights", str(base), *DATA, "--widths", "-")
    text = " ".join(f"{line.split('=')[0]}=8" for line in listed.split() if not line.startswith("-"))
    options = ("--widths", text, "--device", "local", "--processes", "1", "-o", "p.pt")
    found = _json(hwloop, "prune", "resnet8", "--weights", str(base), *DATA, *options)
    speed = found["speed_up"]
    assert speed["interval"]["low"] <= speed["value"] <= speed["interval"]["high"]
    assert speed["value"] == pytest.approx(speed["base_ms"] / speed["pruned_ms"])


def test_bad_input_is_told_in_one_line(hwloop: Hwloop, base: Path, tmp_path: Path) -> None:
    (tmp_path / "broken.npz").write_bytes(b"nothing")
    corrupt = tmp_path / "images"
    for label in ("cat", "dog"):
        (corrupt / label).mkdir(parents=True)
        for number in range(4):
            (corrupt / label / f"{number}.png").write_bytes(b"\x89PNG\r\n\x1a\n broken")
    np.savez(tmp_path / "labels.npz", x_train=np.zeros((4, 8, 8), np.uint8), y_train=np.array([0, 1, -3, 1]))
    weights = ("--weights", str(base))
    for arguments, told in (
        ((*TRAIN, "-o", "x.pt", "--epochs", "0"), "epochs is 0: it must be at least 1"),
        ((*TRAIN, "-o", "x.pt", "--schedule", "linear"), "schedule is linear: it must be one of one_cycle"),
        ((*TRAIN, "-o", "x.pt", "--distillation", "0.5"), "need a teacher: give one"),
        ((*TRAIN, "-o", "x.pt", "--argument", "widths"), "--argument widths: give a name and a value"),
        ((*TRAIN, "-o", "."), "is a folder; give a file"),
        (
            (*TRAIN, "-o", str(base), "--learning-rate", "0.1"),
            "another recipe (learning_rate is 0.05 there and 0.1 now",
        ),
        (("train", "lenet5", *DATA, "-o", str(base)), "weights of another network"),
        (("train", "resnet8", "--data", "nowhere", "-o", "x.pt"), "--data nowhere: give digits, a .parquet"),
        (("train", "resnet8", "--data", "broken.npz", "-o", "x.pt"), "broken.npz"),
        (("train", "resnet8", "--data", "images", "-o", "x.pt"), "not a readable image"),
        (("train", "resnet8", "--data", "labels.npz", "-o", "x.pt"), "label -3 is outside"),
        (("evaluate", "resnet8", *DATA), "--weights is missing"),
        (("evaluate", "lenet5", *weights, *DATA), "holds weights of resnet8, not of lenet5"),
        (("evaluate", "resnet8", *weights), "takes images of (1, 16, 16) and the data have (1, 8, 8)"),
        (
            ("evaluate", "resnet8", *weights, *DATA, "--part", "half"),
            "--part half: it is one of test, validation, train",
        ),
        (("evaluate", "none.onnx", *DATA), "none.onnx: cannot be read (No such file or directory)"),
        (("prune", "resnet8", *weights, *DATA, "--widths", WIDTHS), "--out is missing: the file of the pruned network"),
        (("prune", "resnet8", *weights, *DATA, "-o", "x.pt"), "give either --widths or --speed-up"),
        (("prune", "resnet8", *weights, *DATA, "-o", "x.pt", "--speed-up", "fast"), "give a number above 1, as in 2x"),
        (
            ("prune", "resnet8", *weights, *DATA, "-o", "x.pt", "--widths", "conv9=3"),
            "no channel group is named 'conv9'",
        ),
        (
            ("prune", "resnet8", *weights, *DATA, "-o", "x.pt", "--widths", WIDTHS, "--criterion", "luck"),
            "there is no criterion 'luck'",
        ),
        (("export", "resnet8", *weights, *DATA, "-o", "x.xml"), "--to .xml: it is one of onnx, tflite, program, tvm"),
        (("export", "resnet8", *weights, *DATA, "-o", "x.pt2", "--to", "onnx"), "the format onnx are called .onnx"),
    ):
        before = base.read_bytes()
        code, _, err = hwloop(*arguments)
        assert code == 2, arguments
        assert told in err, arguments
        assert err.startswith("error: "), arguments
        assert err.count("\n") == 1, arguments
        assert base.read_bytes() == before
        assert not (tmp_path / "x.pt").exists()
