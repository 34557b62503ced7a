"""An ONNX file is read, written, measured and predicted on a machine without torch."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from torch import nn

from hwloop.extraction import export_onnx

REFUSE = """
import sys
from importlib.abc import MetaPathFinder

class Refuse(MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("torch", "torch_pruning"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Refuse())
try:
    import torch
except ModuleNotFoundError:
    pass
else:
    raise SystemExit("the hook does not work")
"""


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "small.onnx"
    module = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(8, 4),
    )
    path.write_bytes(export_onnx(module, (3, 16, 16), fold=True))
    return path


def without_torch(script: str, *arguments: str, folder: Path) -> str:
    done = subprocess.run(
        [sys.executable, "-c", REFUSE + script, *arguments],
        capture_output=True,
        text=True,
        cwd=folder,
        env={**os.environ, "XDG_CACHE_HOME": str(folder / "cache"), "XDG_CONFIG_HOME": str(folder / "config")},
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_a_network_is_read_and_becomes_artifacts_of_every_runtime_that_needs_no_torch(model: Path, tmp_path: Path):
    script = """
from pathlib import Path
from hwloop.errors import HwloopError
from hwloop.extraction import network_from_onnx
from hwloop.runtimes import get_runtime, list_runtimes

data = Path(sys.argv[1]).read_bytes()
network = network_from_onnx(data)
print([layer.op for layer in network.layers], get_runtime("onnxruntime").onnx(data, "small").label)
for name in ("onnxruntime", "litert", "torch"):
    print(name, [get_runtime(name).layer(layer).suffix for layer in network.layers][0])
"""
    lines = without_torch(script, str(model), folder=tmp_path).splitlines()
    assert lines == [
        "['conv', 'global_avg_pool', 'flatten', 'linear'] small",
        "onnxruntime .onnx",
        "litert .tflite",
        "torch .calls",
    ]


def test_its_layers_are_measured_and_it_is_predicted(model: Path, tmp_path: Path):
    script = """
from pathlib import Path
from hwloop.cli.main import main
from hwloop.extraction import network_from_onnx
from hwloop.layers import ScalableNetwork
from hwloop.predictors import NetworkPredictor
from hwloop.tables import LatencyTable

path = sys.argv[1]
sys.argv = ["hwloop", "table", "build", path, "-o", "t.parquet", "--processes", "1"]
try:
    main()
except SystemExit as end:
    assert not end.code, end.code
network = network_from_onnx(Path(path))
predictor = NetworkPredictor(ScalableNetwork(network, []), LatencyTable.load(Path("t.parquet")))
found = predictor.predict([[]])
print("predicted", float(found.latency_ms[0]), found.missing)
"""
    word, total, missing = without_torch(script, str(model), folder=tmp_path).splitlines()[-1].split(" ", 2)
    assert word == "predicted"
    assert 0 < float(total) < 1000
    assert missing == "()"


def test_the_command_line_measures_it_end_to_end(model: Path, tmp_path: Path):
    script = """
from hwloop.cli.main import main

sys.argv = ["hwloop", "measure", sys.argv[1], "--processes", "1", "--json", "-"]
main()
"""
    assert "small" in without_torch(script, str(model), folder=tmp_path)
