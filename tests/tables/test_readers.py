"""Tables that others have published, in the form in which their own tools write them."""

from __future__ import annotations

import pickle
from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest

from hwloop.errors import DataError
from hwloop.layers import Layer
from hwloop.tables import LatencyTable
from hwloop.tables.readers import Source, read_netadapt, read_nn_meter, read_once_for_all

PIXEL = Source("pixel1", "Snapdragon 821", "tflite", "1.13", 1)
UNTOLD = Source("their board")


def lookup(table: LatencyTable, key: str) -> tuple[str, float]:
    entry = table.lookup(Layer.parse(key))
    return entry.kind, round(entry.latency_ms, 6)


# -- NetAdapt ------------------------------------------------------------------------------------------------------


def grid_layer(kind: str, size: list[int], latency: dict[tuple[int, int], float], **more: Any) -> dict[str, Any]:
    """The properties of one layer, as `build_latency_lookup_table` pickles them."""
    return {
        "is_depthwise": False,
        "num_in_channels": size[1],
        "num_out_channels": 16,
        "kernel_size": (3, 3),
        "stride": (1, 1),
        "padding": (1, 1),
        "groups": 1,
        "layer_type_str": kind,
        "input_feature_map_size": size,
        "latency": latency,
        **more,
    }


def pickled(path: Path, content: object) -> Path:
    path.write_bytes(pickle.dumps(content))
    return path


def test_a_grid_of_netadapt_is_read_in_its_units(tmp_path: Path) -> None:
    shared = grid_layer("Conv2d", [1, 16, 32, 32], {(i, o): 1e-5 * i * o for i in (16, 8) for o in (16, 8)})
    depthwise = grid_layer(
        "Conv2d", [1, 16, 32, 32], {(16, 16): 2e-4, (8, 8): 1e-4}, is_depthwise=True, groups=16, stride=(2, 2)
    )
    grid = OrderedDict(
        first=shared,
        second=shared,
        depthwise=depthwise,
        up=grid_layer("ConvTranspose2d", [1, 16, 8, 8], {(16, 16): 3e-4}, kernel_size=(4, 4), stride=(2, 2)),
        classifier=grid_layer("Linear", [1, 64, 1, 1], {(64, 10): 5e-5}),
    )
    table = read_netadapt(pickled(tmp_path / "lut.pkl", grid), UNTOLD, batch=4)
    assert len(table) == 4 + 2 + 1 + 1
    conv = "conv 4x{}x32x32>4x{}x32x32 k3x3 s1x1 p1,1,1,1 d1x1 g1 bias float32"
    assert lookup(table, conv.format(16, 8)) == ("exact", 1.28)
    assert lookup(table, conv.format(12, 12)) == ("interpolated", 1.44)
    wise = "conv 4x8x32x32>4x8x16x16 k3x3 s2x2 p1,1,1,1 d1x1 g8 bias float32"
    assert lookup(table, wise) == ("exact", 0.1)
    assert lookup(table, "linear 4x64>4x10 bias float32") == ("exact", 0.05)
    assert lookup(table, "linear 1x64>1x10 bias float32")[0] == "unsupported"
    (up,) = table.filter(ops=["unsupported"]).rows
    assert up.key == 'unsupported 4x16x8x8>4x16x16x16 float32 detail="ConvTranspose2d k4x4 s2x2 p1x1 g1"'
    row = table.rows[0]
    assert (row.status, row.low_ms, row.high_ms, row.processes) == ("degraded", row.latency_ms, row.latency_ms, 0)
    assert "batch 4" in row.reasons[0]
    assert row.reasons[1:] == ("its interval is unknown", "its conditions and raw samples are unknown")
    assert table.context is not None
    assert table.context.text == "their board (unknown), unknown unknown, threads unknown"


class Hostile:
    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (Path("pwned"),))


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ({"conv": Hostile()}, "it holds a "),
        ({}, "it holds no layers by name"),
        ([1, 2], "it holds no layers by name"),
        ({"conv": {"latency": {}, "layer_type_str": "Conv3d"}, "b": 1}, "layer 'b' is not one of a lookup table"),
        ({"a": grid_layer("Conv3d", [1, 8, 8, 8], {(8, 8): 1.0})}, "a layer of type 'Conv3d'"),
        ({"a": grid_layer("Linear", [1, 8, 1, 1], {(8, 8): float("nan")})}, "layer 'a': table row .* its latency is"),
        ({"a": grid_layer("Conv2d", [1, 8, 8, 8], {(8, 8): 1.0}, groups=3)}, "layer 'a': a conv layer cannot be"),
        ({"a": grid_layer("Linear", [1, 8, 1, 1], {(8,): 1.0})}, "layer 'a' is not one"),
        ({"a": grid_layer("Linear", [1, 8, 1, 1], {(float("inf"), 8): 1.0})}, "layer 'a' is not one"),
    ],
)
def test_a_pickle_that_is_no_grid_is_one_line_and_runs_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: object, text: str
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match=text) as caught:
        read_netadapt(pickled(tmp_path / "lut.pkl", content), UNTOLD, 1)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "pwned").exists()


def test_a_pickle_that_is_cut_anywhere_is_refused(tmp_path: Path) -> None:
    path = pickled(tmp_path / "lut.pkl", {"a": grid_layer("Linear", [1, 8, 1, 1], {(8, 8): 1.0})})
    whole = path.read_bytes()
    for length in range(0, len(whole), 7):
        path.write_bytes(whole[:length])
        with pytest.raises(DataError, match="is not a lookup table"):
            read_netadapt(path, UNTOLD, 1)


# -- once-for-all --------------------------------------------------------------------------------------------------

# Keys and fields as in the published file for a Pixel 1.
PROXYLESS = """
Conv-input:224x224x3-output:112x112x32:
  count: 949
  mean: 4.397
  var: 0.156
Conv_1-input:7x7x320-output:7x7x1280:
  count: 949
  mean: 6.285
  var: 0.434
Logits-input:7x7x1280-output:1000:
  count: 949
  mean: 0.9348
  var: 0.15
expanded_conv-input:112x112x16-output:56x56x24-expand:3-kernel:3-stride:2-idskip:0:
  count: 156
  mean: 5.609
  var: 0.0878
expanded_conv-input:112x112x16-output:56x56x24-expand:6-kernel:3-stride:2-idskip:0:
  mean: 11.298
"""
MOBILENET_V3 = """
Conv-input:160x160x3-output:80x80x16: {mean: 2.0}
expanded_conv-input:40x40x32-output:40x40x32-expand:96-kernel:5-stride:1-idskip:1-se:0-hs:1: {mean: 3.0}
AvgPool2D-input:5x5x960-output:1x1x960: {mean: 0.5}
Conv_2-input:1x1x960-output:1x1x1280: {mean: 0.7}
Logits-input:1x1x1280-output:1000: {mean: 0.9}
"""


def test_a_table_of_once_for_all_is_read_with_its_intervals(tmp_path: Path) -> None:
    path = tmp_path / "mobile_trim.yaml"
    path.write_text(PROXYLESS)
    table = read_once_for_all(path, PIXEL)
    assert len(table) == 5
    first = "conv 1x3x224x224>1x32x112x112 k3x3 s2x2 p1,1,1,1 d1x1 g1 bias relu6 float32"
    entry = table.lookup(Layer.parse(first))
    assert (entry.kind, entry.latency_ms, entry.degraded) == ("exact", 4.397, True)
    error = 1.96 * (0.156 / 949) ** 0.5
    assert (entry.interval.low, entry.interval.high) == pytest.approx((4.397 - error, 4.397 + error))
    assert lookup(table, "conv 1x320x7x7>1x1280x7x7 k1x1 s1x1 p0,0,0,0 d1x1 g1 bias relu6 float32") == ("exact", 6.285)
    block = "unsupported 1x16x112x112>1x24x56x56 float32 detail="
    named = '"once-for-all expanded_conv expand:{} kernel:3 stride:2 idskip:0"'
    assert lookup(table, block + named.format(3)) == ("exact", 5.609)
    assert lookup(table, block + named.format(6)) == ("exact", 11.298)
    assert lookup(table, block + named.format(4))[0] == "unsupported"
    rows = {row.latency_ms: row for row in table.rows}
    assert "its interval is unknown" in rows[11.298].reasons
    assert "mean of 156 runs with its 95 % interval" in rows[5.609].reasons[0]
    assert rows[0.9348].key == 'unsupported 1x1280x7x7>1x1000 float32 detail="once-for-all Logits"'
    assert table.context is not None
    assert table.context.device == "pixel1"


def test_a_table_of_mobilenet_v3_has_its_own_activation_and_classifier(tmp_path: Path) -> None:
    path = tmp_path / "note10.yaml"
    path.write_text(MOBILENET_V3)
    assert [row.key for row in read_once_for_all(path, PIXEL).rows] == [
        "conv 1x3x160x160>1x16x80x80 k3x3 s2x2 p1,1,1,1 d1x1 g1 bias hard_swish float32",
        "unsupported 1x32x40x40>1x32x40x40 float32"
        ' detail="once-for-all expanded_conv expand:96 kernel:5 stride:1 idskip:1 se:0 hs:1"',
        "global_avg_pool 1x960x5x5>1x960x1x1 float32",
        "conv 1x960x1x1>1x1280x1x1 k1x1 s1x1 p0,0,0,0 d1x1 g1 bias hard_swish float32",
        "linear 1x1280>1x1000 bias float32",
    ]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: [1", "is not yaml"),
        ("- 1", "it holds no latencies by key"),
        ("", "it holds no latencies by key"),
        ("!!python/object/apply:os.system ['true']", "is not yaml"),
        ("conv3x3: {mean: 1}", "conv3x3: not an entry"),
        ("Conv-input:8x8x3-output:4x4x8: {median: 1}", "output:4x4x8: not an entry .*mean"),
        ("Conv-input:8x8x3-output:4x4x8: {mean: .nan}", "its latency is"),
        ("Conv-input:8x8x3-output:4x4x8: {mean: fast}", "not an entry"),
        ("Conv-input:8x8x3-output:4x4x8: {mean: 1, count: .inf, var: 1}", "not an entry"),
        ("Conv-input:8x8x3-output:4x4x8: {mean: 1, count: 3, var: -1}", "not an entry"),
        ("Conv-input:8x3-output:4x4x8: {mean: 1}", "not height x width x channels"),
        ("Conv-input:8x8x3-output:8x8x8: {mean: 1}", "a 8x8 map cannot become 8x8"),
    ],
)
def test_a_yaml_that_is_no_table_is_one_line(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "t.yaml"
    path.write_text(text)
    with pytest.raises(DataError, match=said) as caught:
        read_once_for_all(path, PIXEL)
    assert "\n" not in str(caught.value)


# -- nn-Meter ------------------------------------------------------------------------------------------------------

FILES = {
    "Data_conv-bn-relu_prior.csv": (
        "model_path,HW,CIN,COUT,KERNEL_SIZE,STRIDES,feature_0,feature_1,latency\n"
        "conv-bn-relu_x1,14,98,120,3,1,20.7,0.106,42.001\n"
        "conv-bn-relu_x2,224,3,24,5,2,22.7,0.0018,7.5\n",
        [
            "conv 1x98x14x14>1x120x14x14 k3x3 s1x1 p1,1,1,1 d1x1 g1 bias relu float32",
            "conv 1x3x224x224>1x24x112x112 k5x5 s2x2 p1,1,2,2 d1x1 g1 bias relu float32",
        ],
    ),
    "Data_dwconv-bn-relu6_m.csv": (
        "model_path,HW,CIN,COUT,KERNEL_SIZE,STRIDES,latency\na,7,960,960,3,1,0.5\n",
        ["conv 1x960x7x7>1x960x7x7 k3x3 s1x1 p1,1,1,1 d1x1 g960 bias relu6 float32"],
    ),
    "Data_maxpool_m.csv": (
        "model_path,HW,CIN,COUT,KERNEL_SIZE,POOL_STRIDES,latency\na,56,64,64,3,2,0.25\n",
        ["max_pool 1x64x56x56>1x64x28x28 k3x3 s2x2 p0,0,1,1 d1x1 float32"],
    ),
    "Data_fc_m.csv": (
        "model_path,CIN,COUT,feature_0,latency\na,1280,1000,1.28,2\n",
        ["linear 1x1280>1x1000 bias float32"],
    ),
    "Data_concat_m.csv": (
        "model_path,HW,CIN1,CIN2,CIN3,CIN4,latency\na,7,8,16,0,0,0.1\n",
        ['concat 1x8x7x7,1x16x7x7>1x24x7x7 float32 detail="axis=1"'],
    ),
    "Data_addrelu_m.csv": (
        "model_path,HW,CIN,CIN,latency\na,7,64,64,0.1\n",
        ["add 1x64x7x7,1x64x7x7>1x64x7x7 relu float32"],
    ),
    "Data_global-avgpool_m.csv": (
        "model_path,HW,CIN,latency\na,7,64,.1\n",
        ["global_avg_pool 1x64x7x7>1x64x1x1 float32"],
    ),
    "Data_bnrelu_m.csv": ("model_path,HW,CIN,latency\na,7,64,.1\n", ["batch_norm 1x64x7x7>1x64x7x7 relu float32"]),
    "Data_hswish_m.csv": ("model_path,HW,CIN,latency\na,7,64,.1\n", ["hard_swish 1x64x7x7>1x64x7x7 float32"]),
    "Data_se_m.csv": (
        "model_path,HW,CIN,latency\na,7,64,.1\n",
        ['unsupported 1x64x7x7>1x64x7x7 float32 detail="nn-Meter se"'],
    ),
}


@pytest.mark.parametrize("name", FILES)
def test_kernels_of_nn_meter_are_layers(tmp_path: Path, name: str) -> None:
    text, keys = FILES[name]
    (tmp_path / name).write_text(text)
    table = read_nn_meter(tmp_path / name, UNTOLD)
    assert [row.key for row in table.rows] == keys
    assert {row.status for row in table.rows} == {"degraded"}
    assert lookup(table, keys[0]) == ("exact", float(text.splitlines()[1].rpartition(",")[2]))


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("kernels.csv", "HW,CIN,latency\n7,64,1\n", "say which kernel"),
        ("Data_warp_m.csv", "HW,CIN,latency\n7,64,1\n", "say which kernel"),
        ("Data_relu_m.csv", "CIN,latency\n64,1\n", "lacks the columns HW of relu"),
        ("Data_relu_m.csv", "", "lacks the columns HW, CIN, latency"),
        ("Data_relu_m.csv", "HW,CIN,latency\n7,64,1\n7,64\n", "line 3"),
        ("Data_relu_m.csv", "HW,CIN,latency\n7.5,64,1\n", "line 2: 7.5 is not a whole number"),
        ("Data_relu_m.csv", "HW,CIN,latency\n7,64,0\n", "line 2: table row"),
        ("Data_relu_m.csv", "HW,CIN,latency\n7,inf,1\n", "line 2"),
    ],
)
def test_what_is_no_kernel_data_is_one_line(tmp_path: Path, name: str, text: str, said: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(DataError, match=said) as caught:
        read_nn_meter(tmp_path / name, UNTOLD)
    assert "\n" not in str(caught.value)


def test_the_kernel_can_be_told(tmp_path: Path) -> None:
    (tmp_path / "mine.csv").write_text("HW,CIN,latency\n7,64,1\n")
    assert len(read_nn_meter(tmp_path / "mine.csv", UNTOLD, "relu")) == 1
    with pytest.raises(DataError, match="'warp' is no kernel"):
        read_nn_meter(tmp_path / "mine.csv", UNTOLD, "warp")
