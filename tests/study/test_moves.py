from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from hwloop.datasets import DataConfig, load_images
from hwloop.errors import StudyError
from hwloop.extraction import ONNXRUNTIME_ARM, ONNXRUNTIME_X86, network_from_torch
from hwloop.layers import ScalableNetwork
from hwloop.layers.ops import OPS
from hwloop.measurement import layer_design
from hwloop.models import build_model
from hwloop.progress import Silent
from hwloop.study import StudyConfig
from hwloop.study.base import Base
from hwloop.study.directory import StudyDirectory
from hwloop.study.sampling import sample_candidates
from hwloop.study.space import find_moves, open_space

BLOCKS = ("layer1.0", "layer2.0", "layer3.0")
PROJECTION = {"shortcut": "projection"}


def resnet8(channels: int) -> nn.Module:
    return build_model("resnet8", num_classes=10, in_channels=channels, arguments=PROJECTION).eval()


def test_a_campaign_measures_the_layers_that_stand_in_for_others_without_a_block() -> None:
    moves = open_space(resnet8(3), (3, 32, 32), ONNXRUNTIME_X86, grain=8)
    space, scalable = moves.space, moves.scalable
    assert tuple(block.name for block in scalable.blocks) == BLOCKS
    assert scalable.alternatives
    levels = [space.levels(group) for group in range(len(space.groups))]
    designed = {layer.key for layer in layer_design(scalable, levels, per_axis=2)}
    without_blocks = {
        layer.key for layer in layer_design(ScalableNetwork(moves.network, scalable.groups), levels, per_axis=2)
    }
    assert designed > without_blocks
    executed = set()
    for corner in itertools.product((0, -1), repeat=len(levels)):
        widths = [group[place] for group, place in zip(levels, corner, strict=True)]
        for remains in itertools.product((True, False), repeat=len(BLOCKS)):
            executed |= {layer.key for layer in scalable.at(widths, remains).layers if not OPS[layer.op].view}
    assert executed == designed


def test_what_the_predictor_counts_is_what_is_exported_without_the_blocks() -> None:
    module = resnet8(3)
    moves = open_space(module, (3, 32, 32), ONNXRUNTIME_X86, grain=8)
    for candidate in sample_candidates(moves.space, 6, seed=3):
        exported = network_from_torch(moves.surgery.apply(candidate), (3, 32, 32), rules=ONNXRUNTIME_X86)
        asked = moves.space.arrays([candidate])
        executed = moves.scalable.present(asked[1])[0]
        assert int(executed.sum()) == len(exported.nodes)
        assert moves.scalable.peak_activation_bytes(*asked) == exported.peak_activation_bytes
        assert moves.scalable.macs(*asked) == exported.macs


class ReadTwice(nn.Module):
    """The sum of its block is read before and behind the activation, so that no one tensor stands in for it."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU())
        self.branch = nn.Sequential(nn.Conv2d(8, 8, 3, padding=1), nn.BatchNorm2d(8))
        self.act = nn.ReLU()
        self.head = nn.Linear(16, 10)

    def forward(self, images: Tensor) -> Tensor:
        stem = self.stem(images)
        total = stem + self.branch(stem)
        return self.head(torch.cat([total, self.act(total)], 1).mean((2, 3)))


def test_a_block_that_cannot_be_costed_stays_and_says_why() -> None:
    moves = open_space(ReadTwice().eval(), (3, 8, 8), ONNXRUNTIME_ARM, grain=2)
    assert moves.space.blocks == moves.scalable.blocks == ()
    assert {block.name for block in moves.space.fixed_blocks} == {"branch.0"}
    assert "read both with and without the activation" in moves.space.fixed_blocks[0].reason
    narrow = moves.space.candidate([group.divisor for group in moves.space.groups])
    assert moves.surgery.apply(narrow)(torch.zeros(1, 3, 8, 8)).shape == (1, 10)


@pytest.fixture
def base() -> Base:
    return Base(resnet8(1), load_images(DataConfig(source="digits")), (1, 8, 8), 0.0, 0.0)


def test_a_study_begun_with_widths_alone_goes_on_with_widths_alone(base: Base, tmp_path: Path) -> None:
    config = StudyConfig()
    with StudyDirectory(tmp_path / "study", config, "") as study:
        begun = find_moves(config, base, ONNXRUNTIME_X86, study, Silent())
        assert tuple(block.name for block in begun.space.blocks) == BLOCKS
        again = find_moves(config, base, ONNXRUNTIME_X86, study, Silent())
        assert again.space == begun.space
        assert again.surgery.order == begun.surgery.order
        assert again.scalable.blocks == begun.scalable.blocks
        alone = begun.space.without_blocks()
        kept = {"space": alone.to_record(), "order": begun.surgery.order, "ordered_by": begun.surgery.ordered_by}
        study.write_json("space.json", kept)
        old = find_moves(config, base, ONNXRUNTIME_X86, study, Silent())
        assert old.space == alone
        assert old.scalable.blocks == old.scalable.alternatives == ()
        assert np.array_equal(old.scalable.macs([alone.base.widths]), begun.scalable.macs([alone.base.widths]))


def test_a_space_of_another_version_is_refused_by_its_name(base: Base, tmp_path: Path) -> None:
    config = StudyConfig()
    with StudyDirectory(tmp_path / "study", config, "") as study:
        begun = find_moves(config, base, ONNXRUNTIME_X86, study, Silent())
        record = {name: part for name, part in begun.space.to_record().items() if name != "blocks"}
        study.write_json("space.json", {"space": record, "order": begun.surgery.order})
        with pytest.raises(StudyError, match=r"space\.json: is damaged or of an older hwloop \(KeyError\('blocks'\)\)"):
            find_moves(config, base, ONNXRUNTIME_X86, study, Silent())
