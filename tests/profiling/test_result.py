from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from hwloop.errors import DataError
from hwloop.profiling import (
    Bytes,
    Collection,
    LayerResult,
    NetworkResult,
    Profile,
    ProfileRow,
    Timing,
    load_results,
    save_result,
)

Make = Callable[..., NetworkResult]


def layer(key: str, latency_ms: float | None, *names: str) -> LayerResult:
    timing = Timing(status="timeout") if latency_ms is None else Timing(status="ok", latency_ms=latency_ms)
    return LayerResult(key=key, names=names or (key,), timing=timing)


def row(ms: float, owner: str | None) -> ProfileRow:
    return ProfileRow(name="n", op="Conv", layer=owner, latency_ms=ms, calls=1, memory={"output_bytes": 4})


def test_a_result_is_the_same_after_its_file(result: Make, tmp_path: Path) -> None:
    profile = Profile(
        status="ok", method="m", runs=3, profiled_ms=11.0, clean_ms=10.0, rows=(row(4, "a"), row(1, None))
    )
    memory = (Bytes(what="peak resident set", bytes=5, method="VmHWM"),)
    full = result(
        layers=(layer("a", 2.0, "x", "y"),), profile=profile, memory=memory, missing={}, settings={"threads": 1}
    )
    save_result(full, tmp_path / "r.json")
    assert load_results(tmp_path / "r.json") == (full,)
    derived = json.loads((tmp_path / "r.json").read_text())["derived"]
    assert derived["sum_of_layers_ms"] == 4.0
    assert derived["gap"] == pytest.approx(-0.6)
    assert derived["profile_overhead"] == pytest.approx(0.1)
    assert derived["profile_unmapped_share"] == pytest.approx(0.2)
    save_result(Collection(results=(full, full)), tmp_path / "many.json")
    assert load_results(tmp_path / "many.json") == (full, full)


def test_a_sum_of_layers_exists_only_when_none_is_missing(result: Make) -> None:
    layers = (layer("a", 2.0, "x", "y"), layer("b", 3.0))
    assert result(layers=layers).sum_ms == 7.0
    assert result(layers=layers).gap == pytest.approx(-0.3)
    assert result(layers=layers, missing={"c": "unsupported"}).sum_ms is None
    assert result().sum_ms is None
    assert result().gap is None


@pytest.mark.parametrize(("profiled_ms", "trusted"), [(12.9, True), (13.1, False), (None, False)])
def test_rows_are_costs_of_layers_only_while_the_overhead_is_small(profiled_ms: float | None, trusted: bool) -> None:
    assert Profile(status="ok", profiled_ms=profiled_ms, clean_ms=10.0, rows=(row(1, "a"),)).trusted == trusted


def test_rows_that_take_longer_than_the_network_are_not_trusted() -> None:
    assert Profile(status="ok", profiled_ms=10.0, clean_ms=10.0, rows=(row(6, "a"), row(4, "b"))).trusted
    longer = Profile(status="ok", profiled_ms=10.0, clean_ms=10.0, rows=(row(7, "a"), row(4, "b")))
    assert not longer.trusted
    assert "interrupted" in longer.doubt


def test_a_profile_without_rows_is_not_trusted() -> None:
    assert not Profile(status="unsupported", reasons=("litert has no profiler",)).trusted


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"results": 3}', '{"format": "hwloop-result-1"}', "null"])
def test_what_is_no_result_is_refused_with_its_name(tmp_path: Path, content: str) -> None:
    path = tmp_path / "no.json"
    path.write_text(content)
    with pytest.raises(DataError, match=r"no\.json"):
        load_results(path)
    with pytest.raises(DataError, match=r"absent\.json"):
        load_results(tmp_path / "absent.json")
