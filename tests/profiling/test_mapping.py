from __future__ import annotations

import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import helper

from hwloop.layers import OPS, Layer, Network, Node
from hwloop.profiling.mapping import _aligned, kind_of, map_rows, onnx_names

CONV = "conv 1x8x4x4>1x8x4x4 k3x3 s1x1 p1,1,1,1 d1x1 g1 relu float32"
POOL = "max_pool 1x8x4x4>1x8x2x2 k2x2 s2x2 p0,0,0,0 d1x1 float32"
FLATTEN = "flatten 1x8x2x2>1x32 float32"
LINEAR = "linear 1x32>1x10 bias float32"


@pytest.fixture
def network() -> Network:
    keys = (("first", CONV), ("second", CONV), ("pool", POOL), ("flatten", FLATTEN), ("fc", LINEAR))
    nodes = tuple(
        Node(name, Layer.parse(key), (at - 1,), (f"/{name}/Node", f"/{name}/Relu") if "conv" in key else (f"/{name}",))
        for at, (name, key) in enumerate(keys)
    )
    return Network(nodes, ((1, 8, 4, 4),), (4,))


@pytest.fixture
def model() -> bytes:
    """The ONNX file that `network` was read from, as far as names go."""
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c1"], "/first/Node"),
        helper.make_node("Relu", ["c1"], ["r1"], "/first/Relu"),
        helper.make_node("Conv", ["r1", "w"], ["c2"], "/second/Node"),
        helper.make_node("Relu", ["c2"], ["r2"], "/second/Relu"),
        helper.make_node("MaxPool", ["r2"], ["p"], "/pool", kernel_shape=[2, 2]),
        helper.make_node("Flatten", ["p"], ["f"], "/flatten"),
        helper.make_node("Gemm", ["f", "g"], ["y"], "/fc"),
    ]
    return helper.make_model(helper.make_graph(nodes, "g", [], [])).SerializeToString()


def rows(*pairs: tuple[str, str]) -> list[dict[str, str]]:
    return [{"name": name, "op": op} for name, op in pairs]


def test_onnxruntimes_names_lead_back_to_the_layers(network: Network, model: bytes) -> None:
    found = map_rows(
        rows(
            ("r1_nchwc", "Conv"),
            ("fused /second/Node", "FusedConv"),
            ("ReorderOutput_token_3", "ReorderOutput"),
            ("/pool", "MaxPool"),
            ("/fc", "Gemm"),
        ),
        network,
        onnx_names(model, network),
    )
    assert found == [0, 1, None, 2, 4]


def test_without_names_the_order_of_execution_tells(network: Network) -> None:
    found = map_rows(
        rows(
            ("a", "fused_conv2d_add_relu"),
            ("b", "layout_transform"),
            ("c", "fused_conv2d_add_relu1"),
            ("d", "max_pool2d"),
            ("e", "fused_matmul_add"),
        ),
        network,
        {},
    )
    assert found == [0, None, 1, 2, 4]


def test_names_come_first_and_the_rest_is_placed_around_them(network: Network, model: bytes) -> None:
    found = map_rows(
        rows(("??", "Conv"), ("/second/Node", "Conv"), ("!", "Softmax")), network, onnx_names(model, network)
    )
    assert found == [0, 1, None]


def test_more_rows_than_layers_leave_some_unmapped(network: Network) -> None:
    assert map_rows(rows(*[("x", "conv")] * 4), network, {}).count(None) == 2


def test_every_operation_has_a_kind() -> None:
    assert [op for op in OPS if not kind_of(op)] == ["unsupported"]
    assert kind_of("ReorderInput") == ""


@given(st.text("abc", max_size=8), st.text("abc", max_size=8))
def test_an_alignment_pairs_equal_items_in_order(first: str, second: str) -> None:
    pairs = list(_aligned(first, second))
    assert all(first[i] == second[j] for i, j in pairs)
    assert pairs == sorted(pairs)
    assert len({i for i, _ in pairs}) == len({j for _, j in pairs}) == len(pairs)
    if first == second:
        assert len(pairs) == len(first)


def test_a_model_that_is_no_network_of_ours_maps_nothing(network: Network) -> None:
    other = helper.make_model(helper.make_graph([helper.make_node("Relu", ["a"], ["b"], "else")], "g", [], []))
    assert onnx_names(onnx.load_from_string(other.SerializeToString()).SerializeToString(), network) == {}
