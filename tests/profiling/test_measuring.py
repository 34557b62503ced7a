"""Real measurements on this machine, as short as they can be; no time is asserted."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from hwloop.devices import local_device
from hwloop.errors import DataError, ModelError, UserError
from hwloop.layers import Layer
from hwloop.measurement import Bench, CampaignPlan, Identity, TimingProtocol, TrialStore
from hwloop.profiling import (
    Model,
    NetworkResult,
    OwnFile,
    TorchModel,
    Wanted,
    add_layers,
    measure_network,
    open_model,
)
from hwloop.progress import Silent
from hwloop.runtimes import Artifact, OnnxRuntime, get_runtime
from hwloop_agent.journal import read_records

SHORT = TimingProtocol(warmup_s=0.01, min_s=0.01, max_s=0.05, min_blocks=5, target_relative_interval=0.2)
IDENTITY = Identity("a processor", "a" * 64, {})


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    plan = CampaignPlan(processes=2, timing=SHORT, attempts=1)
    with TrialStore(tmp_path / "trials.ndjson") as store:
        yield Bench(local_device(str(tmp_path / "device")), "test", store, plan, Silent())


@pytest.fixture(scope="module")
def lenet() -> TorchModel:
    return TorchModel("lenet5", (1, 28, 28), 10, Path.cwd())


class WithoutPools(OnnxRuntime):
    """A runtime that has no pools."""

    def layer(self, layer: Layer, *, seed: int = 0) -> Artifact:
        if layer.op == "max_pool":
            raise ModelError(f"this runtime has no pool: {layer.key}")
        return super().layer(layer, seed=seed)


Measured = tuple[NetworkResult, NetworkResult, int]


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory, lenet: Model) -> Measured:
    """Everything about LeNet-5, twice from the same state, and how many trials the second time took."""
    folder = tmp_path_factory.mktemp("measured")
    path = folder / "trials.ndjson"
    counts, results = [], []
    for _ in range(2):
        with TrialStore(path) as store:
            plan = CampaignPlan(processes=2, timing=SHORT, attempts=1)
            bench = Bench(local_device(str(folder / "device")), "test", store, plan, Silent())
            wanted = Wanted(layers=True, profile=True)
            results.append(measure_network(lenet, get_runtime("onnxruntime"), bench, IDENTITY, wanted))
        counts.append(len(read_records(path)[0]))
    return results[0], results[1], counts[1] - counts[0]


def test_a_network_its_layers_and_its_profile_are_measured_once(measured: Measured) -> None:
    result, again, trials = measured
    assert result.end_to_end.usable
    assert len(result.end_to_end.trial_ids) == 2  # one of them does not count where a busy machine degraded it
    assert (result.runtime, result.threads, result.fusion) == ("onnxruntime", 1, "onnxruntime-x86")
    assert result.settings["threads"] == 1
    assert result.noise_floor is not None
    # LeNet-5: two convolutions, two pools and three linear layers do work; a flatten does none.
    layers = result.layers or ()
    assert sorted(layer.key.split()[0] for layer in layers) == ["conv"] * 2 + ["linear"] * 3 + ["max_pool"] * 2
    assert result.missing == {}
    assert result.sum_ms == pytest.approx(sum(layer.timing.numbers[1] for layer in layers))
    assert again == result
    assert trials == 0


def test_a_profile_is_mapped_to_the_layers_and_knows_what_it_cost(measured: Measured) -> None:
    result, _, _ = measured
    profile = result.profile
    assert profile is not None
    assert profile.clean_ms == result.end_to_end.latency_ms
    assert profile.runs > 0
    measured_alone = {name for layer in result.layers or () for name in layer.names}
    assert measured_alone <= {row.layer for row in profile.rows}
    assert 0 <= profile.unmapped_share < 0.5
    assert all(row.memory["output_bytes"] > 0 for row in profile.rows)
    assert profile.overhead is not None
    assert profile.trusted <= (profile.overhead <= 0.3)


def test_every_number_of_bytes_tells_its_method(measured: Measured) -> None:
    result, _, _ = measured
    figures = {one.what: one for one in result.memory}
    assert all(one.method for one in result.memory)
    assert figures["weights"].bytes == 4 * (result.parameters or 0)
    # The first convolution's output, 6 maps of 28x28, with its input or with what it is pooled to.
    assert figures["planned peak of activations"].bytes == 4 * (6 * 28 * 28 + max(28 * 28, 6 * 14 * 14))
    assert figures["model's part of the peak"].bytes < figures["peak resident set"].bytes
    assert figures["peak resident set"].method == "VmHWM"
    assert "profile" in figures["peak of the runtime's arena"].method
    assert result.artifact_bytes is not None
    assert result.artifact_bytes > figures["weights"].bytes
    for layer in result.layers or ():
        sizes = {one.what: one.bytes for one in layer.memory}
        parsed = Layer.parse(layer.key)
        assert sizes["weights"] == parsed.weight_bytes
        inside = sizes["weights"] + sizes["activations"]
        assert sizes["beyond weights and activations"] == max(sizes["model's part of the peak"] - inside, 0)


def test_a_layer_that_the_runtime_refuses_is_named_and_the_rest_goes_on(bench: Bench, lenet: Model) -> None:
    runtime = WithoutPools()
    whole = measure_network(lenet, runtime, bench, IDENTITY, Wanted())
    result = add_layers(whole, lenet, runtime, replace(bench, plan=replace(bench.plan, processes=1)))
    assert result.end_to_end.usable
    assert len(result.layers or ()) == 5
    assert len(result.missing) == 2
    assert all("this runtime has no pool" in reason for reason in result.missing.values())
    assert result.sum_ms is None


def test_a_runtime_without_a_profiler_says_so(bench: Bench) -> None:
    layer = get_runtime("litert").layer(Layer.parse("linear 1x400>1x120 bias relu float32"))
    model = OwnFile("one.tflite", ".tflite", layer.data)

    class Litert(type(get_runtime("litert"))):  # type: ignore[misc]
        def file(self, data: bytes, label: str) -> Artifact:
            return replace(layer, label=label)

    result = measure_network(model, Litert(), bench, IDENTITY, Wanted(layers=True, profile=True))
    assert result.end_to_end.usable
    assert result.profile is not None
    assert result.profile.status == "unsupported"
    assert "litert has no profiler" in result.profile.reasons[0]
    assert "of .tflite" in result.missing["all layers"]
    assert (result.parameters, result.fusion) == (None, None)


def test_what_the_runtime_cannot_load_is_a_result_with_a_reason(bench: Bench) -> None:
    result = measure_network(
        OwnFile("net.so", ".so", b"x"), get_runtime("onnxruntime"), bench, IDENTITY, Wanted(profile=True)
    )
    assert result.end_to_end.status == "unsupported"
    assert "onnxruntime loads .onnx files, not .so" in result.end_to_end.reasons[0]
    assert result.profile is not None
    assert not result.profile.trusted


def test_a_crash_in_the_device_is_a_result_with_a_reason(bench: Bench, lenet: Model) -> None:
    class Damaging(OnnxRuntime):
        def module(self, module: object, input_shape: tuple[int, ...]) -> Artifact:
            good = super().module(module, input_shape)  # type: ignore[arg-type]
            return replace(good, data=good.data[:1000])

    result = measure_network(lenet, Damaging(), bench, IDENTITY, Wanted(profile=True))
    assert result.end_to_end.status == "invalid"
    assert result.end_to_end.reasons
    assert result.profile is not None
    assert result.profile.status == "invalid"


def test_models_are_found_by_name_and_by_file(tmp_path: Path) -> None:
    named = open_model("lenet5", (".onnx",), input_shape=None, classes=None)
    assert isinstance(named, TorchModel)
    assert (named.input_shape, named.classes) == ((1, 28, 28), 10)
    path = tmp_path / "net.tflite"
    path.write_bytes(b"data")
    own = open_model(str(path), (".onnx", ".tflite"), input_shape=None, classes=None)
    assert own == OwnFile(str(path), ".tflite", b"data")


@pytest.mark.parametrize(
    ("text", "shape", "error", "part"),
    [
        ("absent.onnx", None, DataError, "absent.onnx"),
        ("net.onnx", (3, 8, 8), UserError, "--input"),
        ("resnet9", None, ModelError, "resnet8"),
    ],
)
def test_models_that_are_not_there_are_refused(
    text: str, shape: tuple[int, int, int] | None, error: type[UserError], part: str
) -> None:
    with pytest.raises(error, match=part):
        open_model(text, (".onnx",), input_shape=shape, classes=None)
