"""What is particular to TVM: kernels, whole networks, cross-compiling, the agent. See test_conformance.py too."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import helper
from torch import nn

from hwloop.devices import AgentSession, LocalTransport
from hwloop.errors import ModelError, UserError
from hwloop.extraction import export_onnx
from hwloop.layers import Layer
from hwloop.models import build_model, settle
from hwloop.runtimes import Artifact, TvmRuntime
from hwloop.runtimes.reference import fed, kept_outputs, module_outputs
from hwloop.runtimes.tvm import DeviceTimer, Effort, Records, extra, host_target, kernels, target_from_facts
from hwloop.runtimes.tvm.layers import task_of
from hwloop.runtimes.tvm.schedule import Schedule, VectorUnit, candidates
from hwloop.runtimes.tvm.task import ConvTask, DenseTask, Epilogue, Task
from hwloop_agent import protocol
from hwloop_agent.runtimes import InvalidArtifactError, UnsupportedError
from hwloop_agent.runtimes.tvm_runtime import TvmRuntime as AgentRuntime
from tests.runtimes.here import runner
from tests.timing import QUICK

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("tvm") is None, reason="the extra hwloop[tvm] is not installed: make extras"
)

CONV = "conv 1x8x16x16>1x16x16x16 k3x3 s1x1 p1,1,1,1 d1x1 g1 bias relu float32"
PI4 = {"arch": "aarch64", "cpu_implementer": "0x41", "cpu_part": "0xd08"}
ALL = Epilogue(bias=True, residual=True, slope=0.1, high=2.0)


@pytest.fixture
def runtime() -> TvmRuntime:
    return TvmRuntime(records=None)


def computed(task: Task, schedule: Schedule, lanes: int) -> tuple[np.ndarray, np.ndarray]:
    """What the kernel gives and what torch gives; the output begins as NaN, so that every value must be written."""
    tvm, target = extra.load(), host_target()
    random = np.random.default_rng(0)
    convolution = isinstance(task, ConvTask)
    source = random.standard_normal(task.input_shape, dtype=np.float32)
    weight = random.standard_normal(task.weight_shape, dtype=np.float32) / 4
    bias = random.standard_normal(task.filters if convolution else task.columns, dtype=np.float32)
    residual = random.standard_normal(task.output_shape, dtype=np.float32)
    arrays = [source, kernels.pack(task, schedule, lanes, weight)]
    arrays += [bias] if task.epilogue.bias else []
    arrays += [residual] if task.epilogue.residual else []
    arrays.append(np.full(task.output_shape, np.nan, np.float32))
    built = tvm.compile(kernels.build(task, schedule, lanes, "main"), target.to_tvm())
    values = [tvm.runtime.tensor(array) for array in arrays]
    built["main"](*values)

    data = torch.from_numpy(source)
    if convolution:
        top, left, bottom, right = task.padding
        padded = nn.functional.pad(data, (left, right, top, bottom))
        expected = nn.functional.conv2d(
            padded, torch.from_numpy(weight), None, task.stride, 0, task.dilation, task.groups
        )
        shape = (1, -1, 1, 1)
    else:
        left = data.reshape(task.matrices, task.rows, task.inner)
        right = torch.from_numpy(weight).reshape(task.matrices, task.inner, task.columns)
        expected, shape = (left @ right).reshape(task.output_shape), (1, -1)
    if task.epilogue.bias:
        expected = expected + torch.from_numpy(bias).reshape(shape)
    if task.epilogue.residual:
        expected = expected + torch.from_numpy(residual)
    if task.epilogue.slope is not None:
        expected = nn.functional.leaky_relu(expected, task.epilogue.slope)
    expected = expected.clamp(task.epilogue.low, task.epilogue.high) if task.epilogue.activated else expected
    return values[-1].numpy(), expected.numpy()


@pytest.mark.parametrize(
    ("task", "schedule"),
    [
        (ConvTask(1, 5, (9, 11), 7, (3, 3), (1, 1), (1, 1, 1, 1), epilogue=ALL), "direct 3x2x1 outer"),
        (ConvTask(2, 6, (9, 20), 10, (3, 2), (2, 2), (1, 0, 2, 1), (1, 2), 2, ALL), "direct 2x3x1 inner"),
        (ConvTask(1, 4, (7, 7), 6, (3, 3), (1, 1), (1, 1, 1, 1)), "direct 4x3x1 inner"),  # rows shorter than a vector
        (ConvTask(1, 6, (6, 30), 5, (2, 3)), "direct 2x1x3 outer"),  # nothing is padded: nothing is copied
        (ConvTask(1, 7, (5, 9), 9, (1, 1), (1, 1), epilogue=ALL), "direct 4x1x2 outer"),
        (ConvTask(1, 7, (5, 9), 9, (1, 1), (2, 1)), "direct 3x1x2 inner"),
        (ConvTask(1, 7, (2, 2), 9, (1, 1)), "direct 4x1x1 outer"),
        (ConvTask(1, 5, (9, 11), 19, (3, 3), (2, 1), (1, 1, 1, 1), epilogue=ALL), "packed 2x2x3 inner"),
        (ConvTask(2, 6, (4, 4), 12, (3, 3), (1, 1), (0, 1, 1, 0), (1, 1), 2, ALL), "packed 1x2x3 outer"),
        (ConvTask(1, 9, (7, 5), 20, (1, 1), (2, 2), epilogue=ALL), "packed 2x1x5 outer"),
        (ConvTask(1, 9, (1, 1), 5, (1, 1)), "packed 1x1x1 outer"),
        (ConvTask(1, 5, (9, 19), 5, (3, 3), (1, 1), (1, 1, 1, 1), groups=5, epilogue=ALL), "depthwise 1x4x2 outer"),
        (ConvTask(2, 34, (7, 7), 34, (5, 3), (2, 2), (2, 1, 2, 1), groups=34), "depthwise 1x2x1 outer"),
        (DenseTask(1, 37, 21, ALL), "dense 2x1x4 outer"),
        (DenseTask(5, 16, 3, ALL), "dense 1x3x1 inner"),
        (DenseTask(7, 9, 40), "dense 3x4x1 outer"),
        (DenseTask(7, 9, 41, pairs=3), "dense 3x4x1 outer"),
        (DenseTask(5, 6, 16, Epilogue(low=0.0), pairs=2), "dense 1x2x1 inner"),
    ],
    ids=lambda value: value if isinstance(value, str) else value.key,
)
def test_a_kernel_computes_what_torch_computes(task: Task, schedule: str) -> None:
    output, expected = computed(task, Schedule.parse(schedule), lanes=8)
    np.testing.assert_allclose(output, expected, atol=1e-4)


@pytest.mark.parametrize(("task", "schedule"), [(ConvTask(1, 6, (6, 30), 5, (2, 3)), "direct 2x1x3 outer")])
def test_a_tile_that_is_longer_than_a_row_is_refused(task: Task, schedule: str) -> None:
    with pytest.raises(ValueError, match="reaches beyond the output"):
        computed(task, Schedule.parse(schedule), lanes=16)


@pytest.mark.parametrize("unit", [VectorUnit(4, 16), VectorUnit(8, 16), VectorUnit(16, 32)], ids=str)
def test_every_candidate_of_a_task_computes_the_same(unit: VectorUnit) -> None:
    task = ConvTask(1, 3, (5, 9), 9, (3, 3), (1, 1), (1, 1, 1, 1), epilogue=Epilogue(bias=True, low=0.0))
    found = candidates(task, unit)
    assert {one.kind for one in found} == {"direct", "packed"}
    for schedule in found[:: max(1, len(found) // 8)]:
        output, expected = computed(task, schedule, unit.lanes)
        np.testing.assert_allclose(output, expected, atol=1e-4, err_msg=schedule.text)


def test_an_artifact_says_its_schedule_and_that_it_was_never_timed(runtime: TvmRuntime) -> None:
    artifact = runtime.layer(Layer.parse(CONV))
    assert artifact.suffix == ".so"
    assert artifact.options["source"] == "estimated"
    assert artifact.options["trials"] == 0
    assert Schedule.parse(artifact.options["schedule"]).kind == "direct"
    assert artifact.options["target"] == host_target().text
    default = replace(runtime, schedules="default").layer(Layer.parse(CONV))
    assert (default.options["schedule"], default.options["source"], default.variant) == (
        "default",
        "default",
        "schedules=default",
    )
    assert default.data != artifact.data
    pool = runtime.layer(Layer.parse("max_pool 1x16x8x8>1x16x4x4 k2x2 s2x2 p0,0,0,0 d1x1 float32"))
    assert pool.options["schedule"] == "default"


def test_tvms_own_schedules_compute_the_same(runtime: TvmRuntime, tmp_path: Path) -> None:
    outputs = [
        kept(one.layer(Layer.parse(CONV)), tmp_path)[0] for one in (runtime, replace(runtime, schedules="default"))
    ]
    np.testing.assert_allclose(outputs[0], outputs[1], atol=1e-4)


def test_tuning_times_schedules_here_and_artifacts_carry_the_best(tmp_path: Path) -> None:
    path = tmp_path / "records.jsonl"
    runtime, layer = TvmRuntime(records=path), Layer.parse(CONV)
    assert runtime.tune([layer], Effort(trials=4, seconds=60)) > 0
    artifact = runtime.layer(layer)
    assert (artifact.options["source"], artifact.options["trials"]) == ("measured", 4)
    task = task_of(layer)
    assert task is not None
    timings = Records(path, host_target().text).timings(task.key)
    assert artifact.options["schedule"] == min(timings, key=timings.__getitem__).text
    size = path.stat().st_size
    again = TvmRuntime(records=path)
    again.tune([layer], Effort(trials=4, seconds=60))
    assert path.stat().st_size == size
    assert again.layer(layer).sha256 == artifact.sha256


def test_schedules_are_timed_on_a_device_through_its_agent(tmp_path: Path) -> None:
    with AgentSession.open(LocalTransport(), session_id="s1", root=tmp_path / "root") as session:
        statuses = []

        def measure(artifacts: Sequence[Artifact]) -> list[float]:
            found = []
            for artifact in artifacts:
                session.put_artifact(artifact.data, artifact.sha256, artifact.suffix)
                spec = {**artifact.trial_spec(), "threads": 1, "timing": QUICK, "replicate": 0}
                record = session.run_trial(protocol.trial_id(spec), spec)
                statuses.append(record["status"])
                found.append(record["latency"]["median_ns"] / 1e3)
            return found

        runtime = TvmRuntime(records=None, device="a board")
        runtime.tune([Layer.parse(CONV)], Effort(trials=2), DeviceTimer(runtime, measure))
    assert set(statuses) <= {"ok", "degraded"}
    assert runtime.layer(Layer.parse(CONV)).options["trials"] == 2


class Net(nn.Module):
    """What a site can have behind it: residual sums on either side, an activation, a second reader, nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 3, 2, 1, bias=False)
        self.norm = nn.BatchNorm2d(16)
        self.deep = nn.Conv2d(16, 16, 3, 1, 1, groups=16)
        self.left = nn.Conv2d(16, 24, 1)
        self.right = nn.Conv2d(16, 24, 3, 1, 1)
        self.linear = nn.Linear(24, 12)
        self.last = nn.Linear(12, 5, bias=False)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        maps = nn.functional.relu6(self.norm(self.stem(images)))
        maps = maps + torch.sigmoid(self.deep(maps))
        maps = torch.relu(self.left(maps) + self.right(maps))
        features = nn.functional.leaky_relu(self.linear(maps.mean((2, 3))), 0.2)
        return self.last(features) + features[:, :5]


def kept(artifact: Artifact, folder: Path) -> list[np.ndarray]:
    record = runner(folder)(replace(artifact, extras={"keep_outputs": True}), 1)
    assert record["status"] == "ok", record
    return kept_outputs(record, artifact)


def test_a_whole_network_is_fused_and_computes_what_torch_computes(runtime: TvmRuntime, tmp_path: Path) -> None:
    torch.manual_seed(0)
    net = Net().eval()
    artifact = runtime.module(net, (3, 18, 18))
    assert artifact.options["schedule"].count("direct") == 1
    assert "1 depthwise" in artifact.options["schedule"]
    assert "2 dense" in artifact.options["schedule"]
    assert artifact.options["source"] == "6 estimated"
    (output,) = kept(artifact, tmp_path)
    (expected,) = module_outputs(net, fed(artifact))
    np.testing.assert_allclose(output, expected, atol=1e-4)
    from_file = runtime.onnx(export_onnx(net, (3, 18, 18), fold=False), "net.onnx")
    (unfolded,) = kept(from_file, tmp_path)
    np.testing.assert_allclose(unfolded, expected, atol=1e-4)


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(8, 40)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        left, right = self.linear(tokens).chunk(2, dim=-1)
        return torch.softmax(left @ right.transpose(1, 2), -1) @ right


def test_products_of_data_have_a_kernel_or_are_said_to_have_default_schedules(
    runtime: TvmRuntime, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    net = Attention().eval()
    artifact = runtime.module(net, (5, 8))  # five columns have no room for a vector, twenty have
    assert artifact.options["schedule"] == "1 default, 2 dense"
    assert artifact.options["source"] == "1 default, 2 estimated"
    (output,) = kept(artifact, tmp_path)
    (expected,) = module_outputs(net, fed(artifact))
    np.testing.assert_allclose(output, expected, atol=1e-4)


def test_pads_that_torch_exports_as_computations_are_folded(runtime: TvmRuntime, tmp_path: Path) -> None:
    """ResNets with padded shortcuts; TVM reads pads from constants only."""
    torch.manual_seed(0)
    net = build_model("resnet8", num_classes=10, in_channels=3).eval()
    settle(net, (3, 16, 16))
    artifact = runtime.module(net, (3, 16, 16))
    (output,) = kept(artifact, tmp_path)
    (expected,) = module_outputs(net, fed(artifact))
    np.testing.assert_allclose(output, expected, atol=1e-4)


def test_what_tvm_cannot_read_is_refused_in_its_own_words(runtime: TvmRuntime) -> None:
    value = helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [2, 3, 3])
    output = helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [2])
    graph = helper.make_graph([helper.make_node("Det", ["x"], ["y"])], "g", [value], [output])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    with pytest.raises(ModelError, match=r"TVM cannot read det\.onnx: .*Det"):
        runtime.onnx(model.SerializeToString(), "det.onnx")


def test_without_tvm_the_extra_is_named(runtime: TvmRuntime, monkeypatch: pytest.MonkeyPatch) -> None:
    extra.load.cache_clear()
    monkeypatch.setitem(sys.modules, "tvm", None)
    with pytest.raises(UserError, match=r"hwloop\[tvm\]") as caught:
        runtime.onnx(export_onnx(nn.Linear(2, 2), (2,), fold=True), "linear.onnx")
    assert not isinstance(caught.value, ModelError)
    extra.load.cache_clear()


def test_a_layer_is_compiled_for_another_processor(runtime: TvmRuntime, tmp_path: Path) -> None:
    board = runtime.for_device(PI4)
    artifact = board.layer(Layer.parse(CONV))
    assert artifact.options["target"] == "aarch64-linux-gnu cortex-a72"
    assert artifact.data[:4] == b"\x7fELF"
    assert int.from_bytes(artifact.data[18:20], "little") == 183  # EM_AARCH64
    if shutil.which("readelf"):
        path = tmp_path / "library.so"
        path.write_bytes(artifact.data)
        header = subprocess.run(["readelf", "-h", path], capture_output=True, text=True, check=True).stdout
        assert "AArch64" in header
    record = runner(tmp_path)(artifact, 1)
    assert record["status"] == "unsupported"
    assert "for aarch64, this machine is" in record["reasons"][0]


def test_this_machine_is_known_by_its_facts(runtime: TvmRuntime, tmp_path: Path) -> None:
    with AgentSession.open(LocalTransport(), session_id="s1", root=tmp_path / "root") as session:
        facts = session.facts()
    assert runtime.for_device(facts).processor == host_target()
    other = runtime.for_device({**facts, "hostname": "another"}).processor
    assert not other.host
    assert other == target_from_facts(facts)
    assert other.unit == host_target().unit  # told by the processor's flags


# The agent's side.


def loaded(artifact: Artifact, folder: Path, inputs: Any = None) -> AgentRuntime:
    path = folder / f"{artifact.sha256}.so"
    path.write_bytes(artifact.data)
    runtime = AgentRuntime()
    runtime.prepare(dict(artifact.options))
    runtime.import_()
    runtime.load(str(path), inputs or [one.to_spec() for one in artifact.inputs], 1, dict(artifact.options))
    return runtime


def test_the_record_tells_schedule_threads_and_version(runtime: TvmRuntime, tmp_path: Path) -> None:
    artifact = runtime.layer(Layer.parse(CONV))
    agent = loaded(artifact, tmp_path)
    assert agent.settings()["threads"] == 1
    assert {key: agent.settings()[key] for key in artifact.options} == artifact.options
    assert agent.version() == extra.load().__version__


def test_only_the_runtime_is_loaded_on_the_device(runtime: TvmRuntime, tmp_path: Path) -> None:
    artifact = runtime.layer(Layer.parse(CONV))
    path = tmp_path / "layer.so"
    path.write_bytes(artifact.data)
    script = (
        "import sys\nfrom hwloop_agent.runtimes.tvm_runtime import TvmRuntime\nruntime = TvmRuntime()\n"
        "runtime.import_()\n"
        f"runtime.load({str(path)!r}, {[one.to_spec() for one in artifact.inputs]!r}, 1, {{}})\nruntime.runner()()\n"
        "maps = open('/proc/self/maps').read()\n"
        "print('torch' in sys.modules, 'tvm' in sys.modules, 'libtvm_compiler' in maps, 'libtvm_runtime' in maps)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False", "False", "True"]


def test_a_damaged_library_and_wrong_inputs_are_refused(runtime: TvmRuntime, tmp_path: Path) -> None:
    artifact = runtime.layer(Layer.parse(CONV))
    with pytest.raises(InvalidArtifactError, match="part of an ELF library"):
        loaded(replace(artifact, data=artifact.data[:-100]), tmp_path)
    with pytest.raises(InvalidArtifactError, match="not a 64-bit ELF"):
        loaded(replace(artifact, data=b"#!/bin/sh"), tmp_path)
    with pytest.raises(UnsupportedError, match=r"inputs are \['input_0'\], the spec feeds \['other'\]"):
        loaded(artifact, tmp_path, [{**artifact.inputs[0].to_spec(), "name": "other"}])


def test_a_profile_has_a_row_for_every_kernel_in_order(runtime: TvmRuntime, tmp_path: Path) -> None:
    torch.manual_seed(0)
    artifact = runtime.module(Net().eval(), (3, 18, 18))
    path = tmp_path / "net.so"
    path.write_bytes(artifact.data)
    agent = AgentRuntime()
    agent.import_()
    agent.start_profile(str(tmp_path))
    agent.load(str(path), [one.to_spec() for one in artifact.inputs], 1, {})
    agent.runner()()
    found = agent.profile()
    operators = [row["op"] for row in found["rows"]]
    assert [name.startswith("conv_") for name in operators].count(True) == 4
    assert operators.count("dense") == 2
    assert operators[0].startswith("conv_")
    assert all(row["ns"] > 0 and row["calls"] == 1 for row in found["rows"])
    assert not any(row["name"].startswith("vm.") for row in found["rows"])
