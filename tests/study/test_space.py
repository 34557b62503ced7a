"""The order of channels in a study: by which criterion, and never mixed with another's."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from hwloop.datasets import ImageData, load_images
from hwloop.errors import ConfigError, StudyError
from hwloop.extraction import ONNXRUNTIME_X86
from hwloop.models import build_model
from hwloop.progress import Silent
from hwloop.pruning import channel_order, get_criterion
from hwloop.study import load_config, run_study
from hwloop.study.base import Base, data_config
from hwloop.study.config import StudyConfig
from hwloop.study.directory import StudyDirectory
from hwloop.study.space import Moves, find_moves
from tests.study.killing import TINY, write_study


def configured(folder: Path, lines: str) -> StudyConfig:
    return load_config(write_study(folder, TINY.replace("[pruning]", f"[pruning]\n{lines}")))


def network_and_data(config: StudyConfig, folder: Path) -> Base:
    data: ImageData = load_images(data_config(config, folder))
    torch.manual_seed(1)
    module = build_model("resnet8", num_classes=10, in_channels=1, arguments={"shortcut": "projection"}).eval()
    return Base(module, data, data.input_shape, 0.5, 0.5)


def moves_of(config: StudyConfig, base: Base, root: Path) -> Moves:
    with StudyDirectory(root, config, TINY) as study:
        return find_moves(config, base, ONNXRUNTIME_X86, study, Silent())


def test_channels_are_ordered_by_the_criterion_of_the_study_and_the_order_is_kept(tmp_path: Path) -> None:
    config = configured(tmp_path, 'criterion = "taylor"\ncriterion_images = 100')
    base = network_and_data(config, tmp_path)
    moves = moves_of(config, base, tmp_path / "study")
    assert moves.surgery.ordered_by.startswith("taylor on 100 images ")
    assert dict(moves.surgery.order) != channel_order(base.module, moves.space.groups)
    again = moves_of(config, base, tmp_path / "study")
    assert (again.surgery.order, again.surgery.ordered_by) == (moves.surgery.order, moves.surgery.ordered_by)


def test_settings_of_a_criterion_come_from_the_study_file(tmp_path: Path) -> None:
    config = configured(tmp_path, 'criterion = "clad"\ncriterion_settings = { epochs = 1, target = 1 }')
    criterion = get_criterion(config.pruning.criterion, config.pruning.criterion_settings)
    assert criterion == get_criterion("clad", {"epochs": 1, "target": 1.0})


def test_an_order_of_another_criterion_is_not_taken(tmp_path: Path) -> None:
    config = configured(tmp_path, 'criterion = "l1"')
    base = network_and_data(config, tmp_path)
    moves_of(config, base, tmp_path / "study")
    other = configured(tmp_path / "other", 'criterion = "fpgm"')
    moves_of(other, base, tmp_path / "other" / "study")
    (tmp_path / "study" / "space.json").write_bytes((tmp_path / "other" / "study" / "space.json").read_bytes())
    with pytest.raises(
        StudyError, match=r"space\.json: its channels are ordered by fpgm, this study orders them by l1;"
    ):
        moves_of(config, base, tmp_path / "study")


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ('criterion = "l0"', r"study\.toml:\d+: pruning\.criterion: there is no criterion 'l0'; known are activation"),
        ('criterion = "clad"\ncriterion_settings = { epoch = 3 }', r"criterion 'clad' has no setting 'epoch'"),
    ],
)
def test_a_wrong_criterion_is_refused_before_anything_is_run(tmp_path: Path, lines: str, message: str) -> None:
    configured(tmp_path, lines)
    with pytest.raises(ConfigError, match=message):
        run_study(tmp_path / "study.toml", Silent())
    assert not (tmp_path / "study").exists()
