"""The whole loop on real MNIST with LeNet-5, as `hwloop init --preset mnist` sets it up, with fewer measurements."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from hwloop.datasets import DataConfig, load_images
from hwloop.study.presets import study_text
from tests.study.killing import finish

SMALLER = {
    "holdout_networks = 30": "holdout_networks = 6",
    "levels = 3": "levels = 2",
    "generations = 12": "generations = 3",
    "networks = 5": "networks = 2",
    "attempts = 3": "attempts = 1",
    "\nepochs = 3": "\nepochs = 1",
}


@pytest.mark.data
@pytest.mark.slow
@pytest.mark.timeout(900)
def test_lenet5_on_mnist_reaches_99_per_cent_and_ends_in_a_measured_front(tmp_path: Path, shared_data: Path) -> None:
    text = study_text("mnist", name="mnist", folder=shared_data / "mnist")
    for before, after in SMALLER.items():
        assert before in text
        text = text.replace(before, after)
    study = tmp_path / "study.toml"
    study.write_text(text)
    result = finish(study, tmp_path / "home")
    base, *front = result["networks"]
    assert base["test_images"] == 10_000
    assert base["test_accuracy"] >= 0.99
    assert front
    train, test = (shared_data / "mnist" / f"mnist-{split}.parquet" for split in ("train", "test"))
    images = load_images(DataConfig(source="parquet", train=train, test=test, validation=5000, seed=0)).test
    for network in result["networks"]:
        session = onnxruntime.InferenceSession(tmp_path / "study" / "models" / f"{network['name']}.onnx")
        logits = session.run(None, {"input": images.images})[0]
        assert int((np.argmax(logits, axis=1) == images.labels).sum()) == network["test_correct"]
