"""Networks that hwloop cannot write itself, through litert-torch; and what is said where that is not installed."""

from __future__ import annotations

import sys

import numpy as np
import pytest
import torch
from torch import nn

from hwloop.errors import ModelError
from hwloop.runtimes import get_runtime
from tests.runtimes.running import interpreter_of

RUNTIME = get_runtime("litert")


class Wave(nn.Module):
    """A sine, which no layer of hwloop is, between two convolutions; gives classes and maps."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.a, self.b = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 5, 1)
        self.drop = nn.Dropout()

    def forward(self, images):
        maps = self.b(torch.sin(self.drop(self.a(images))))
        return maps.mean((2, 3)), maps


@pytest.mark.slow  # torch.export, JAX and MLIR take their time
def test_a_network_with_an_unknown_operator_goes_through_the_converter(tmp_path):
    pytest.importorskip("litert_torch", reason="the converter is not installed (make extras)")
    module = Wave().train()
    artifact = RUNTIME.module(module, (3, 8, 6))
    assert module.training  # left as it was
    assert module.drop.training
    assert artifact.layout == "NHWC"
    (fed,) = artifact.inputs
    assert fed.shape == (1, 8, 6, 3)
    images = torch.randn(1, 3, 8, 6)
    interpreter = interpreter_of(artifact, {fed.name: np.ascontiguousarray(images.permute(0, 2, 3, 1).numpy())})
    interpreter.invoke()
    classes, maps = (interpreter.get_tensor(one["index"]) for one in interpreter.get_output_details())
    with torch.no_grad():
        wanted = module.eval()(images)
    np.testing.assert_allclose(classes, wanted[0].numpy(), atol=1e-4)
    np.testing.assert_allclose(maps.transpose(0, 3, 1, 2), wanted[1].numpy(), atol=1e-4)

    again = RUNTIME.file(artifact.data, "wave.tflite")
    assert again.inputs == artifact.inputs
    assert again.data == artifact.data


def test_without_the_converter_both_reasons_and_the_extra_are_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "litert_torch", None)
    with pytest.raises(ModelError, match=r"Wave cannot be written.*Sin.*litert-torch.*hwloop\[tflite-converter\]"):
        RUNTIME.module(Wave(), (3, 8, 6))


def test_an_onnx_file_with_an_unknown_operator_never_goes_through_the_converter():
    from hwloop.extraction import export_onnx

    with pytest.raises(ModelError, match=r"wave.onnx cannot be written.*Sin"):
        RUNTIME.onnx(export_onnx(Classes(), (3, 8, 6), fold=True), "wave.onnx")


class Classes(Wave):
    def forward(self, images):
        return super().forward(images)[0]


@pytest.mark.parametrize(
    "damage", [b"", b"nonsense of some length", b"\x1c\x00\x00\x00TFL3\x00\x00", b"\xff\xff\x00\x00TFL3"]
)
def test_a_file_that_is_no_model_is_refused(damage):
    with pytest.raises(ModelError, match=r"mine\.tflite"):
        RUNTIME.file(damage, "mine.tflite")


def test_a_file_is_measured_as_it_is():
    from hwloop.layers import Layer

    layer = RUNTIME.layer(Layer.parse("linear 1x400>1x120 bias relu float32"))
    artifact = RUNTIME.file(layer.data, "mine.tflite")
    assert (artifact.data, artifact.inputs) == (layer.data, layer.inputs)
    with pytest.raises(ModelError, match="as it is"):
        get_runtime("litert:int8").file(layer.data, "mine.tflite")
    whole = get_runtime("litert:int8").layer(Layer.parse("linear 1x400>1x120 bias relu float32"))
    assert [one.dtype for one in RUNTIME.file(whole.data, "int8.tflite").inputs] == ["float32"]  # real numbers
