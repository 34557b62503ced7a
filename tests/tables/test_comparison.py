"""Two tables: a verdict for each layer, from both intervals and the noise floor."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from hwloop.errors import UserError
from hwloop.layers import Layer
from hwloop.tables import Context, LatencyTable, Row, compare_tables

MakeRow = Callable[..., Row]
MakeConv = Callable[..., Layer]


def sharp(latency_ms: float) -> dict[str, float]:
    return {"low_ms": latency_ms * 0.999, "high_ms": latency_ms * 1.001}


@pytest.mark.parametrize(
    ("b", "verdict"), [(0.8, "faster"), (1.3, "slower"), (1.01, "within noise"), (1.0, "within noise")]
)
def test_the_verdict_is_on_the_second(conv: MakeConv, make_row: MakeRow, b: float, verdict: str) -> None:
    layer = conv(8, 8)
    found = compare_tables(LatencyTable([make_row(layer, 1.0)]), LatencyTable([make_row(layer, b)]))
    (one,) = found.layers
    assert (one.key, one.verdict) == (layer.key, verdict)
    assert one.ratio == pytest.approx(b)
    assert found.ratio == pytest.approx(b)
    assert one.interval.low < b < one.interval.high


def test_disjoint_intervals_inside_the_noise_floor_are_noise(conv: MakeConv, make_row: MakeRow) -> None:
    a = LatencyTable([make_row(conv(8, 8), 1.0, **sharp(1.0))])
    apart = (1.02, 1.12)
    quiet = LatencyTable([make_row(conv(8, 8), 1.05, **sharp(1.05))])
    noisy = LatencyTable([make_row(conv(8, 8), 1.05, **sharp(1.05), process_medians_ms=apart)])
    assert compare_tables(a, quiet).layers[0].verdict == "slower"
    found = compare_tables(a, noisy)
    assert found.layers[0].verdict == "within noise"
    assert found.noise_floor == pytest.approx(0.1 / 1.07)


def test_an_operation_has_a_noise_floor_of_its_own(conv: MakeConv, make_row: MakeRow) -> None:
    pool = Layer.parse("max_pool 1x8x4x4>1x8x2x2 k2x2 s2x2 p0,0,0,0 d1x1 float32")
    pools = [pool.resized((width,), width) for width in range(8, 15)]

    def table(factor: float) -> LatencyTable:
        quiet = [make_row(conv(8, width), factor, **sharp(factor)) for width in range(8, 20)]
        apart = (0.9 * factor, 1.1 * factor)
        loud = [make_row(one, factor, **sharp(factor), process_medians_ms=apart) for one in pools]
        return LatencyTable([*quiet, *loud])

    found = compare_tables(table(1.0), table(1.05))
    verdicts = {one.key.partition(" ")[0]: one.verdict for one in found.layers}
    assert verdicts == {"conv": "slower", "max_pool": "within noise"}
    assert found.noise_floor == 0


def test_a_layer_of_which_nobody_knows_the_interval_gets_no_verdict(conv: MakeConv, make_row: MakeRow) -> None:
    foreign = make_row(conv(8, 8), 2.0, low_ms=2.0, high_ms=2.0, process_medians_ms=(), status="degraded")
    a, b = LatencyTable([make_row(conv(8, 8), 1.0)]), LatencyTable([foreign])
    assert compare_tables(a, b).layers[0].verdict == "unknown"
    assert compare_tables(b, a).layers[0].verdict == "unknown"


def test_layers_are_pooled_sorted_by_change_and_those_of_one_table_are_told(conv: MakeConv, make_row: MakeRow) -> None:
    nan = float("nan")
    crashed = make_row(conv(8, 40), nan, low_ms=nan, high_ms=nan, status="crashed", process_medians_ms=())
    a = LatencyTable([make_row(conv(8, width), 1.0) for width in (8, 16, 24, 32, 40)])
    history = [make_row(conv(8, 16), latency) for latency in (0.2, 0.25, 9.0)]
    others = [make_row(conv(8, width), latency) for width, latency in ((8, 1.1), (24, 3.0), (48, 1.0))]
    b = LatencyTable([*history, *others, crashed])
    found = compare_tables(a, b)
    assert [one.key for one in found.layers] == [conv(8, width).key for width in (16, 24, 8)]
    assert found.layers[0].b_ms == 0.25
    assert found.only_a == (conv(8, 32).key, conv(8, 40).key)
    assert found.only_b == (conv(8, 48).key,)


def test_other_contexts_are_compared_only_knowingly(conv: MakeConv, make_row: MakeRow, context: Context) -> None:
    row = make_row(conv(8, 8), 1.0)
    other = replace(row, context=replace(context, runtime="litert", runtime_version="2.3.0"))
    a, b = LatencyTable([row]), LatencyTable([other])
    with pytest.raises(UserError, match="these tables are not of one kind: runtime: onnxruntime / litert; runtime_ver"):
        compare_tables(a, b)
    found = compare_tables(a, b, across=["runtime"])
    assert found.differences == ("runtime: onnxruntime / litert", "runtime_version: 1.31.1 / 2.3.0")
    with pytest.raises(UserError, match="empty"):
        compare_tables(a, LatencyTable())
