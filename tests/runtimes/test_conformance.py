"""Every registered runtime passes the suite that ships, with more layers than it ships with.

Most artifacts run in the agent's runtime inside this process, a few in a real agent. A new runtime joins by `register`,
by the agent's `RUNTIMES`, and by an entry in `PACKAGES` and `REFUSED`.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn

from hwloop.devices import AgentSession, LocalTransport
from hwloop.errors import ModelError
from hwloop.extraction import FusionRules
from hwloop.layers import OPS, Layer
from hwloop.runtimes import Artifact, Runtime, get_runtime, list_runtimes
from hwloop.runtimes.conformance import Example, Finding, check_runtime, failures
from hwloop.runtimes.reference import fed, layer_outputs
from hwloop_agent import protocol
from hwloop_agent.runtimes import RUNTIMES
from tests.runtimes.here import PACKAGES, every_runtime, every_runtime_with, runner
from tests.runtimes.layers import LAYERS, REFUSED, convolutions, refusal
from tests.timing import QUICK

IN_THE_AGENT = "conv 1x16x16x16>1x32x8x8 k3x3 s2x2 p1,1,1,1 d1x1 g1 bias relu float32"


class Small(nn.Module):
    """A convolution, a depthwise one, a residual sum and a classifier."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 16, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(16)
        self.second = nn.Conv2d(16, 16, 3, padding=1, groups=16)
        self.linear = nn.Linear(16, 10)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        first = torch.relu(self.norm(self.first(images)))
        return self.linear((first + torch.relu(self.second(first))).mean((2, 3)))


@pytest.fixture(scope="module")
def small() -> Example:
    torch.manual_seed(0)
    return Example("small", Small().eval(), (3, 16, 16))


def test_every_runtime_has_its_counterpart_in_the_agent():
    assert set(list_runtimes()) == set(REFUSED) == set(RUNTIMES) - {"null"}
    assert set(list_runtimes()) <= set(PACKAGES)


def test_no_operation_is_left_out():
    assert {Layer.parse(key).op for key in LAYERS} == set(OPS) - {"unsupported"}


@every_runtime
def test_every_runtime_passes_the_suite_that_ships(name: str, tmp_path: Path, small: Example) -> None:
    found = check_runtime(get_runtime(name), runner(tmp_path), networks=[small])
    assert failures(found) == []
    checks = {one.check for one in found if one.outcome == "passed"}
    wanted = {"same bytes", "values", "agreement", "class", "threads", "settings", "unknown option", "damaged file"}
    assert wanted <= checks


@every_runtime_with(LAYERS)
def test_every_layer_computes_what_torch_computes_or_is_refused_with_a_reason(
    name: str, key: str, tmp_path: Path
) -> None:
    found = check_runtime(get_runtime(name), runner(tmp_path), layers=[Layer.parse(key)], threads=())
    assert failures(found) == []
    refused = [one.text for one in found if one.outcome == "unsupported"]
    assert bool(refused) == bool(refusal(name, key))
    assert all(refusal(name, key) in text for text in refused)


@every_runtime
@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(layer=convolutions(), seed=st.integers(0, 3))
def test_every_convolution_computes_what_torch_computes(name: str, layer: Layer, seed: int, tmp_path: Path) -> None:
    layer = replace(layer, activation=layer.activation if seed else "")
    found = check_runtime(get_runtime(name), runner(tmp_path), layers=[layer], threads=())
    assert failures(found) == []


@every_runtime
def test_layers_are_measured_by_a_real_agent_with_the_threads_that_were_asked_for(name: str, tmp_path: Path) -> None:
    with AgentSession.open(LocalTransport(), session_id="s1", root=tmp_path / "root") as session:

        def run(artifact: Artifact, threads: int) -> Mapping[str, Any]:
            session.put_artifact(artifact.data, artifact.sha256, artifact.suffix)
            spec = {**artifact.trial_spec(), "threads": threads, "timing": QUICK, "replicate": 0}
            record = session.run_trial(protocol.trial_id(spec), spec)
            if record["status"] == "ok":
                assert record["memory"]["artifact_bytes"] == len(artifact.data)
                assert record["runtime"]["name"] == name
            return record

        threads = min(2, len(session.hello.cpus))
        found = check_runtime(get_runtime(name), run, layers=[Layer.parse(IN_THE_AGENT)], threads=[threads])
        assert failures(found) == []
        passed = {one.check for one in found if one.outcome == "passed"}
        assert {"agreement", "threads", "settings", "unknown option", "damaged file"} <= passed


@every_runtime
def test_the_same_layer_and_seed_give_the_same_bytes_in_any_process(name: str) -> None:
    key = IN_THE_AGENT
    script = (
        "from hwloop.layers import Layer\nfrom hwloop.runtimes import get_runtime\n"
        f"print(get_runtime({name!r}).layer(Layer.parse({key!r})).sha256)"
    )
    other = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.strip()
    assert other == get_runtime(name).layer(Layer.parse(key)).sha256
    assert get_runtime(name).layer(Layer.parse(key), seed=1).sha256 != other


class Spoiled(Runtime):
    """A runtime that breaks one promise, made of onnxruntime."""

    name = "onnxruntime"
    suffix = ".onnx"

    def __init__(self, sin: str) -> None:
        self._sin = sin
        self._good = get_runtime("onnxruntime")
        self._made = 0

    @property
    def fusion(self) -> FusionRules:
        return self._good.fusion

    def layer(self, layer: Layer, *, seed: int = 0) -> Artifact:
        self._made += 1
        if self._sin == "refuses in silence" and layer.op == "conv":
            raise ModelError("no")
        if self._sin == "other bytes each time":
            seed = self._made
        if self._sin == "takes what nobody can" and not layer.supported:
            layer = Layer("relu", ((1, 4),), (1, 4))
        good = self._good.layer(layer, seed=seed)
        if self._sin == "other weights":
            good = replace(self._good.layer(layer, seed=5), inputs=good.inputs)
        return good

    def module(self, module: nn.Module, input_shape: tuple[int, ...]) -> Artifact:
        good = self._good.module(module, input_shape)
        if self._sin == "another network":
            torch.manual_seed(1)
            return replace(good, data=self._good.module(Small().eval(), input_shape).data)
        return good

    def onnx(self, model: bytes, label: str) -> Artifact:
        return self._good.onnx(model, label)


SINS = {
    "refuses in silence": "layer",
    "other bytes each time": "same bytes",
    "takes what nobody can": "refusal",
    "other weights": "agreement",
    "another network": "agreement",
}


@pytest.mark.parametrize("sin", SINS)
def test_a_broken_promise_is_found(sin: str, tmp_path: Path, small: Example) -> None:
    found = check_runtime(Spoiled(sin), runner(tmp_path), networks=[small], threads=(1,))
    assert SINS[sin] in {one.check for one in found if one.outcome == "failed"}


@pytest.mark.parametrize(
    ("lie", "check"),
    [
        (lambda record: {**record, "outputs": [{**one, "values": None} for one in record["outputs"]]}, "layer"),
        (lambda record: {**record, "runtime": {**record["runtime"], "settings": {"threads": 7}}}, "threads"),
        (lambda record: {**record, "runtime": {**record["runtime"], "settings": {"threads": 1}}}, "settings"),
        (lambda record: {**record, "status": "crashed", "reasons": ["died by SIGSEGV while running"]}, "layer"),
        (lambda record: {**record, "status": "ok"}, "damaged file"),
    ],
)
def test_a_record_that_hides_something_is_found(lie: Any, check: str, tmp_path: Path) -> None:
    honest = runner(tmp_path)
    key = "conv 1x3x16x16>1x16x16x16 k3x3 s1x1 p1,1,1,1 d1x1 g1 bias relu float32"
    runtime = get_runtime("onnxruntime")
    with_options = replace(runtime.layer(Layer.parse(key)), options={"graph_optimization": "all"})

    class WithOptions(Spoiled):
        def layer(self, layer: Layer, *, seed: int = 0) -> Artifact:
            return with_options if layer.key == key and seed == 0 else runtime.layer(layer, seed=seed)

    found = check_runtime(
        WithOptions(""), lambda artifact, threads: lie(honest(artifact, threads)), layers=[Layer.parse(key)]
    )
    assert check in {one.check for one in found if one.outcome == "failed"}, found


def test_the_reference_is_the_layer_that_the_artifact_holds(tmp_path: Path) -> None:
    """By hand: a linear layer with its weights read from the ONNX file."""
    import onnx
    from onnx import numpy_helper

    layer = Layer.parse("linear 1x6>1x80 bias float32")
    artifact = get_runtime("onnxruntime").layer(layer)
    constants = [numpy_helper.to_array(one) for one in onnx.load_from_string(artifact.data).graph.initializer]
    bias, weight = sorted(constants, key=lambda one: one.ndim)
    (values,) = fed(artifact)
    assert np.allclose(layer_outputs(layer, 0, [values]), values @ weight.T + bias, atol=1e-5)


def test_a_refusal_is_no_failure() -> None:
    found = [Finding("layer", "selu", "unsupported", "no operator"), Finding("layer", "relu", "failed", "crashed")]
    assert failures(found) == ["layer: relu: crashed"]
