"""A table keeps what was measured, and says where its answers come from."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from hwloop.errors import DataError, UserError
from hwloop.layers import Layer
from hwloop.tablefile import METADATA_KEY, SCHEMA
from hwloop.tables import Context, LatencyTable, Row

MakeRow = Callable[..., Row]
MakeConv = Callable[..., Layer]


@pytest.fixture
def rows(conv: MakeConv, make_row: MakeRow) -> list[Row]:
    return [make_row(conv(a, b), 0.01 + 0.0001 * a * b, trial_ids=(f"t{a}.{b}",)) for a in (8, 32) for b in (8, 32)]


def test_a_saved_table_comes_back_as_it_was(rows: list[Row], tmp_path: Path, conv: MakeConv, make_row: MakeRow) -> None:
    nan = float("nan")
    crashed = make_row(
        conv(64, 64),
        nan,
        low_ms=nan,
        high_ms=nan,
        process_medians_ms=(),
        status="crashed",
        reasons=("SIGSEGV in run",),
        governor="performance",
        clock_mhz=1800.0,
        throttle="none",
        canary_ratio=1.02,
        temperature_c=61.5,
        samples_sha256="ab" * 32,
        agent_sha256="cd" * 32,
        measured_at="2026-11-22T10:00:00+00:00",
    )
    table = LatencyTable([*rows, crashed], grain=8)
    table.save(tmp_path / "table.parquet")
    again = LatencyTable.load(tmp_path / "table.parquet")
    assert again.rows[:-1] == tuple(rows)
    assert math.isnan(again.rows[-1].latency_ms)
    assert replace(again.rows[-1], latency_ms=0, low_ms=0, high_ms=0) == replace(
        crashed, latency_ms=0, low_ms=0, high_ms=0
    )
    assert (again.grain, again.context, len(again)) == (8, table.context, 5)
    assert list(again.to_frame().columns) == SCHEMA.names


def test_an_empty_table_can_be_saved_and_asked(tmp_path: Path, conv: MakeConv) -> None:
    LatencyTable().save(tmp_path / "empty.parquet")
    table = LatencyTable.load(tmp_path / "empty.parquet")
    assert (len(table), table.context) == (0, None)
    assert table.lookup(conv(8, 8)).kind == "unsupported"


def test_a_lookup_says_how_it_knows(rows: list[Row], conv: MakeConv) -> None:
    table = LatencyTable(rows, grain=8)
    exact = table.lookup(conv(8, 32))
    assert (exact.kind, exact.latency_ms, exact.interval.low) == ("exact", rows[1].latency_ms, rows[1].low_ms)
    between = table.lookup(conv(16, 17))
    assert between.kind == "interpolated"
    assert between.latency_ms == table.lookup(conv(16, 24)).latency_ms
    assert "4 measured widths, 8-32 in and 8-32 out" in between.reasons[0]
    beyond = table.lookup(conv(64, 32))
    assert beyond.kind == "extrapolated"
    assert beyond.interval.low < 0.01 + 0.0001 * 64 * 32 <= beyond.latency_ms


@pytest.mark.parametrize("key", ["linear 1x8>1x8 float32", 'unsupported 1x8>1x8 float32 detail="Einsum"'])
def test_a_layer_that_was_never_measured_is_unsupported_and_does_not_raise(rows: list[Row], key: str) -> None:
    entry = LatencyTable(rows).lookup(Layer.parse(key))
    assert entry.kind == "unsupported"
    assert not entry.supported
    assert math.isnan(entry.latency_ms)
    assert entry.reasons == ("nothing of this geometry was measured",)


def test_several_rows_of_one_layer_are_pooled(conv: MakeConv, make_row: MakeRow) -> None:
    layer = conv(8, 8)
    entry = LatencyTable([make_row(layer, latency) for latency in (1.0, 1.1, 1.6)]).lookup(layer)
    assert entry.latency_ms == 1.1
    assert (entry.interval.low, entry.interval.high) == (1.0, 1.6)


def test_degraded_rows_are_used_only_where_there_is_no_ok_one_and_are_flagged(
    conv: MakeConv, make_row: MakeRow
) -> None:
    layer = conv(8, 8)
    bad = make_row(layer, 2.0, status="degraded", reasons=("canary 1.3",))
    assert LatencyTable([bad, make_row(layer, 1.0)]).lookup(layer).latency_ms == 1.0
    alone = LatencyTable([bad]).lookup(layer)
    assert (alone.kind, alone.latency_ms, alone.degraded) == ("exact", 2.0, True)
    assert "degraded" in alone.reasons[-1]


def test_a_layer_that_crashed_is_interpolated_and_says_that_it_crashed(
    rows: list[Row], conv: MakeConv, make_row: MakeRow
) -> None:
    nan = float("nan")
    crashed = make_row(conv(16, 16), nan, low_ms=nan, high_ms=nan, status="crashed", process_medians_ms=())
    table = LatencyTable([*rows, crashed])
    entry = table.lookup(conv(16, 16))
    assert entry.kind == "interpolated"
    assert entry.reasons[-1] == "measuring this layer failed: crashed"
    assert conv(16, 16) not in table
    assert conv(8, 8) in table


def test_concatenations_of_the_same_width_in_another_split_are_not_called_exact(make_row: MakeRow) -> None:
    measured = Layer.parse("concat 1x8x4x4,1x24x4x4>1x32x4x4 float32")
    other = Layer.parse("concat 1x16x4x4,1x16x4x4>1x32x4x4 float32")
    table = LatencyTable([make_row(measured, 0.5)])
    assert table.lookup(measured).kind == "exact"
    assert (table.lookup(other).kind, table.lookup(other).latency_ms) == ("interpolated", 0.5)


def test_appending_the_same_trials_again_changes_nothing(rows: list[Row]) -> None:
    table = LatencyTable(rows[:2])
    assert table.append(rows).rows == tuple(rows)
    assert len(table) == 2
    assert table.append(rows).append(rows).rows == tuple(rows)


def test_merging_keeps_each_row_once(rows: list[Row]) -> None:
    merged = LatencyTable(rows[:3], grain=8).merge(LatencyTable(rows[1:], grain=8))
    assert sorted(row.key for row in merged.rows) == sorted(row.key for row in rows)
    assert merged.grain == 8


@pytest.mark.parametrize(
    ("field", "value"), [("device", "pi"), ("runtime", "litert"), ("runtime_version", "1.30.0"), ("threads", 4)]
)
def test_tables_of_different_contexts_are_never_mixed_and_the_difference_is_named(
    rows: list[Row], context: Context, field: str, value: object
) -> None:
    other = replace(rows[0], context=replace(context, **{field: value}))
    for attempt in (
        lambda: LatencyTable(rows).merge(LatencyTable([other])),
        lambda: LatencyTable(rows).append([other]),
        lambda: LatencyTable([*rows, other]),
    ):
        with pytest.raises(UserError, match=f"differ in {field} \\(") as caught:
            attempt()
        assert "\n" not in str(caught.value)


def test_tables_of_different_grain_are_not_merged_silently(rows: list[Row]) -> None:
    with pytest.raises(UserError, match="grain 8 and 16"):
        LatencyTable(rows[:2], grain=8).merge(LatencyTable(rows[2:], grain=16))


def test_a_usable_row_without_a_latency_is_refused(conv: MakeConv, make_row: MakeRow) -> None:
    with pytest.raises(UserError, match="is ok but its latency"):
        make_row(conv(8, 8), float("nan"))
    with pytest.raises(UserError, match="outside its interval"):
        make_row(conv(8, 8), 1.0, low_ms=1.1)


def test_the_grain_is_learned_from_the_sweeps_in_the_table(conv: MakeConv, make_row: MakeRow) -> None:
    rows = [
        make_row(conv(inputs, outputs), 0.004 + 0.001 * inputs * math.ceil(outputs / 16))
        for inputs in (16, 32)
        for outputs in range(5, 64, 3)
    ]
    depthwise = [make_row(conv(width, width, groups=width), 0.01 * width) for width in range(2, 40)]
    grain = LatencyTable([*rows, *depthwise]).learn_grain(noise=0.005)
    assert grain.step == 16
    assert grain.points == 40


def damaged(path: Path) -> dict[str, bytes]:
    whole = path.read_bytes()
    table = pq.read_table(path)
    nan = table.set_column(
        table.schema.get_field_index("latency_ms"), SCHEMA.field("latency_ms"), [[float("nan")] * len(table)]
    )

    def parquet(content: pa.Table, header: object) -> bytes:
        sink = pa.BufferOutputStream()
        metadata = None if header is None else {METADATA_KEY: json.dumps(header).encode()}
        pq.write_table(content.replace_schema_metadata(metadata), sink)
        return bytes(sink.getvalue().to_pybytes())

    return {
        "not readable Parquet": whole[: len(whole) // 2],
        "not readable Parquet (": b"device,latency\npi,3\n",
        "schema version 5, this hwloop reads up to 4": parquet(table, {"version": 5}),
        "not a latency table of hwloop": parquet(table, None),
        "damaged header": parquet(table, ["no"]),
        "lacks the columns status": parquet(table.drop_columns(["status"]), {"version": 1}),
        "lacks the columns emulated": parquet(table.drop_columns(["emulated"]), {"version": 2}),
        "usable rows without a positive, finite latency": parquet(nan, {"version": 1, "grain": 1}),
    }


def test_a_file_that_is_no_table_gives_one_line_and_is_left_alone(rows: list[Row], tmp_path: Path) -> None:
    path = tmp_path / "table.parquet"
    LatencyTable(rows).save(path)
    for text, content in damaged(path).items():
        path.write_bytes(content)
        with pytest.raises(DataError) as caught:
            LatencyTable.load(path)
        assert text in str(caught.value)
        assert str(path) in str(caught.value)
        assert "\n" not in str(caught.value)
        assert path.read_bytes() == content


def test_a_table_of_version_1_does_not_say_whether_it_was_emulated(rows: list[Row], tmp_path: Path) -> None:
    path = tmp_path / "table.parquet"
    told = [replace(row, emulated=True) for row in rows]
    LatencyTable(told).save(path)
    assert LatencyTable.load(path).rows == tuple(told)
    table = pq.read_table(path).drop_columns(["emulated"])
    header = json.dumps({"version": 1, "grain": 8}).encode()
    pq.write_table(table.replace_schema_metadata({METADATA_KEY: header}), path)
    assert LatencyTable.load(path).rows == tuple(replace(row, emulated=None) for row in rows)


def test_a_table_cut_or_flipped_anywhere_is_refused_or_read_right(rows: list[Row], tmp_path: Path) -> None:
    path = tmp_path / "table.parquet"
    LatencyTable(rows).save(path)
    whole = path.read_bytes()
    for length in range(0, len(whole), 97):
        path.write_bytes(whole[:length])
        with pytest.raises(DataError):
            LatencyTable.load(path)


def test_there_is_one_line_for_a_missing_file_and_a_folder(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="there is no latency table at"):
        LatencyTable.load(tmp_path / "none.parquet")
    with pytest.raises(DataError, match="cannot be read: Is a directory"):
        LatencyTable.load(tmp_path)
    with pytest.raises(DataError, match="cannot be written"):
        LatencyTable().save(tmp_path / "no" / "folder.parquet")


def test_a_save_that_fails_leaves_the_old_table(
    rows: list[Row], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "table.parquet"
    LatencyTable(rows[:1]).save(path)

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(DataError, match="No space left on device"):
        LatencyTable(rows).save(path)
    monkeypatch.undo()
    assert LatencyTable.load(path).rows == tuple(rows[:1])
    assert list(tmp_path.iterdir()) == [path]
