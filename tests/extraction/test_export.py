from __future__ import annotations

import subprocess
import sys
import warnings

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import nn

from hwloop.errors import ModelError
from hwloop.extraction import export_onnx


def run(model: bytes, images: np.ndarray) -> np.ndarray:
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    assert [one.name for one in session.get_inputs()] == ["input"]
    assert [one.name for one in session.get_outputs()] == ["output"]
    return session.run(None, {"input": images})[0]


def settle(module, shape):
    """Give batch normalisations statistics other than 0 and 1."""
    module.train()
    with torch.no_grad():
        for _ in range(3):
            module(torch.randn(8, *shape) * 2 + 1)
    return module.eval()


@pytest.mark.parametrize("fold", [False, True])
def test_the_model_computes_what_the_module_computes_for_any_batch(net, fold):
    _, module, shape = net
    settle(module, shape)
    model = export_onnx(module, shape, fold=fold)
    for batch in (1, 5):
        images = torch.randn(batch, *shape)
        with torch.no_grad():
            expected = module(images).numpy()
        np.testing.assert_allclose(run(model, images.numpy()), expected, atol=1e-5)


def test_folding_removes_batch_normalisation_and_not_folding_keeps_it_under_its_name(build_net):
    module, shape = build_net("vgg")
    kept = onnx.load_model_from_string(export_onnx(module, shape, fold=False))
    folded = onnx.load_model_from_string(export_onnx(module, shape, fold=True))
    assert [node.op_type for node in kept.graph.node].count("BatchNormalization") == 4
    assert "BatchNormalization" not in [node.op_type for node in folded.graph.node]
    named = {name for node in kept.graph.node for name in node.input} | {t.name for t in kept.graph.initializer}
    assert set(dict(module.named_parameters())) <= named


def test_the_module_is_left_as_it_was(build_net):
    module, shape = build_net("residual projection")
    module.train()
    module.layer1.eval()  # somebody froze a part
    flags = [part.training for part in module.modules()]
    state = {name: value.clone() for name, value in module.state_dict().items()}
    gradients = [parameter.requires_grad for parameter in module.parameters()]
    export_onnx(module, shape, fold=True)
    export_onnx(module, shape, fold=False)
    assert [part.training for part in module.modules()] == flags
    assert all(torch.equal(value, state[name]) for name, value in module.state_dict().items())
    assert [parameter.requires_grad for parameter in module.parameters()] == gradients


def test_the_module_is_left_as_it_was_when_the_export_fails():
    class Broken(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 3)

        def forward(self, x):
            raise RuntimeError("no\nluck")

    module = Broken().train()
    with pytest.raises(ModelError, match=r"Broken cannot be exported.*no luck") as caught:
        export_onnx(module, (3, 8, 8), fold=True)
    assert "\n" not in str(caught.value)
    assert module.training


def test_an_input_that_does_not_fit_is_named(build_net):
    module, _ = build_net("lenet")
    with pytest.raises(ModelError, match=r"LeNet.*\(3, 28, 28\)"):
        export_onnx(module, (3, 28, 28), fold=True)


def test_dropout_is_gone_and_no_warning_leaks(build_net, capfd):
    module, shape = build_net("lenet")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = onnx.load_model_from_string(export_onnx(module, shape, fold=False))
    assert "Dropout" not in [node.op_type for node in model.graph.node]
    assert capfd.readouterr() == ("", "")


def test_equal_modules_give_equal_bytes_in_any_process(build_net, tmp_path):
    script = tmp_path / "export.py"
    script.write_text(
        "import hashlib, torch\n"
        "from torch import nn\n"
        "from hwloop.extraction import export_onnx\n"
        "torch.manual_seed(0)\n"
        "module = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(288, 4))\n"
        "for fold in (False, True):\n"
        "    for _ in range(2):\n"
        "        model = export_onnx(module, (3, 8, 8), fold=fold, metadata={'b': '2', 'a': '1'})\n"
        "        print(fold, hashlib.sha256(model).hexdigest())\n"
    )
    lines = [
        subprocess.run([sys.executable, script], capture_output=True, text=True, check=True).stdout.splitlines()
        for _ in range(2)
    ]
    assert lines[0] == lines[1]
    assert len(set(lines[0])) == 2


def test_metadata_is_written_and_changes_nothing_else(build_net):
    module, shape = build_net("lenet")
    plain = onnx.load_model_from_string(export_onnx(module, shape, fold=True))
    told = onnx.load_model_from_string(export_onnx(module, shape, fold=True, metadata={"accuracy": "0.99", "by": "me"}))
    assert {entry.key: entry.value for entry in told.metadata_props} == {"accuracy": "0.99", "by": "me"}
    assert told.graph == plain.graph
    assert plain.opset_import[0].version == 17
    assert plain.graph.input[0].type.tensor_type.shape.dim[0].dim_param == "batch"
