"""Data are split, normalised and identified the same way every time."""

from pathlib import Path

import numpy as np
import pytest

from hwloop.datasets import DataConfig, ImageData, load_images, require_outputs
from hwloop.errors import DataError


def _same(one: ImageData, other: ImageData) -> bool:
    return all(
        np.array_equal(getattr(one, part).images, getattr(other, part).images)
        and np.array_equal(getattr(one, part).labels, getattr(other, part).labels)
        for part in ("train", "validation", "test")
    )


def test_digits_are_split_by_class_and_normalised_on_the_training_split() -> None:
    data = load_images(DataConfig(validation=0.2, test_fraction=0.25))
    assert (len(data.train), len(data.validation), len(data.test)) == (1078, 270, 449)
    assert data.input_shape == (1, 8, 8)
    assert data.classes == tuple("0123456789")
    for part in (data.train, data.validation, data.test):
        counts = np.bincount(part.labels, minlength=10)
        assert counts.min() >= 0.9 * counts.max()
        assert part.images.dtype == np.float32
    assert data.train.images.mean() == pytest.approx(0, abs=1e-5)
    assert data.train.images.std() == pytest.approx(1, abs=1e-5)
    assert 0 < data.mean[0] < 1


def test_no_image_is_in_two_splits_and_none_is_lost() -> None:
    data = load_images(DataConfig(mean=(0.0,), std=(1.0,)))
    rows = [
        row.tobytes() + bytes([label])
        for part in (data.train, data.validation, data.test)
        for row, label in zip(part.images, part.labels.astype(np.uint8), strict=True)
    ]
    assert len(rows) == len(set(rows)) == 1797


def test_the_same_configuration_gives_the_same_data_and_another_seed_others() -> None:
    first, again = load_images(DataConfig(seed=3)), load_images(DataConfig(seed=3))
    assert _same(first, again)
    assert first.fingerprint == again.fingerprint
    other = load_images(DataConfig(seed=4))
    assert not _same(first, other)
    assert first.fingerprint != other.fingerprint


def test_the_fingerprint_changes_with_the_pixels_and_the_normalisation(tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (40, 6, 6), dtype=np.uint8)
    labels = np.arange(40) % 4

    def fingerprint(**settings: object) -> str:
        np.savez(tmp_path / "data.npz", images=images, labels=labels)
        return load_images(DataConfig("npz", tmp_path / "data.npz", **settings)).fingerprint

    first = fingerprint()
    assert first == fingerprint()
    assert first != fingerprint(mean=(0.5,))
    images[7, 0, 0] ^= 1
    assert first != fingerprint()


def test_given_mean_and_deviation_are_used() -> None:
    plain = load_images(DataConfig(mean=(0.0,), std=(1.0,)))
    shifted = load_images(DataConfig(mean=(0.5,), std=(0.25,)))
    assert plain.train.images.min() == 0
    assert plain.train.images.max() == 1
    assert np.allclose(shifted.train.images, (plain.train.images - 0.5) / 0.25, atol=1e-6)


def test_image_size_resizes() -> None:
    data = load_images(DataConfig(image_size=28, limit=50, mean=(0.0,), std=(1.0,)))
    assert data.input_shape == (1, 28, 28)
    assert 0.9 < data.train.images.max() <= 1


def test_a_limit_takes_equally_of_each_class() -> None:
    data = load_images(DataConfig(limit=100, validation=10, test_fraction=0.2))
    assert (len(data.train), len(data.validation), len(data.test)) == (70, 10, 20)
    assert np.bincount(data.test.labels, minlength=10).tolist() == [2] * 10


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"source": "tape"}, "data source 'tape' is unknown: it can be digits, folder, npz, parquet"),
        ({"source": "parquet"}, "needs a path: set train"),
        ({"train": Path("x")}, "bundled and reads no files"),
        ({"validation": 1.5}, "validation is 1.5"),
        ({"validation": 0}, "at least one image must be held out"),
        ({"test_fraction": 0.0}, "test_fraction is 0.0"),
        ({"image_size": 0}, "image_size is 0"),
        ({"std": (0.0,)}, "every channel needs a positive value"),
        ({"mean": (0.1, 0.2)}, "mean has 2 values and the images have 1 channels"),
        ({"validation": 5000}, "validation takes 5000 of 1438 images"),
    ],
)
def test_settings_that_make_no_sense_are_refused_in_one_line(settings: dict[str, object], message: str) -> None:
    with pytest.raises(DataError, match=message) as caught:
        load_images(DataConfig(**settings))
    assert "\n" not in str(caught.value)


def test_a_network_with_another_number_of_outputs_is_refused() -> None:
    require_outputs(("a", "b"), 2)
    with pytest.raises(DataError, match="2 classes and the network 10 outputs"):
        require_outputs(("a", "b"), 10)
