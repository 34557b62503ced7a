"""Every source of images is read, and its faults are named with file and row."""

import io
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from hwloop.datasets import DataConfig, load_images
from hwloop.errors import DataError

_PLAIN = {"mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0), "validation": 4}


def _colour(count: int, size: int = 6) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, size, size, 3), dtype=np.uint8)


def _png(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="PNG")
    return buffer.getvalue()


def _parquet(path: Path, images: object, labels: object, metadata: dict[str, str] | None = None) -> Path:
    table = pa.table({"image": images, "label": labels}).replace_schema_metadata(metadata)
    pq.write_table(table, path, row_group_size=7)
    return path


def _all_pixels(data: object) -> set[bytes]:
    return {
        np.rint(image * 255).astype(np.uint8).tobytes()
        for part in (data.train, data.validation, data.test)
        for image in part.images
    }


def test_parquet_files_give_the_pixels_that_were_written(tmp_path: Path) -> None:
    pixels, labels = _colour(30), [index % 3 for index in range(30)]
    encoded = [_png(image) for image in pixels]
    nested = pa.array([{"bytes": cell, "path": "x"} for cell in encoded])
    plain = load_images(DataConfig("parquet", _parquet(tmp_path / "plain.parquet", encoded, labels), **_PLAIN))
    hugging = load_images(DataConfig("parquet", _parquet(tmp_path / "nested.parquet", nested, labels), **_PLAIN))
    assert _all_pixels(plain) == {image.transpose(2, 0, 1).tobytes() for image in pixels}
    assert np.array_equal(plain.train.images, hugging.train.images)
    assert plain.classes == ("0", "1", "2")


def test_class_names_come_from_the_schema(tmp_path: Path) -> None:
    encoded, labels = [_png(image) for image in _colour(12)], [index % 2 for index in range(12)]
    features = {"info": {"features": {"label": {"names": ["cat", "dog"], "_type": "ClassLabel"}}}}
    for metadata in ({"classes": "cat,dog"}, {"huggingface": json.dumps(features)}):
        path = _parquet(tmp_path / "named.parquet", encoded, labels, metadata)
        assert load_images(DataConfig("parquet", path, **_PLAIN)).classes == ("cat", "dog")


def test_labels_may_be_names(tmp_path: Path) -> None:
    path = _parquet(tmp_path / "names.parquet", [_png(image) for image in _colour(12)], ["dog", "ant", "cat"] * 4)
    data = load_images(DataConfig("parquet", path, **_PLAIN))
    assert data.classes == ("ant", "cat", "dog")
    assert set(data.train.labels.tolist()) == {0, 1, 2}


def test_one_colour_image_makes_grey_ones_colour(tmp_path: Path) -> None:
    colour, grey = _colour(12), np.full((6, 6), 77, dtype=np.uint8)
    encoded = [_png(grey), *(_png(image) for image in colour[1:])]
    path = _parquet(tmp_path / "mixed.parquet", encoded, [0, 1] * 6)
    assert np.full((3, 6, 6), 77, dtype=np.uint8).tobytes() in _all_pixels(
        load_images(DataConfig("parquet", path, **_PLAIN))
    )


@pytest.mark.parametrize(
    ("images", "labels", "message"),
    [
        ([b"no image"], [0], "row 0: not a readable image"),
        ([_png(_colour(1)[0])[:60]], [0], "row 0: not a readable image"),
        (pa.array([None], pa.binary()), [0], "row 0: the image is empty"),
        ([_png(_colour(1, 6)[0]), _png(_colour(1, 7)[0])], [0, 0], "row 1: the image is 7x7.*set image_size"),
        ([_png(_colour(1)[0])], [-1], "row 0: label -1 is outside"),
        ([_png(_colour(1)[0])], [0.5], "whole numbers or names are needed"),
        (["text"], [0], "holds string, not the bytes of images"),
        ([_png(_colour(1)[0])], pa.array([None], pa.int64()), "1 empty labels"),
    ],
)
def test_faults_of_parquet_files_are_named(tmp_path: Path, images: object, labels: object, message: str) -> None:
    path = _parquet(tmp_path / "bad.parquet", images, labels)
    with pytest.raises(DataError, match=message) as caught:
        load_images(DataConfig("parquet", path))
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_labels_beyond_the_named_classes_are_refused_by_row(tmp_path: Path) -> None:
    path = _parquet(tmp_path / "bad.parquet", [_png(i) for i in _colour(3)], [0, 1, 2], {"classes": "cat,dog"})
    with pytest.raises(DataError, match=r"row 2: label 2 is outside the 2 classes \(0 to 1\)"):
        load_images(DataConfig("parquet", path))


def test_missing_columns_and_files_are_named(tmp_path: Path) -> None:
    pq.write_table(pa.table({"picture": [b""], "label": [0]}), tmp_path / "p.parquet")
    with pytest.raises(DataError, match=r"no image column \('image' or 'img'\); the file has picture, label"):
        load_images(DataConfig("parquet", tmp_path / "p.parquet"))
    with pytest.raises(DataError, match=r"no label column \('klass'\)"):
        load_images(DataConfig("parquet", tmp_path / "p.parquet", image_column="picture", label_column="klass"))
    with pytest.raises(DataError, match=r"absent\.parquet: no such file"):
        load_images(DataConfig("parquet", tmp_path / "absent.parquet"))
    (tmp_path / "text.parquet").write_text("no parquet")
    with pytest.raises(DataError, match="not a readable Parquet file"):
        load_images(DataConfig("parquet", tmp_path / "text.parquet"))
    with pytest.raises(DataError, match=r"absent\.parquet: no such file"):
        load_images(DataConfig("parquet", tmp_path / "p.parquet", tmp_path / "absent.parquet"))


def _folder(root: Path, classes: dict[str, int]) -> Path:
    pixels = iter(_colour(sum(classes.values())))
    for name, count in classes.items():
        (root / name).mkdir(parents=True)
        for index in range(count):
            Image.fromarray(next(pixels)).save(root / name / f"{index}.png")
    return root


def test_folders_give_one_class_each(tmp_path: Path) -> None:
    root = _folder(tmp_path / "train", {"dog": 8, "ant": 8})
    (root / "ant" / ".hidden").write_text("x")
    (root / "ant" / "notes.txt").write_text("x")
    test = _folder(tmp_path / "test", {"dog": 3})
    data = load_images(DataConfig("folder", root, test, **_PLAIN))
    assert data.classes == ("ant", "dog")
    assert len(data.train) + len(data.validation) == 16
    assert data.test.labels.tolist() == [1, 1, 1]


def test_faults_of_folders_are_named(tmp_path: Path) -> None:
    root = _folder(tmp_path / "train", {"ant": 4, "dog": 4})
    with pytest.raises(DataError, match="absent: no such folder"):
        load_images(DataConfig("folder", tmp_path / "absent"))
    with pytest.raises(DataError, match=r"other/elk: the training data have no class 'elk'"):
        load_images(DataConfig("folder", root, _folder(tmp_path / "other", {"elk": 1})))
    (root / "ant" / "2.png").write_bytes(b"broken")
    with pytest.raises(DataError, match=r"train/ant/2\.png: not a readable image"):
        load_images(DataConfig("folder", root))
    (root / "elk").mkdir()
    with pytest.raises(DataError, match="elk: holds no image files"):
        load_images(DataConfig("folder", root))
    with pytest.raises(DataError, match="has no subfolders"):
        load_images(DataConfig("folder", root / "elk"))


@pytest.mark.parametrize("layout", ["nhw", "nhwc", "nchw", "float"])
@pytest.mark.parametrize("keys", [("x_train", "y_train"), ("train_images", "train_labels"), ("images", "labels")])
def test_npz_files_of_every_layout_give_the_pixels(tmp_path: Path, layout: str, keys: tuple[str, str]) -> None:
    pixels = _colour(20)
    images = {
        "nhw": pixels[..., 0],
        "nhwc": pixels,
        "nchw": pixels.transpose(0, 3, 1, 2),
        "float": (pixels / 255).astype(np.float64),
    }[layout]
    np.savez(tmp_path / "data.npz", **{keys[0]: images, keys[1]: (np.arange(20) % 2)[:, None]})
    channels = 1 if layout == "nhw" else 3
    data = load_images(
        DataConfig("npz", tmp_path / "data.npz", mean=(0.0,) * channels, std=(1.0,) * channels, validation=4)
    )
    expected = pixels[..., :1] if layout == "nhw" else pixels
    assert _all_pixels(data) == {image.transpose(2, 0, 1).tobytes() for image in expected}


def test_the_test_part_of_an_npz_file_is_used(tmp_path: Path) -> None:
    np.savez(
        tmp_path / "data.npz",
        x_train=_colour(20),
        y_train=np.arange(20) % 2,
        x_test=_colour(5),
        y_test=np.array([0, 1, 1, 0, 1]),
    )
    assert load_images(DataConfig("npz", tmp_path / "data.npz")).test.labels.tolist() == [0, 1, 1, 0, 1]


def test_faults_of_npz_files_are_named(tmp_path: Path) -> None:
    path = tmp_path / "data.npz"
    for arrays, message in (
        ({"pictures": _colour(4)}, "has pictures; needed is one of x_train/y_train"),
        ({"x": _colour(4), "y": np.arange(3)}, "4 images in x and 3 labels in y"),
        ({"x": np.zeros((4, 5)), "y": np.arange(4)}, r"shape \(4, 5\) is none of"),
        ({"x": np.zeros((4, 5, 5), dtype=np.int32), "y": np.arange(4)}, "give uint8"),
        ({"x": np.full((4, 5, 5), np.nan), "y": np.arange(4)}, "not finite"),
        ({"x": _colour(4), "y": np.eye(4)}, r"labels have shape \(4, 4\)"),
        ({"x": np.array([{}, {}]), "y": np.arange(2)}, "not a readable .npz file of plain arrays"),
    ):
        np.savez(path, **arrays)
        with pytest.raises(DataError, match=message) as caught:
            load_images(DataConfig("npz", path))
        assert "\n" not in str(caught.value)
    path.write_bytes(b"PK nothing")
    with pytest.raises(DataError, match="not a readable"):
        load_images(DataConfig("npz", path))
    with pytest.raises(DataError, match=r"absent\.npz: no such file"):
        load_images(DataConfig("npz", tmp_path / "absent.npz"))


def test_test_images_of_another_shape_are_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x=_colour(20), y=np.arange(20) % 2)
    np.savez(tmp_path / "b.npz", x=_colour(20, 9), y=np.arange(20) % 2)
    with pytest.raises(DataError, match=r"b\.npz: images of shape \(3, 9, 9\), the training images have \(3, 6, 6\)"):
        load_images(DataConfig("npz", tmp_path / "a.npz", tmp_path / "b.npz"))


@pytest.mark.data
def test_mnist_is_read_whole(shared_data: Path) -> None:
    folder = shared_data / "mnist"
    data = load_images(
        DataConfig("parquet", folder / "mnist-train.parquet", folder / "mnist-test.parquet", validation=5000)
    )
    assert (len(data.train), len(data.validation), len(data.test)) == (55_000, 5_000, 10_000)
    assert data.input_shape == (1, 28, 28)
    assert data.mean[0] == pytest.approx(0.1307, abs=1e-3)  # the figures that everybody uses for MNIST
    assert data.std[0] == pytest.approx(0.3081, abs=1e-3)


@pytest.mark.data
def test_cifar_jpegs_are_read_in_colour(shared_data: Path) -> None:
    folder = shared_data / "cifar10"
    data = load_images(
        DataConfig("parquet", folder / "cifar10-train.parquet", folder / "cifar10-test.parquet", limit=500)
    )
    assert data.input_shape == (3, 32, 32)
    assert data.classes[:2] == ("airplane", "automobile")
    assert np.bincount(data.test.labels).tolist() == [50] * 10
