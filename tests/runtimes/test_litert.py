"""What is particular to LiteRT: its operators, its layout, and that it computes what onnxruntime computes."""

from __future__ import annotations

import sys
import types

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from hypothesis import given, settings
from hypothesis import strategies as st

from hwloop.errors import ModelError, UserError
from hwloop.layers import Layer
from hwloop.runtimes import Artifact, InputSpec, LiteRtRuntime, OnnxRuntime, get_runtime, tflite_builder
from hwloop.runtimes.tflite_layout import Padding, padding_of
from hwloop_agent.runtimes import RUNTIMES, UnsupportedError, litert_runtime
from tests.runtimes.layers import LAYERS, convolutions, refusal
from tests.runtimes.running import draw, interpreter_of, run_onnx, run_tflite, to_nhwc

RUNTIME = LiteRtRuntime()

RUNNING = [key for key in LAYERS if not refusal("litert", key)]
VIEWS = ("flatten", "reshape")
"""The same memory, which lies in another order in NHWC."""
NAMES = {code: name for name, code in vars(schema.BuiltinOperator).items() if isinstance(code, int)}


def operators(key: str) -> list[str]:
    """The operators of a layer's model, in order, read from its file."""
    model = schema.Model.GetRootAs(RUNTIME.layer(Layer.parse(key)).data)
    graph = model.Subgraphs(0)
    indices = [graph.Operators(at).OpcodeIndex() for at in range(graph.OperatorsLength())]
    return [NAMES[model.OperatorCodes(index).BuiltinCode()] for index in indices]


def assert_the_runtimes_agree(layer: Layer, seed: int = 0) -> None:
    """The same weights and inputs give the same output, apart from the layout, with XNNPACK and without."""
    onnx, tflite = OnnxRuntime().layer(layer, seed=seed), RUNTIME.layer(layer, seed=seed)
    feed = draw(onnx)
    wanted = to_nhwc(layer, run_onnx(onnx, feed))
    shapes = {one.name: one.shape for one in tflite.inputs}
    fed = {name: np.ascontiguousarray(to_nhwc(layer, values)).reshape(shapes[name]) for name, values in feed.items()}
    for xnnpack in (True, False):
        found = run_tflite(tflite, fed, xnnpack=xnnpack)
        np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    "key",
    [
        *(key for key in RUNNING if not key.startswith(VIEWS)),
        'avg_pool 1x16x8x8>1x16x8x8 k3x3 s1x1 p1,1,1,1 d1x1 float32 detail="padding=counted"',
        'avg_pool 1x16x8x8>1x16x4x4 k3x3 s2x2 p1,1,0,0 d1x1 relu float32 detail="padding=counted"',
        "avg_pool 1x16x7x7>1x16x7x7 k3x3 s1x1 p1,1,1,1 d1x1 float32",
    ],
)
def test_litert_computes_what_onnxruntime_computes_with_the_same_weights(key):
    assert_the_runtimes_agree(Layer.parse(key))


@settings(max_examples=60, deadline=None)
@given(convolutions(), st.integers(0, 3))
def test_any_convolution_gives_what_onnxruntime_gives(layer, seed):
    assert_the_runtimes_agree(layer, seed)


@pytest.mark.parametrize(
    ("key", "names"),
    [
        ("conv 1x16x8x8>1x16x8x8 k3x3 s1x1 p1,1,1,1 d1x1 g1 bias relu float32", ["CONV_2D"]),
        ("conv 1x16x8x8>1x16x8x8 k3x3 s1x1 p1,1,1,1 d1x1 g1 bias relu6 +add float32", ["CONV_2D", "ADD"]),
        ("conv 1x16x8x8>1x16x8x8 k1x1 s1x1 p0,0,0,0 d1x1 g1 silu +add float32", ["CONV_2D", "ADD", "LOGISTIC", "MUL"]),
        ("conv 1x16x8x8>1x16x4x4 k3x3 s2x2 p1,1,1,1 d1x1 g1 relu float32", ["PAD", "CONV_2D"]),
        ("conv 1x16x8x8>1x32x4x4 k3x3 s2x2 p1,1,1,1 d1x1 g16 relu float32", ["PAD", "DEPTHWISE_CONV_2D"]),
        ("max_pool 1x16x8x8>1x16x4x4 k3x3 s2x2 p1,1,1,1 d1x1 relu float32", ["PADV2", "MAX_POOL_2D"]),
        ("linear 1x400>1x120 bias relu +add float32", ["FULLY_CONNECTED", "ADD"]),
        ("batch_norm 1x16x8x8>1x16x8x8 relu float32", ["MUL", "ADD"]),
        ('concat 1x8x4x4,1x8x4x4>1x16x4x4 relu float32 detail="axis=1"', ["CONCATENATION", "RELU"]),
        ("matmul 1x4x7x16,1x4x16x7>1x4x7x7 relu float32", ["BATCH_MATMUL", "RELU"]),
    ],
)
def test_a_layer_is_the_operators_that_a_converted_network_has(key, names):
    assert operators(key) == names


def test_nothing_is_transposed_but_what_the_network_transposes():
    assert [key for key in RUNNING if "TRANSPOSE" in operators(key)] == [key for key in LAYERS if "transpose" in key]


@pytest.mark.parametrize(
    ("geometry", "padding"),
    [
        ("8x8>1x1x8x8 k3x3 s1x1 p1,1,1,1", Padding("SAME")),
        ("8x8>1x1x6x6 k3x3 s1x1 p0,0,0,0", Padding("VALID")),
        ("8x8>1x1x4x4 k1x1 s2x2 p0,0,0,0", Padding("VALID")),
        ("9x9>1x1x5x5 k3x3 s2x2 p1,1,1,1", Padding("SAME")),  # odd: one row on each side suffices
        ("8x8>1x1x4x4 k3x3 s2x2 p0,0,1,1", Padding("SAME")),  # even: SAME pads below only
        ("8x8>1x1x4x4 k3x3 s2x2 p1,1,1,1", Padding("VALID", (1, 1), (1, 1))),
        ("8x8>1x1x10x10 k3x3 s1x1 p2,2,2,2", Padding("VALID", (2, 2), (2, 2))),
        ("8x9>1x1x4x9 k2x3 s2x1 p0,1,1,1", Padding("SAME")),  # the row below is never reached
    ],
)
def test_padding_is_a_scheme_where_there_is_one_and_explicit_otherwise(geometry, padding):
    assert padding_of(Layer.parse(f"conv 1x1x{geometry} d1x1 g1 float32")) == padding


def test_a_pool_that_rounds_up_is_padded_below():
    layer = Layer.parse("max_pool 1x16x8x8>1x16x5x5 k2x2 s2x2 p1,1,1,1 d1x1 float32")
    assert padding_of(layer) == Padding("VALID", (1, 1), (1, 1))
    layer = Layer.parse("max_pool 1x16x7x7>1x16x4x4 k2x2 s2x2 p0,0,0,0 d1x1 float32")
    assert padding_of(layer) == Padding("SAME")
    assert_the_runtimes_agree(layer)


@pytest.mark.parametrize(
    "key",
    [
        "add 1x16x8x8,16x1x1>1x16x8x8 float32",
        'mul 1x16x8x8>1x16x8x8 float32 detail="const=16x1x1"',
        'reduce_mean 1x16x8x7>1x16x7 float32 detail="axes=2"',
        'softmax 1x4x7x7>1x4x7x7 float32 detail="axis=3"',
        'softmax 1x4x7x6>1x4x7x6 float32 detail="axis=1"',
        "layer_norm 1x32>1x32 float32",
    ],
)
def test_lower_ranks_and_other_axes_keep_their_meaning(key):
    layer = Layer.parse(key)
    if layer.op == "reduce_mean":  # what is left of an image keeps NHWC's order
        artifact = RUNTIME.layer(layer)
        feed = draw(artifact)
        np.testing.assert_allclose(run_tflite(artifact, feed), feed["input_0"].mean(1), atol=1e-6)
    else:
        assert_the_runtimes_agree(layer)


@pytest.mark.parametrize(
    ("key", "reason"),
    [
        ('softmax 1x4x7x7>1x4x7x7 float32 detail="axis=2"', "softmax over the last axis only"),
        ('pad 1x4x8x8>1x4x10x10 float32 detail="pads=0,0,1,1,0,0,1,1 mode=edge"', "no padding of mode edge"),
        ('pad 1x4x8x8>1x4x6x6 float32 detail="pads=0,0,-1,-1,0,0,-1,-1 mode=constant"', "no negative padding"),
        ("selu 1x16>1x16 float32", "no operator for selu"),
        ("avg_pool 1x4x9x9>1x4x5x5 k3x3 s1x1 p0,0,0,0 d2x2 float32", "no dilated pool"),
    ],
)
def test_what_tflite_has_no_operator_for_is_refused(key, reason):
    with pytest.raises(ModelError, match=reason):
        RUNTIME.layer(Layer.parse(key))


def test_constants_lie_where_the_schema_wants_them():
    data = RUNTIME.layer(Layer.parse(LAYERS[1])).data
    assert data[4:8] == b"TFL3"
    model = schema.Model.GetRootAs(data)
    starts = []
    for index in range(model.BuffersLength()):
        vector = model.Buffers(index)._tab
        if offset := vector.Offset(4):
            starts.append(vector.Vector(offset))
    assert len(starts) == 3  # the paddings, the weights, the bias
    assert {start % 16 for start in starts} == {0}


def test_without_litert_the_extra_is_named(monkeypatch):
    tflite_builder.schema.cache_clear()
    monkeypatch.setitem(sys.modules, "ai_edge_litert", None)
    with pytest.raises(UserError, match=r"hwloop\[tflite\]") as caught:
        RUNTIME.layer(Layer.parse(LAYERS[0]))
    assert not isinstance(caught.value, ModelError)  # the layer is not at fault


def test_without_the_quantiser_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "ai_edge_quantizer", None)
    with pytest.raises(UserError, match=r"float16 models need ai-edge-quantizer.*hwloop\[tflite\]"):
        get_runtime("litert:float16").layer(Layer.parse(LAYERS[0]))


# The agent's side.


def loaded(artifact: Artifact, folder, **options):
    path = folder / "layer.tflite"
    path.write_bytes(artifact.data)
    runtime = RUNTIMES["litert"]()
    runtime.prepare(options)
    runtime.import_()
    runtime.load(str(path), [one.to_spec() for one in artifact.inputs], 1, options)
    return runtime


@pytest.mark.parametrize(
    ("key", "delegated"),
    [
        (LAYERS[1], "whole"),
        ('slice 1x16x8x8>1x16x4x8 float32 detail="axes=2 starts=0 steps=2"', "none"),
        ("max_pool 1x16x8x8>1x16x4x4 k3x3 s2x2 p1,1,1,1 d1x1 float32", "part"),
    ],
)
def test_how_far_xnnpack_executes_a_layer_is_recorded(key, delegated, tmp_path):
    artifact = RUNTIME.layer(Layer.parse(key))
    settings = loaded(artifact, tmp_path).settings()
    assert settings["delegated"] == delegated
    assert settings["operators"] == {name: operators(key).count(name) for name in operators(key)}
    off = loaded(artifact, tmp_path, xnnpack="off").settings()
    assert (off["xnnpack"], off["delegated"], off["delegate_nodes"]) == ("off", "none", 0)


def test_two_delegate_nodes_or_one_behind_an_operator_are_a_part():
    def node(name, inputs, outputs):
        return {"op_name": name, "inputs": inputs, "outputs": outputs}

    model = [node("CONV_2D", [0], [1]), node("ADD", [1], [2])]
    assert litert_runtime.coverage([*model, node("DELEGATE", [0], [2])], {2}) == "whole"
    assert litert_runtime.coverage([*model, node("DELEGATE", [1], [2])], {2}) == "part"
    assert litert_runtime.coverage([*model, node("DELEGATE", [0], [1])], {2}) == "part"
    assert litert_runtime.coverage([*model, node("DELEGATE", [0], [1]), node("DELEGATE", [1], [2])], {2}) == "part"
    assert litert_runtime.coverage(model, {2}) == "none"


def test_what_is_fed_must_fit_the_model(tmp_path):
    good = RUNTIME.layer(Layer.parse("linear 1x400>1x120 bias relu float32"))
    wrong = Artifact(good.data, good.suffix, good.runtime, RUNTIME.layer(Layer.parse("relu 1x16>1x16 float32")).inputs)
    with pytest.raises(UnsupportedError, match=r"input_0 is \[1, 400\] float32, the spec feeds \[1, 16\] float32"):
        loaded(wrong, tmp_path)


def test_a_tiny_network_is_tried_out():
    runtime = RUNTIMES["litert"]()
    runtime.import_()
    assert runtime.try_out()


def test_an_operator_that_the_build_does_not_have_is_unsupported_in_its_own_words(tmp_path):
    build = tflite_builder.TfliteBuilder()
    data = build.finish(
        build.op("CALL_ONCE", (build.input("x", (1, 4)),), (1, 4), "CallOnceOptions", initSubgraphIndex=7)
    )
    artifact = Artifact(data, ".tflite", "litert", (InputSpec("x", (1, 4)),))
    with pytest.raises(UnsupportedError, match="CALL_ONCE"):
        loaded(artifact, tmp_path)


@pytest.mark.parametrize("precision", ["float16", "int8", "int8_dynamic"])
def test_a_layer_of_another_precision_computes_almost_the_same(precision, tmp_path):
    layer = Layer.parse("conv 1x16x16x16>1x32x8x8 k3x3 s2x2 p1,1,1,1 d1x1 g1 bias relu float32")
    plain, artifact = RUNTIME.layer(layer), get_runtime("litert", precision=precision).layer(layer)
    assert artifact.data != plain.data
    assert (artifact.options, artifact.variant) == ({"precision": precision}, f"precision={precision}")
    assert artifact.inputs == plain.inputs  # real numbers, whatever the model takes
    (wanted,), (found,) = loaded(plain, tmp_path).outputs(), loaded(artifact, tmp_path, **artifact.options).outputs()
    assert found.shape == wanted.shape
    difference = np.frombuffer(found.data, "<f4") - np.frombuffer(wanted.data, "<f4")
    assert 0 < difference.std() < {"float16": 0.001}.get(precision, 0.05) * np.frombuffer(wanted.data, "<f4").std()
    assert loaded(artifact, tmp_path, **artifact.options).settings()["precision"] == precision


def test_an_int8_layer_takes_integers_that_stand_for_what_the_spec_feeds(tmp_path):
    artifact = get_runtime("litert:int8").layer(Layer.parse("relu 1x16>1x16 float32"))
    (input_,) = loaded(artifact, tmp_path)._interpreter.get_input_details()
    assert input_["dtype"] is np.int8
    scale, zero = input_["quantization"]
    values = draw(artifact)["input_0"]
    fed = loaded(artifact, tmp_path)._interpreter.get_tensor(input_["index"])
    np.testing.assert_allclose((fed.astype(np.float32) - zero) * scale, values, atol=scale / 2 + 1e-6)


def test_the_interpreter_tells_where_its_tensors_lie(tmp_path):
    artifact = RUNTIME.layer(Layer.parse("conv 1x16x16x16>1x32x16x16 k3x3 s1x1 p1,1,1,1 d1x1 g1 bias float32"))
    told = loaded(artifact, tmp_path, xnnpack="off").memory_stats()
    weights = 4 * (32 * 16 * 9 + 32)
    assert told["arena_bytes"] >= 4 * (16 + 32) * 16 * 16
    assert weights <= told["constant_bytes"] <= weights + 1024
    assert told["scratch_bytes"] >= 4 * 16 * 16 * 16 * 9  # the patches of the image, unfolded


def test_an_xnnpack_setting_that_there_is_not_is_refused():
    with pytest.raises(UnsupportedError, match="xnnpack is one of default off"):
        RUNTIMES["litert"]().prepare({"xnnpack": "on"})


def test_the_first_package_that_imports_is_taken_and_broken_ones_are_named(monkeypatch, tmp_path):
    (tmp_path / "hurt_runtime.py").write_text("raise ImportError('numpy 1 was meant')")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(sys.modules, "good_runtime", types.ModuleType("good_runtime"))
    absent, hurt, good = (("absent_runtime",) * 2, ("hurt_runtime",) * 2, ("good_runtime",) * 2)
    name, _, passed_over = litert_runtime.import_first((absent, hurt, good))
    assert (name, passed_over) == ("good_runtime", {"hurt_runtime": "numpy 1 was meant"})
    with pytest.raises(ImportError, match="numpy 1"):
        litert_runtime.import_first((absent, hurt))
    with pytest.raises(ModuleNotFoundError, match="none of absent_runtime") as caught:
        litert_runtime.import_first((absent,))
    assert caught.value.name == "absent_runtime"


def test_the_version_names_the_package():
    runtime = RUNTIMES["litert"]()
    runtime.import_()
    assert runtime.version().startswith("ai_edge_litert 2.")


def test_the_inputs_stay_set_from_run_to_run():
    artifact = RUNTIME.layer(Layer.parse(LAYERS[1]))
    feed = draw(artifact)
    interpreter = interpreter_of(artifact, feed)
    for _ in range(3):
        interpreter.invoke()
    for tensor in interpreter.get_input_details():
        np.testing.assert_array_equal(interpreter.get_tensor(tensor["index"]), feed[tensor["name"]])
