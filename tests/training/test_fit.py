"""Training learns, repeats itself under a seed and leaves the surroundings alone."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from hwloop.datasets import DataConfig, ImageSet, load_images
from hwloop.errors import ConfigError, ModelError
from hwloop.models import build_model
from hwloop.training import FitConfig, accuracy, error_count, fast_dtype, fit, predictions


def _network(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    network = build_model("resnet8", num_classes=10, in_channels=1, arguments={"widths": [8, 16, 32]})
    return nn.Sequential(network, nn.Dropout(0.1))


def test_a_small_network_learns_digits() -> None:
    data = load_images(DataConfig())
    network = _network()
    report = fit(network, data.train, config=FitConfig(epochs=8))
    assert accuracy(network, data.test) > 0.93
    assert report.losses[-1] < 0.3 * report.losses[0]
    assert len(report.losses) == len(report.accuracies) == 8
    assert report.steps == 8 * (len(data.train) // 128)


@pytest.mark.parametrize("augment", [False, True])
def test_the_same_seed_gives_the_same_weights_bit_for_bit(augment: bool) -> None:
    train = load_images(DataConfig(limit=300)).train
    config = FitConfig(epochs=2, batch_size=64, augment=augment, flip=augment, seed=5)
    states = []
    for noise in (1, 2):
        network = _network()
        torch.manual_seed(noise)  # what others drew from the global generator must not matter
        fit(network, train, config=config)
        states.append(network.state_dict())
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])
    other = _network()
    fit(other, train, config=FitConfig(epochs=2, batch_size=64, augment=augment, flip=augment, seed=6))
    assert any(not torch.equal(states[0][key], value) for key, value in other.state_dict().items())


def test_global_random_state_threads_modes_and_memory_format_are_as_before() -> None:
    train = load_images(DataConfig(limit=200)).train
    network = _network().eval()
    torch.manual_seed(9)
    state, threads = torch.get_rng_state(), torch.get_num_threads()
    fit(network, train, config=FitConfig(epochs=1, threads=1))
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.get_num_threads() == threads
    assert not any(module.training for module in network.modules())
    assert all(parameter.is_contiguous() for parameter in network.parameters())


class _Recorder:
    def __init__(self) -> None:
        self.total = 0
        self.notes: list[str] = []

    def step(self, description: str, total: int, done: int = 0) -> "_Recorder":
        self.total = total
        return self

    def __enter__(self) -> "_Recorder":
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def advance(self, amount: int = 1, note: str = "") -> None:
        self.notes.append(note)

    def say(self, line: str) -> None:
        pass


def test_progress_is_told_of_every_step() -> None:
    progress = _Recorder()
    report = fit(
        _network(),
        load_images(DataConfig(limit=200)).train,
        config=FitConfig(epochs=2, batch_size=32),
        progress=progress,
    )
    assert len(progress.notes) == progress.total == report.steps
    assert progress.notes[-1] == f"epoch 2/2, loss {report.losses[-1]:.3f}"


def test_a_loss_that_is_no_number_stops_the_training() -> None:
    train = load_images(DataConfig(limit=200)).train
    images = train.images.copy()
    images[3] = np.nan
    with pytest.raises(ModelError, match=r"training diverged in epoch 1 \(loss is nan\): lower learning_rate"):
        fit(_network(), ImageSet(images, train.labels), config=FitConfig(epochs=1, batch_size=16))


class _WrongShape(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(5, 10)

    def forward(self, images: Tensor) -> Tensor:
        result: Tensor = self.linear(images.flatten(1))
        return result


def test_a_network_that_does_not_fit_the_images_is_refused_in_one_line() -> None:
    train = load_images(DataConfig(limit=200)).train
    for action in (
        lambda: fit(_WrongShape(), train, config=FitConfig(epochs=1)),
        lambda: accuracy(_WrongShape(), train),
    ):
        with pytest.raises(ModelError, match=r"images of shape \(1, 8, 8\)") as caught:
            action()
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "settings", [{"epochs": 0}, {"learning_rate": 0.0}, {"batch_size": 1}, {"momentum": 1.0}, {"label_smoothing": 1.0}]
)
def test_settings_out_of_range_are_named(settings: dict[str, float]) -> None:
    (name, value) = next(iter(settings.items()))
    with pytest.raises(ConfigError, match=f"{name} is {value}: it must be"):
        FitConfig(**settings)


def test_accuracy_counts_and_does_not_depend_on_the_batches() -> None:
    data = load_images(DataConfig(limit=300))
    network = _network().train()
    wrong = error_count(network, data.train, batch_size=7)
    assert wrong == error_count(network, data.train, batch_size=1000)
    assert accuracy(network, data.train) == 1 - wrong / len(data.train)
    assert (predictions(network, data.train) != data.train.labels).sum() == wrong
    assert network.training
    with pytest.raises(ModelError, match="at least one image"):
        accuracy(network, data.train.take(np.zeros(0, dtype=np.int64)))


def test_bfloat16_is_fast_only_where_the_processor_multiplies_it(monkeypatch: pytest.MonkeyPatch) -> None:
    for capabilities, expected in (
        ({"avx2": True, "avx512_bf16": False, "amx_bf16": False}, torch.float32),
        ({"avx512_bf16": True}, torch.bfloat16),
        ({"amx_bf16": True}, torch.bfloat16),
        ({"architecture": "aarch64"}, torch.float32),
    ):
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda found=capabilities: found)
        assert fast_dtype() is expected


@pytest.mark.data
def test_lenet_learns_mnist(shared_data: Path) -> None:
    folder = shared_data / "mnist"
    data = load_images(DataConfig("parquet", folder / "mnist-train.parquet", folder / "mnist-test.parquet", limit=4000))
    torch.manual_seed(0)
    network = build_model("lenet5", num_classes=10, in_channels=1, image_size=28)
    fit(network, data.train, config=FitConfig(epochs=3, batch_size=32))
    assert accuracy(network, data.test) > 0.94
