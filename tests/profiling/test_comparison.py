from __future__ import annotations

from collections.abc import Callable

import pytest

from hwloop.errors import UserError
from hwloop.profiling import LayerResult, NetworkResult, Timing, compare

Make = Callable[..., NetworkResult]


@pytest.mark.parametrize(
    ("b", "verdict"),
    [(8.0, "faster"), (12.0, "slower"), (10.0, "within noise"), (10.1, "within noise"), (9.9, "within noise")],
)
def test_the_verdict_is_on_the_second(result: Make, b: float, verdict: str) -> None:
    found = compare(result(10.0), result(b))
    assert found.verdict == verdict
    assert found.ratio == pytest.approx(b / 10)
    assert found.interval.low < found.ratio < found.interval.high


def test_disjoint_intervals_inside_the_noise_floor_are_noise(result: Make) -> None:
    sharp = {"spread": 0.001}
    assert compare(result(10.0, **sharp), result(10.5, **sharp)).verdict == "slower"
    assert compare(result(10.0, **sharp), result(10.5, noise_floor=0.06, **sharp)).verdict == "within noise"


def test_wide_intervals_are_noise_however_small_the_floor(result: Make) -> None:
    assert compare(result(10.0, spread=0.3), result(12.0, noise_floor=0.001)).verdict == "within noise"


@pytest.mark.parametrize(
    ("field", "value", "wish"),
    [
        ("threads", 2, "threads"),
        ("runtime", "litert", "runtime"),
        ("device", "pi", "device"),
        ("runtime_version", "1.20", "runtime_version"),
        ("cpu", "EMULATED, not real hardware: arm", "device"),
    ],
)
def test_results_of_different_kinds_are_refused_by_name(result: Make, field: str, value: object, wish: str) -> None:
    a, b = result(), result(**{field: value})
    with pytest.raises(UserError, match=rf"{field}: .* / {value}.*--across {wish}"):
        compare(a, b)
    found = compare(a, b, across=[wish])
    assert [text.split(":")[0] for text in found.differences] == [field]


def test_a_difference_that_was_not_meant_is_refused_beside_one_that_was(result: Make) -> None:
    with pytest.raises(UserError, match="threads: 1 / 2"):
        compare(result(), result(threads=2, runtime="litert"), across=["runtime"])


def test_an_unknown_field_is_refused_with_those_there_are(result: Make) -> None:
    with pytest.raises(UserError, match=r"flavour.*threads"):
        compare(result(), result(), across=["flavour"])


def test_a_result_without_a_latency_is_refused_with_its_reason(result: Make) -> None:
    crashed = result(end_to_end=Timing(status="crashed", reasons=("died by SIGSEGV while running",)))
    with pytest.raises(UserError, match=r"second.*crashed \(died by SIGSEGV"):
        compare(result(), crashed)


def test_layers_that_both_have_are_compared_largest_change_first(result: Make) -> None:
    def layers(**latencies: float) -> tuple[LayerResult, ...]:
        return tuple(
            LayerResult(
                key=key,
                names=(key,),
                timing=Timing(status="ok", latency_ms=ms, low_ms=0.99 * ms, high_ms=1.01 * ms),
            )
            for key, ms in latencies.items()
        )

    found = compare(result(layers=layers(a=1.0, b=1.0, c=1.0, gone=1.0)), result(layers=layers(a=1.0, b=3.0, c=0.5)))
    assert [(key, verdict) for key, _, verdict in found.layers] == [
        ("b", "slower"),
        ("c", "faster"),
        ("a", "within noise"),
    ]
