"""A training that stopped goes on as if it had not; what cannot be gone on with is refused, and nothing is lost."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from hwloop.datasets import DataConfig, ImageSet, load_images
from hwloop.errors import CheckpointError, DataError, ModelError
from hwloop.models import build_model, load_weights
from hwloop.training import Checkpoints, FitConfig, FitReport, fit
from hwloop.training.checkpoint import read_training
from tests.full_disk import files_up_to

PLAIN = FitConfig(epochs=2, batch_size=32, device="cpu")
RECIPES = {
    "sgd": FitConfig(epochs=2, batch_size=32, device="cpu", augment=True, flip=True, mixup=0.4, label_smoothing=0.1),
    "adamw": FitConfig(
        epochs=2,
        batch_size=32,
        device="cpu",
        optimizer="adamw",
        learning_rate=1e-3,
        schedule="cosine",
        warmup=0.2,
        fast=False,
        distillation=0.5,
        attention=100.0,
    ),
}


class StopError(Exception):
    """What ends a run in the middle."""


class Stopping:
    """A `Progress` that ends the run after some steps."""

    def __init__(self, after: int | None = None) -> None:
        self.left = after
        self.done: list[int] = []
        self.steps = 0

    @contextmanager
    def step(self, description: str, total: int, done: int = 0) -> Iterator[Stopping]:
        self.done.append(done)
        yield self

    def advance(self, amount: int = 1, note: str = "") -> None:
        self.steps += 1
        if self.left is not None and self.steps == self.left:
            raise StopError

    def say(self, line: str) -> None:
        pass


@pytest.fixture(scope="module")
def train() -> ImageSet:
    return load_images(DataConfig(limit=400)).train


def _network(seed: int = 0, width: int = 8) -> nn.Module:
    torch.manual_seed(seed)
    arguments = {"widths": [width, 16, 16]}
    network = build_model("resnet8", num_classes=10, in_channels=1, arguments=arguments)
    return nn.Sequential(network, nn.Dropout(0.1))


def _run(
    train: ImageSet,
    config: FitConfig = PLAIN,
    path: Path | None = None,
    progress: Stopping | None = None,
    **checkpoints: Any,
) -> tuple[FitReport, dict[str, torch.Tensor]]:
    network = _network()
    teacher = _network(7) if config.taught else None
    kept = None if path is None else Checkpoints(path, **{"every_s": 0.0, **checkpoints})
    report = fit(network, train, config=config, teacher=teacher, checkpoints=kept, progress=progress or Stopping())
    return report, network.state_dict()


def _same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("name", RECIPES)
def test_a_run_that_stopped_twice_ends_with_the_same_weights_bit_for_bit(
    tmp_path: Path, train: ImageSet, name: str
) -> None:
    recipe, path = RECIPES[name], tmp_path / "net.pt"
    expected, weights = _run(train, recipe)
    for steps in (3, 9):  # in the middle of both epochs
        with pytest.raises(StopError):
            _run(train, recipe, path, Stopping(steps))
    progress = Stopping()
    report, found = _run(train, recipe, path, progress)
    assert progress.done == [12]
    assert report == expected
    assert _same(found, weights)
    again = Stopping()
    report, found = _run(train, recipe, path, again)
    assert (again.steps, report) == (0, expected)
    assert _same(found, weights), "a finished training is only read"
    plain = _network(3)
    load_weights(plain, path)
    assert _same(plain.state_dict(), weights)


def test_between_epochs_it_is_saved_when_the_time_has_come(tmp_path: Path, train: ImageSet) -> None:
    path, times = tmp_path / "net.pt", iter(float(second) for second in range(1000))
    with pytest.raises(StopError):
        _run(train, PLAIN, path, Stopping(6), every_s=4.0, clock=lambda: next(times))
    progress = Stopping()
    _run(train, PLAIN, path, progress, every_s=1e9)
    assert progress.done == [4]
    path.unlink()
    with pytest.raises(StopError):
        _run(train, PLAIN, path, Stopping(12), every_s=1e9)
    progress = Stopping()
    _run(train, PLAIN, path, progress)
    assert progress.done == [len(train) // 32], "after the first epoch"


def test_a_disk_that_fills_while_saving_is_told_and_the_checkpoint_before_is_intact(
    tmp_path: Path, train: ImageSet
) -> None:
    path = tmp_path / "net.pt"
    expected = _run(train)
    with pytest.raises(StopError):
        _run(train, path=path, progress=Stopping(4))
    before = path.read_bytes()
    with (
        files_up_to(len(before) // 2),
        pytest.raises(CheckpointError, match=r"after step 5 cannot be written \(File too large\), the one before is"),
    ):
        _run(train, path=path)
    assert path.read_bytes() == before
    assert [one.name for one in tmp_path.iterdir()] == ["net.pt"]
    report, weights = _run(train, path=path)
    assert report == expected[0]
    assert _same(weights, expected[1])


def test_a_loss_that_is_no_number_leaves_the_checkpoint_before_it(tmp_path: Path, train: ImageSet) -> None:
    path, wild = tmp_path / "net.pt", FitConfig(epochs=2, batch_size=32, device="cpu", learning_rate=1e18)
    with pytest.raises(ModelError, match=r"training diverged in epoch 1 \(.+\): lower learning_rate, which is 1e"):
        _run(train, wild, path)
    if path.exists():
        network = _network()
        load_weights(network, path)
        assert all(bool(value.isfinite().all()) for value in network.state_dict().values())


def test_answers_that_are_no_numbers_stop_a_training_and_leave_the_checkpoint_to_go_on_from(
    tmp_path: Path, train: ImageSet
) -> None:
    """A fault of the moment, such as memory that flipped a bit: it is gone when the command is run again."""
    path, expected = tmp_path / "net.pt", _run(train)
    faulty, calls = _network(), itertools.count()

    def broken_in_the_seventh_step(_: nn.Module, __: Any, logits: torch.Tensor) -> torch.Tensor:
        return logits * torch.nan if next(calls) == 7 else logits  # the first call counts the outputs

    with (
        faulty.register_forward_hook(broken_in_the_seventh_step),
        pytest.raises(ModelError, match=r"training diverged in epoch 1 \(loss is nan\): lower learning_rate"),
    ):
        fit(faulty, train, config=PLAIN, checkpoints=Checkpoints(path, every_s=0.0))
    assert read_training(path)["position"]["step"] == 6
    progress = Stopping()
    report, weights = _run(train, path=path, progress=progress)
    assert progress.done == [6]
    assert report == expected[0]
    assert _same(weights, expected[1])


def test_another_network_recipe_or_training_is_refused_and_named(tmp_path: Path, train: ImageSet) -> None:
    path = tmp_path / "net.pt"
    _run(train, path=path, about={"data": "digits"})
    before = path.read_bytes()
    kept = Checkpoints(path, {"data": "digits"})
    with pytest.raises(ModelError, match=r"net\.pt: weights of another network: 0\.conv1\.weight has shape"):
        fit(_network(width=4), train, config=PLAIN, checkpoints=kept)
    other = FitConfig(epochs=3, batch_size=32, learning_rate=0.1, device="cpu")
    with pytest.raises(CheckpointError, match=r"another recipe \(epochs is 2 there and 3 now; learning_rate is 0\.05"):
        fit(_network(), train, config=other, checkpoints=kept)
    with pytest.raises(CheckpointError, match=r"another training \(data is digits there and letters now\)"):
        fit(_network(), train, config=PLAIN, checkpoints=Checkpoints(path, {"data": "letters"}))
    assert path.read_bytes() == before


def test_threads_are_no_part_of_the_recipe(tmp_path: Path, train: ImageSet) -> None:
    path = tmp_path / "net.pt"
    _run(train, path=path)
    progress = Stopping()
    _run(train, FitConfig(epochs=2, batch_size=32, device="cpu", threads=1), path, progress)
    assert progress.steps == 0


@pytest.mark.parametrize("damage", ["cut", "flipped", "weights", "text"])
def test_a_damaged_or_foreign_file_is_refused_in_one_line_and_stays(
    tmp_path: Path, train: ImageSet, damage: str
) -> None:
    path = tmp_path / "net.pt"
    _run(train, path=path)
    data = bytearray(path.read_bytes())
    if damage == "cut":
        path.write_bytes(data[: len(data) // 2])
    elif damage == "flipped":
        weights = read_training(path)["state_dict"]["0.conv1.weight"]
        data[data.index(weights.permute(0, 2, 3, 1).numpy().tobytes())] ^= 1  # one bit of one number
        path.write_bytes(data)
    elif damage == "weights":
        torch.save(_network().state_dict(), path)
    else:
        path.write_text("no checkpoint")
    before = path.read_bytes()
    with pytest.raises((ModelError, CheckpointError), match=r"net\.pt: ") as caught:
        _run(train, path=path)
    assert "\n" not in str(caught.value)
    assert path.read_bytes() == before


def test_what_a_killed_run_left_half_written_goes(tmp_path: Path, train: ImageSet) -> None:
    (tmp_path / ".net.pt.abc.tmp").write_bytes(b"half")
    (tmp_path / ".other.pt.abc.tmp").write_bytes(b"another's")
    _run(train, path=tmp_path / "net.pt")
    assert sorted(one.name for one in tmp_path.iterdir()) == [".other.pt.abc.tmp", "net.pt"]


@pytest.mark.parametrize(("label", "told"), [(10, "label 10"), (-1, "label -1")])
def test_labels_outside_the_outputs_are_named_before_anything_is_trained(
    train: ImageSet, label: int, told: str
) -> None:
    labels = train.labels.copy()
    labels[5] = label
    network = _network()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    with pytest.raises(DataError, match=rf"training image 5 has {told}, but Sequential has 10 outputs"):
        fit(network, ImageSet(train.images, labels), config=PLAIN)
    assert _same(network.state_dict(), before)


def test_mixup_and_smoothing_change_what_is_learned_and_the_report_says_where_it_ran(train: ImageSet) -> None:
    plain = _run(train)
    assert (plain[0].device, plain[0].points) == ("cpu", ())
    assert plain[0].dtype in ("float32", "bfloat16")
    for changed in (
        FitConfig(epochs=2, batch_size=32, device="cpu", **{name: 0.3}) for name in ("mixup", "label_smoothing")
    ):  # type: ignore[arg-type]
        report, weights = _run(train, changed)
        assert not _same(weights, plain[1])
        assert np.isfinite(report.losses).all()
