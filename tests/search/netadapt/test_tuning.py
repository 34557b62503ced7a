"""Proposals inherit weights, are judged on held-out images, and survive a kill."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest
import torch

from hwloop.datasets import DataConfig, ImageData, load_images
from hwloop.errors import StudyError
from hwloop.models import build_model
from hwloop.pruning import Candidate, PruningSpace, pruning_space
from hwloop.search.netadapt import Lineage, ShortTermTuner, TuningSettings
from hwloop.training import FitConfig, fit


@dataclass
class MemoryKeep:
    files: dict[str, bytes] = field(default_factory=dict)

    def read(self, name: str) -> bytes | None:
        return self.files.get(name)

    def write(self, name: str, content: bytes) -> None:
        self.files[name] = content

    def drop(self, name: str) -> None:
        self.files.pop(name, None)


@pytest.fixture(scope="module")
def trained() -> tuple[torch.nn.Module, PruningSpace, ImageData]:
    data = load_images(DataConfig(source="digits", image_size=12, seed=0))
    torch.manual_seed(0)
    module = build_model("lenet5", num_classes=10, in_channels=1, image_size=12)
    fit(module, data.train, config=FitConfig(epochs=6, learning_rate=0.05, batch_size=64, fast=False))
    module.eval()
    return module, pruning_space(module, (1, 12, 12)).without_blocks(), data


def tuner(trained: Any, lineage: Lineage, keep: MemoryKeep, steps: int = 20) -> ShortTermTuner:
    module, space, data = trained
    settings = TuningSettings(steps=steps, learning_rate=0.02, batch_size=32)
    return ShortTermTuner(
        module, space.groups, space.text, data.train, data.validation, settings, lineage, keep, clock=lambda: 0.0
    )


def chain(space: PruningSpace) -> tuple[Candidate, Candidate, Candidate, Candidate]:
    """The base, two rivals cut from it, and one cut from the first of them."""
    base = space.base
    first = Candidate((*base.widths[:-1], base.widths[-1] // 2))
    second = Candidate((*base.widths[:-2], base.widths[-2] // 2, base.widths[-1]))
    third = Candidate((base.widths[0], base.widths[1] // 2, *first.widths[2:]))
    return base, first, second, third


def errors(tuner: ShortTermTuner, *batches: list[Candidate]) -> list[list[float]]:
    return [[result.error for result in tuner.evaluate(batch)] for batch in batches]


def test_weights_are_inherited_and_a_killed_run_goes_on_with_the_same(trained: Any) -> None:
    module, space, _data = trained
    base, first, second, third = chain(space)
    lineage, keep = Lineage(), MemoryKeep()
    lineage.note(base, [first, second])
    lineage.note(first, [third])
    whole = tuner(trained, lineage, keep)
    expected = errors(whole, [base], [first, second], [third])
    assert len(keep.files) == 2  # of the first, which is carried on, and of the third
    learned = whole.network(third).state_dict()
    assert not all(torch.equal(a, b) for a, b in zip(learned.values(), module.state_dict().values(), strict=True))

    resumed = tuner(trained, lineage, keep)  # killed before the third was evaluated, its parent's weights are kept
    assert errors(resumed, [third]) == expected[2:]
    lost = tuner(trained, lineage, MemoryKeep())  # kept by nobody: made again
    assert errors(lost, [third]) == expected[2:]
    for name, tensor in lost.network(third).state_dict().items():
        assert torch.equal(tensor, learned[name])
    assert errors(tuner(trained, lineage, MemoryKeep()), [second, first]) == [expected[1][::-1]]  # in any order


def test_the_fine_tune_repairs_what_the_cut_broke(trained: Any) -> None:
    _module, space, _data = trained
    base = space.base
    cut = Candidate((2, *base.widths[1:]))
    lineage = Lineage()
    lineage.note(base, [cut])
    ((plain,),) = errors(tuner(trained, lineage, MemoryKeep(), steps=0), [cut])
    ((tuned,),) = errors(tuner(trained, lineage, MemoryKeep(), steps=60), [cut])
    assert tuned < plain


def test_damaged_weights_are_named(trained: Any) -> None:
    _module, space, _data = trained
    base, first, _second, third = chain(space)
    lineage, keep = Lineage(), MemoryKeep()
    lineage.note(base, [first])
    lineage.note(first, [third])
    errors(tuner(trained, lineage, keep, steps=1), [first])
    keep.files = dict.fromkeys(keep.files, b"torn")
    with pytest.raises(StudyError, match=r"the weights of conv1=.* is damaged"):
        errors(tuner(trained, lineage, keep), [third])
