"""Networks in fewer bits: they stay small and the same in any process, and keep torch's classes on real images."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from ai_edge_litert.interpreter import Interpreter
from torch import nn
from torch.nn import functional as F  # noqa: N812 - as everybody calls it

from hwloop.datasets import DataConfig, load_images
from hwloop.errors import UserError
from hwloop.models import build_model, load_weights
from hwloop.runtimes import Artifact, get_runtime
from hwloop_agent.runtimes import litert_runtime

BITS = {"float16": (0.6, 1.0), "int8": (0.4, 0.95), "int8_dynamic": (0.4, 0.95)}
"""Of each precision: the largest size, as a share of the float32 model's, and the smallest agreement."""


class Digits(nn.Module):
    """Two convolutions and two linear layers, trained in a second."""

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Conv2d(1, 16, 3, padding=1), nn.Conv2d(16, 32, 3, stride=2, padding=1)
        self.bn = nn.BatchNorm2d(16)
        self.fc1, self.fc2 = nn.Linear(32 * 4 * 4, 64), nn.Linear(64, 10)

    def forward(self, images):
        maps = F.relu(self.b(F.relu(self.bn(self.a(images)))))
        return self.fc2(F.relu(self.fc1(maps.flatten(1))))


@pytest.fixture(scope="module")
def trained():
    torch.manual_seed(0)
    data = load_images(DataConfig(source="digits"))
    module = Digits()
    optimiser = torch.optim.Adam(module.parameters(), 3e-3)
    images, labels = torch.as_tensor(data.train.images), torch.as_tensor(data.train.labels)
    for _ in range(6):
        for rows in torch.randperm(len(labels)).split(64):
            optimiser.zero_grad()
            F.cross_entropy(module(images[rows]), labels[rows]).backward()
            optimiser.step()
    return module.eval(), np.asarray(data.train.images[:128], np.float32), np.asarray(data.test.images, np.float32)


def classes(artifact: Artifact, images: np.ndarray) -> np.ndarray:
    """The class of each image (n, c, h, w), the images quantised as the agent does it."""
    interpreter = Interpreter(model_content=artifact.data, num_threads=1)
    interpreter.allocate_tensors()
    (taken,), (given,) = interpreter.get_input_details(), interpreter.get_output_details()
    found = []
    for image in images:
        values = np.ascontiguousarray(image[np.newaxis].transpose(0, 2, 3, 1))
        if litert_runtime.is_quantised(taken):
            values = litert_runtime.quantised(values, taken)
        interpreter.set_tensor(taken["index"], values)
        interpreter.invoke()
        found.append(litert_runtime.real_numbers(interpreter.get_tensor(given["index"]), given)[0].argmax())
    return np.array(found)


def torch_classes(module: nn.Module, images: np.ndarray) -> np.ndarray:
    with torch.no_grad():
        return module(torch.from_numpy(images)).argmax(1).numpy()


@pytest.mark.parametrize("precision", BITS)
def test_a_trained_network_keeps_its_classes_in_fewer_bits(precision, trained, tmp_path):
    module, some, images = trained
    share, agreement = BITS[precision]
    np.save(tmp_path / "some.npy", some)
    plain = get_runtime("litert").module(module, (1, 8, 8))
    calibration = str(tmp_path / "some.npy") if precision == "int8" else ""
    artifact = get_runtime("litert", precision=precision, calibration=calibration).module(module, (1, 8, 8))
    assert len(artifact.data) < share * len(plain.data)
    wanted = torch_classes(module, images)
    assert len(set(wanted)) == 10  # it has learned something
    assert (classes(plain, images) == wanted).all()
    assert (classes(artifact, images) == wanted).mean() >= agreement


@pytest.mark.parametrize("precision", BITS)
def test_the_same_network_gives_the_same_bytes(precision, trained):
    runtime = get_runtime("litert", precision=precision)
    assert runtime.module(trained[0], (1, 8, 8)).sha256 == runtime.module(trained[0], (1, 8, 8)).sha256


def test_real_images_give_other_ranges_than_drawn_ones(trained, tmp_path):
    module, some, _ = trained
    np.save(tmp_path / "some.npy", 3 * some)
    drawn = get_runtime("litert:int8").module(module, (1, 8, 8))
    seen = get_runtime("litert", precision="int8", calibration=str(tmp_path / "some.npy")).module(module, (1, 8, 8))
    assert drawn.sha256 != seen.sha256
    assert drawn.trial_spec()["options"] == {"precision": "int8"}


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        (np.zeros((4, 3, 8, 8), np.float32), r"do not fit the network's inputs"),
        (np.zeros((4, 8, 8), np.float32), r"holds float32 \(4, 8, 8\)"),
        (np.zeros((4, 1, 8, 8), np.uint8), "holds uint8"),
        (None, "cannot be read"),
    ],
)
def test_calibration_data_that_do_not_fit_are_refused(values, reason, trained, tmp_path):
    path = tmp_path / "some.npy"
    if values is not None:
        np.save(path, values)
    with pytest.raises(UserError, match=reason):
        get_runtime("litert", precision="int8", calibration=str(path)).module(trained[0], (1, 8, 8))


@pytest.mark.data
def test_resnet20_keeps_its_classes_on_cifar_in_fewer_bits(shared_data: Path, tmp_path: Path):
    module = build_model("resnet20", num_classes=10, in_channels=3)
    load_weights(module, shared_data / "weights" / "resnet20-jpeg.pt")
    folder = shared_data / "cifar10"
    files = (folder / "cifar10-train.parquet", folder / "cifar10-test.parquet")
    data = load_images(DataConfig("parquet", *files, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225), limit=400))
    images = np.asarray(data.test.images[:200], np.float32)
    np.save(tmp_path / "some.npy", np.asarray(data.train.images[:64], np.float32))
    wanted = torch_classes(module.eval(), images)
    for precision, (_, agreement) in BITS.items():
        calibration = str(tmp_path / "some.npy") if precision == "int8" else ""
        runtime = get_runtime("litert", precision=precision, calibration=calibration)
        agreed = (classes(runtime.module(module, (3, 32, 32)), images) == wanted).mean()
        assert agreed >= agreement - 0.05, (precision, agreed)
