"""What is particular to torch: its file format, whole networks, compiling. See test_conformance.py for the rest."""

from __future__ import annotations

import ctypes
import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from hwloop.devices import AgentSession, LocalTransport
from hwloop.errors import ModelError
from hwloop.layers import Layer
from hwloop.runtimes import Artifact, TorchRuntime
from hwloop.runtimes.reference import fed, kept_outputs, layer_outputs
from hwloop.runtimes.torch_calls import MAGIC, to_bfloat16
from hwloop_agent import protocol
from hwloop_agent.runtimes import InvalidArtifactError, UnsupportedError
from hwloop_agent.runtimes.torch_runtime import TorchRuntime as AgentRuntime
from tests.runtimes.here import runner
from tests.timing import QUICK

RUNTIME = TorchRuntime()
CONV = "conv 1x16x8x8>1x32x4x4 k3x3 s2x2 p1,1,1,1 d1x1 g1 bias relu +add float32"


class Net(nn.Module):
    """Every way in which a batch normalisation can stand: foldable, behind a sum, behind a matrix product."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(8)
        self.twice = nn.Conv2d(8, 8, 1)
        self.before = nn.BatchNorm2d(8)
        self.linear = nn.Linear(8, 6, bias=False)
        self.behind = nn.BatchNorm1d(6)
        self.last = nn.Linear(6, 4)
        self.drop = nn.Dropout(0.5)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        maps = torch.relu(self.norm(self.conv(images)))
        maps = self.before(self.twice(self.twice(maps)) + maps)
        return self.last(self.drop(self.behind(self.linear(maps.mean((2, 3))))))


@pytest.fixture
def net() -> Net:
    torch.manual_seed(0)
    made = Net()
    made.train()
    with torch.no_grad():
        for _ in range(2):
            made(torch.randn(8, 3, 8, 8) * 2 + 1)
    return made


def head(artifact: Artifact) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(artifact.data[len(MAGIC) :].split(b"\n", 1)[0])
    return found


def load(artifact: Artifact, path: Path) -> AgentRuntime:
    path.write_bytes(artifact.data)
    runtime = AgentRuntime()
    runtime.prepare(dict(artifact.options))
    runtime.import_()
    runtime.load(str(path), [one.to_spec() for one in artifact.inputs], 1, dict(artifact.options))
    return runtime


@pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
def test_a_module_is_exported_with_folded_normalisations_and_without_dropout(net, layout, tmp_path):
    artifact = TorchRuntime(layout=layout).module(net, (3, 8, 8))
    operators = [call["op"] for call in head(artifact)["calls"]]
    assert operators == [
        *("conv2d.default", "relu.default", "conv2d.default", "conv2d.default", "add.Tensor", "batch_norm.default"),
        *("mean.dim", "linear.default", "linear.default"),
    ]
    assert [call["name"] for call in head(artifact)["calls"] if "." in call["op"] and "conv" in call["op"]] == [
        *("conv", "twice", "twice"),
    ]
    assert net.training
    record = runner(tmp_path)(replace(artifact, extras={"keep_outputs": True}), 1)
    (images,) = fed(artifact)
    with torch.no_grad():
        expected = net.eval()(torch.from_numpy(images)).numpy()
    assert np.abs(kept_outputs(record, artifact)[0] - expected).max() < 1e-5


def test_bfloat16_computes_in_bfloat16(net, tmp_path):
    runtime = load(TorchRuntime(dtype="bfloat16").module(net, (3, 8, 8)), tmp_path / "net")
    assert {one.dtype for one in runtime._graph.buffers()} == {torch.bfloat16}
    assert runtime._feed[0].dtype == torch.bfloat16
    assert runtime.runner()()[0].dtype == torch.bfloat16
    float32 = load(RUNTIME.module(net, (3, 8, 8)), tmp_path / "net")
    (coarse,), (fine,) = runtime.outputs(), float32.outputs()
    assert coarse.max_abs == pytest.approx(fine.max_abs, rel=0.05)
    assert coarse.max_abs != fine.max_abs


def test_channels_last_is_what_the_convolutions_get(net, tmp_path):
    runtime = load(TorchRuntime(layout="channels_last").module(net, (3, 8, 8)), tmp_path / "net")
    images = [one for one in (*runtime._feed, *runtime._graph.buffers()) if one.dim() == 4 and one.shape[2] > 1]
    assert len(images) == 2
    assert all(one.is_contiguous(memory_format=torch.channels_last) and not one.is_contiguous() for one in images)
    layer = load(TorchRuntime(layout="channels_last").layer(Layer.parse(CONV)), tmp_path / "layer")
    assert layer._feed[0].is_contiguous(memory_format=torch.channels_last)
    assert layer.runner()()[0].is_contiguous(memory_format=torch.channels_last)


def test_numpy_rounds_to_bfloat16_as_torch_does():
    values = np.random.default_rng(0).standard_normal(1000).astype(np.float32)
    values[:4] = (1.00390625, 1.01171875, -1.00390625, 0.0)  # ties, which go to the even neighbour
    expected = torch.from_numpy(values).to(torch.bfloat16).view(torch.uint16).numpy()
    assert (to_bfloat16(values) == expected).all()


def test_the_same_module_gives_the_same_bytes_and_no_path_of_this_machine(net):
    data = RUNTIME.module(net, (3, 8, 8)).data
    assert data == RUNTIME.module(net, (3, 8, 8)).data
    assert str(Path(__file__).parent.parent).encode() not in data


def test_several_outputs_and_constants_are_kept(tmp_path):
    class Two(nn.Module):
        def forward(self, x: torch.Tensor) -> dict[str, Any]:
            first, second = x.chunk(2, 1)
            return {"sum": first + second, "rest": [second * 2.0, torch.full((1, 2), 3.0)]}

    runtime = load(RUNTIME.module(Two(), (4,)), tmp_path / "two")
    assert [output.name for output in runtime.outputs()] == ["output_0", "output_1", "output_2"]
    assert runtime.outputs()[2].max_abs == 3.0


def test_a_module_that_cannot_be_exported_is_refused_in_one_line():
    class Branches(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x if x.sum() > 0 else -x

    with pytest.raises(ModelError, match=r"Branches cannot be exported by torch for an input of \(4,\)") as caught:
        RUNTIME.module(Branches(), (4,))
    assert "\n" not in str(caught.value)


def test_onnx_files_are_refused_with_the_way_out():
    with pytest.raises(ModelError, match=r"torch cannot read ONNX files.*package\.module:factory"):
        RUNTIME.onnx(b"", "mine.onnx")


def damaged(**changes: Any) -> bytes:
    good = head(RUNTIME.layer(Layer.parse("relu 1x16>1x16 float32")))
    return MAGIC + json.dumps(good | changes).encode() + b"\n"


@pytest.mark.parametrize(
    ("data", "error", "reason"),
    [
        (b"PK\x03\x04 some archive", InvalidArtifactError, "not a program"),
        (MAGIC + b"{}\n", InvalidArtifactError, "inputs"),
        (damaged(calls=[{"op": "relu.default", "args": [{"value": 7}]}]), InvalidArtifactError, "range"),
        (damaged(calls=[{"op": "from_file.default", "args": ["/etc/passwd"]}]), InvalidArtifactError, "text"),
        (damaged(calls=[{"op": "sum.default", "args": [{"import": "os"}]}]), InvalidArtifactError, "import"),
        (damaged(calls=[{"op": "relu.default", "args": [{"dtype": "ops"}]}]), InvalidArtifactError, "dtype"),
        (damaged(calls=[{"op": "future_attention.default", "args": []}]), UnsupportedError, "no operator aten.future"),
        (damaged(calls=[{"op": "relu.__call__", "args": []}]), UnsupportedError, "no operator"),
        (damaged(tensors=[{"dtype": "float32", "shape": [1 << 20], "offset": 0}]), InvalidArtifactError, "damaged"),
        (damaged(tensors=[{"dtype": "Tensor", "shape": [1], "offset": 0}]), InvalidArtifactError, "tensors are of"),
    ],
)
def test_a_file_computes_and_does_nothing_else(data, error, reason, tmp_path):
    with pytest.raises(error, match=reason):
        load(Artifact(data, ".calls", "torch", ()), tmp_path / "bad")


def test_what_torch_refuses_at_its_first_run_is_unsupported_with_its_words(tmp_path):
    calls = [{"op": "matmul.default", "args": [{"value": 0}, {"value": 0}]}]
    good = RUNTIME.layer(Layer.parse("relu 1x16>1x16 float32"))
    data = damaged(calls=calls)
    with pytest.raises(UnsupportedError, match="mat1 and mat2 shapes cannot be multiplied"):
        load(replace(good, data=data), tmp_path / "bad")


def test_no_compiler_is_unsupported_with_the_reason(monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(UnsupportedError, match=r"C\+\+ compiler, and none is here"):
        AgentRuntime().prepare(dict(TorchRuntime(mode="compiled").layer(Layer.parse(CONV)).options))


FAULTS_PER_RUN = """
import json, resource, statistics, sys
from hwloop_agent.runtimes.torch_runtime import TorchRuntime

runtime = TorchRuntime()
runtime.prepare({})
runtime.import_()
runtime.load(sys.argv[1], json.loads(sys.argv[2]), 1, {})
run = runtime.runner()
faults = []
for _ in range(25):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    run()
    faults.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
print(statistics.median(faults), runtime.settings()["freed_memory_kept"])
"""


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallopt"), reason="another C library than glibc")
def test_an_inference_does_not_fetch_its_memory_anew_from_the_system(tmp_path):
    # Outputs of 8 and 16 MB, and nothing behind them in the heap: as they are, they would go back after every run.
    # The median, because the heap may still grow once when a run finds it cut up otherwise.
    convolutions = nn.Sequential(nn.Conv2d(3, 32, 1), nn.ReLU(), nn.Conv2d(32, 64, 1)).eval()
    artifact = RUNTIME.module(convolutions, (3, 256, 256))
    path = tmp_path / "large.calls"
    path.write_bytes(artifact.data)
    feed = json.dumps([one.to_spec() for one in artifact.inputs])
    command = [sys.executable, "-c", FAULTS_PER_RUN, str(path), feed]
    found = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    faults, kept = found.stdout.split()
    assert kept == "True"
    assert float(faults) < 100


def test_a_profile_names_every_call_in_order_and_its_module(net, tmp_path):
    runtime = load(RUNTIME.module(net, (3, 8, 8)), tmp_path / "net")
    runtime.start_profile(str(tmp_path))
    run = runtime.runner()
    for _ in range(3):
        (output,) = run()
    assert torch.equal(output, runtime._graph(*runtime._feed)[0])
    found = runtime.profile()
    assert found["runs"] == 3
    assert [(row["name"], row["op"]) for row in found["rows"]][:4] == [
        *(("conv", "aten::conv2d"), ("relu", "aten::relu"), ("twice", "aten::conv2d"), ("twice", "aten::conv2d")),
    ]
    assert all(row["ns"] > 0 and row["calls"] == 1 for row in found["rows"])


def test_a_compiled_program_has_no_profile(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # where the compiler's cache goes
    for name in ("CXX", "TORCHINDUCTOR_CACHE_DIR", "TORCHINDUCTOR_COMPILE_THREADS", "TMPDIR"):
        monkeypatch.setenv(name, "")  # put back what the runtime sets
    runtime = AgentRuntime()
    runtime.prepare({"mode": "compiled"})
    with pytest.raises(UnsupportedError, match="no profile"):
        runtime.start_profile(str(tmp_path))


@pytest.mark.slow
def test_a_layer_is_compiled_by_a_real_agent_below_its_own_folder(tmp_path):
    layer = Layer.parse("conv 1x16x8x8>1x16x8x8 k3x3 s1x1 p1,1,1,1 d1x1 g1 bias relu float32")
    artifact = replace(TorchRuntime(mode="compiled").layer(layer), extras={"keep_outputs": True})
    with AgentSession.open(LocalTransport(), session_id="s1", root=tmp_path / "root") as session:
        session.put_artifact(artifact.data, artifact.sha256, artifact.suffix)
        spec = {**artifact.trial_spec(), "threads": 1, "timing": QUICK, "replicate": 0}
        record = session.run_trial(protocol.trial_id(spec), spec)
        cache = list((tmp_path / "root").rglob("torchinductor/*"))
    assert record["status"] in ("ok", "degraded"), record
    settings = record["runtime"]["settings"]
    assert settings["mode"] == "compiled"
    assert settings["compiling_s"] > 0
    assert settings["compiler"] == next(filter(None, map(shutil.which, ("g++", "clang++", "c++"))))
    assert cache, "the compiler's cache lies elsewhere"
    expected = layer_outputs(layer, 0, fed(artifact))
    assert np.abs(kept_outputs(record, artifact)[0] - expected).max() < 1e-4
