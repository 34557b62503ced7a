"""Shared weights: trained once for all candidates, resumable, and never those of another network."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from hwloop.datasets import DataConfig, ImageData, load_images
from hwloop.errors import ConfigError, ModelError
from hwloop.models import build_model
from hwloop.progress import Silent
from hwloop.pruning import (
    AdaptationConfig,
    ErrorEstimator,
    HeldOut,
    PruningSpace,
    Recalibration,
    SurgeryPlan,
    adapt,
    plan_surgery,
    pruning_space,
)
from hwloop.training import FitConfig, fit

Ready = tuple[ImageData, PruningSpace, SurgeryPlan]
CONFIG = AdaptationConfig(FitConfig(epochs=3, learning_rate=0.1, batch_size=64, seed=4))


@pytest.fixture(scope="module")
def ready() -> Ready:
    data = load_images(DataConfig())
    torch.manual_seed(0)
    network = build_model("resnet8", num_classes=10, in_channels=1, arguments={"shortcut": "projection"})
    fit(network, data.train, config=FitConfig(epochs=6, seed=1))
    space = pruning_space(network, data.input_shape, grain=4)
    return data, space, plan_surgery(network, space)


def state_of(plan: SurgeryPlan) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in plan.module.state_dict().items()}


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(value, other[name]) for name, value in one.items())


class Interrupting(Silent):
    """Ends the process, as far as the training can tell, after some steps."""

    def __init__(self, steps: int) -> None:
        self.left = steps

    @contextmanager
    def step(self, description: str, total: int, done: int = 0) -> Iterator[Interrupting]:
        yield self

    def advance(self, amount: int = 1, note: str = "") -> None:
        self.left -= 1
        if self.left < 0:
            raise KeyboardInterrupt


def test_candidates_answer_better_after_the_adaptation_and_the_base_is_untouched(ready: Ready) -> None:
    data, space, plan = ready
    before = state_of(plan)
    found = adapt(plan, space, data.train, config=CONFIG)
    assert same(state_of(plan), before)
    assert not found.plan.module.training
    assert found.plan.order == plan.order
    rng = np.random.default_rng(2)
    candidates = [space.random(rng) for _ in range(12)]
    errors = []
    for each in (plan, found.plan):
        judge = ErrorEstimator("any", each, Recalibration(data.train), HeldOut(data.validation))
        errors.append(np.median([judge.estimate(candidate).error for candidate in candidates]))
    assert errors[1] < errors[0] - 0.2
    assert found.losses[-1][1] < found.losses[0][1]


def test_an_interrupted_adaptation_ends_with_the_same_weights(ready: Ready, tmp_path: Path) -> None:
    data, space, plan = ready
    train = data.train.take(np.arange(256))
    whole = adapt(plan, space, train, config=CONFIG)
    path = tmp_path / "shared.pt"
    for steps in (2, 5, 3):  # in the first epoch, in the second, and in the one after it
        with pytest.raises(KeyboardInterrupt):
            adapt(plan, space, train, config=CONFIG, checkpoint=path, progress=Interrupting(steps))
    resumed = adapt(plan, space, train, config=CONFIG, checkpoint=path)
    assert same(state_of(resumed.plan), state_of(whole.plan))
    assert resumed.losses == whole.losses
    again = adapt(plan, space, train, config=CONFIG, checkpoint=path, progress=Interrupting(0))
    assert same(state_of(again.plan), state_of(whole.plan))


def test_the_base_network_can_be_the_teacher(ready: Ready) -> None:
    data, space, plan = ready
    train = data.train.take(np.arange(128))
    config = replace(CONFIG, fit=replace(CONFIG.fit, epochs=1))
    followed, free = (adapt(plan, space, train, config=replace(config, teacher=t)).plan for t in ("base", "full"))
    assert not same(state_of(followed), state_of(free))


def test_frozen_parameters_stay(ready: Ready) -> None:
    data, space, plan = ready
    plan.module.conv1.weight.requires_grad_(False)
    try:
        found = adapt(plan, space, data.train.take(np.arange(128)), config=CONFIG)
    finally:
        plan.module.conv1.weight.requires_grad_(True)
    assert torch.equal(found.plan.module.conv1.weight, plan.module.conv1.weight)
    assert not torch.equal(found.plan.module.linear.weight, plan.module.linear.weight)


def test_a_checkpoint_of_anything_else_is_refused_and_kept(ready: Ready, tmp_path: Path) -> None:
    data, space, plan = ready
    train = data.train.take(np.arange(128))
    short = replace(CONFIG, fit=replace(CONFIG.fit, epochs=1))
    path = tmp_path / "shared.pt"
    adapt(plan, space, train, config=short, checkpoint=path)
    content = path.read_bytes()
    altered = state_of(plan)
    altered["linear.bias"] += 1
    twin = build_model("resnet8", num_classes=10, in_channels=1, arguments={"shortcut": "projection"})
    twin.load_state_dict(altered)
    for match, arguments in (
        ("other settings", (plan, space, train, CONFIG)),
        ("other images", (plan, space, data.train.take(np.arange(64, 192)), short)),
        ("other space", (plan, space.with_grain(8), train, short)),
        ("other network", (plan.on(twin), space, train, short)),
    ):
        with pytest.raises(ModelError, match=match):
            adapt(*arguments[:3], config=arguments[3], checkpoint=path)
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(ModelError, match=r"shared\.pt: is damaged .* delete it"):
        adapt(plan, space, train, config=short, checkpoint=path)
    torch.save(nn.Linear(1, 1), path)  # code, not tensors
    with pytest.raises(ModelError, match="is damaged or no checkpoint"):
        adapt(plan, space, train, config=short, checkpoint=path)


def test_what_cannot_be_trained_is_refused(ready: Ready, tmp_path: Path) -> None:
    data, space, plan = ready
    path = tmp_path / "shared.pt"
    wild = replace(CONFIG, fit=replace(CONFIG.fit, learning_rate=1e30))
    with pytest.raises(ModelError, match=r"diverged in epoch \d.* lower learning_rate"):
        adapt(plan, space, data.train.take(np.arange(256)), config=wild, checkpoint=path)
    with pytest.raises(ModelError, match="at least 2"):
        adapt(plan, space, data.train.take(np.arange(1)), config=CONFIG)
    wrong = replace(data.train, images=np.repeat(data.train.images, 3, axis=1))
    with pytest.raises(ModelError, match="cannot be trained on images of shape"):
        adapt(plan, space, wrong, config=CONFIG)
    for name, value in (("random_networks", -1), ("teacher", "none"), ("distillation", 1.5), ("temperature", 0.0)):
        with pytest.raises(ConfigError, match=name):
            AdaptationConfig(**{name: value})
