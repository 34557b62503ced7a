"""CSV loses nothing."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hwloop.errors import DataError
from hwloop.layers import Layer
from hwloop.tablefile import SCHEMA
from hwloop.tables import Context, LatencyTable, Row
from hwloop.tables.csv_file import read_csv, write_csv

MakeRow = Callable[..., Row]
MakeConv = Callable[..., Layer]

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
known = st.none() | texts
numbers = st.none() | st.floats(allow_nan=False)
positive = st.floats(min_value=1e-9, max_value=1e9)
counts = st.integers(-(2**63), 2**63 - 1)


@st.composite
def rows(draw: st.DrawFn, context: Context) -> Row:
    status = draw(st.sampled_from(["ok", "degraded", "crashed", "unsupported"]))
    low, latency, high = sorted(draw(st.tuples(positive, positive, positive)))
    if status not in ("ok", "degraded"):
        low = latency = high = math.nan
    width = draw(st.integers(1, 40))
    detail = draw(texts)
    shape = (1, 4, width, width)
    return Row(
        key=Layer("unsupported", (shape,), shape, detail=detail).key.replace("\n", " ")
        if detail.isprintable()
        else Layer("relu", (shape,), shape).key,
        latency_ms=latency,
        low_ms=low,
        high_ms=high,
        process_medians_ms=tuple(draw(st.lists(positive, max_size=3))),
        peak_bytes=draw(counts),
        model_bytes=draw(counts),
        status=status,
        reasons=tuple(draw(st.lists(texts, max_size=3))),
        context=context,
        governor=draw(known),
        clock_mhz=draw(numbers),
        temperature_c=draw(numbers),
        throttle=draw(texts),
        canary_ratio=draw(numbers),
        samples_sha256=draw(texts),
        trial_ids=tuple(draw(st.lists(texts, max_size=3))),
        agent_sha256=draw(texts),
        measured_at=draw(texts),
        emulated=draw(st.none() | st.booleans()),
        fusion=draw(known),
        workload_sha256=draw(known),
    )


@st.composite
def tables(draw: st.DrawFn) -> LatencyTable:
    context = Context(draw(texts), draw(texts), draw(texts), draw(texts), draw(counts))
    mixed = draw(st.lists(texts, max_size=2))
    return LatencyTable(draw(st.lists(rows(context), max_size=4)), draw(st.integers(1, 64)), mixed)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=150, deadline=None)
@given(table=tables())
def test_a_table_comes_back_from_csv_as_it_was(table: LatencyTable, tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    write_csv(table, path)
    again = read_csv(path)
    assert again.records() == table.records()
    assert again.header == table.header
    assert again.context == table.context


@pytest.fixture
def csv(conv: MakeConv, make_row: MakeRow, tmp_path: Path) -> Path:
    path = tmp_path / "t.csv"
    write_csv(LatencyTable([make_row(conv(8, 8), 1.5, reasons=("a, b",), clock_mhz=1500.0)], grain=8), path)
    return path


def test_other_tools_read_it(csv: Path) -> None:
    frame = pd.read_csv(csv, skiprows=1)
    assert list(frame.columns) == SCHEMA.names
    assert (frame["latency_ms"][0], frame["clock_mhz"][0], frame["reasons"][0]) == (1.5, 1500.0, '["a, b"]')


def test_a_column_more_and_another_order_do_no_harm(csv: Path) -> None:
    first, names, cells = csv.read_text().splitlines()
    csv.write_text(f"{first}\r\nnote,{names}\r\nmine,{cells}\r\n")
    (row,) = read_csv(csv).rows
    assert row.latency_ms == 1.5


@pytest.mark.parametrize(
    ("old", "new", "text"),
    [
        ("# hwloop", "# other", "is not a latency table as CSV"),
        ('"version": 4', '"version": 5', "schema version 5, this hwloop reads up to 4"),
        ('{"grain": 8', "{", "damaged header"),
        ("status,", "state,", "lacks the columns status"),
        (",1.5,", ",nan,", "before line 4: table row .* is ok but its latency is"),
        (",1.5,", ",,", "before line 4: table row .* is ok but its latency is"),
        (",1.5,", ",fast,", "before line 4: latency_ms is 'fast'"),
        ('"[""a, b""]"', "a", "before line 4: reasons is 'a'"),
        (",1500.0,", ",1500.0,,", "before line 4: more cells than columns"),
        ("conv 1x8", "konv 1x8", "'konv 1x8.* is not a layer key"),
    ],
)
def test_what_cannot_be_is_one_line_with_the_place(csv: Path, old: str, new: str, text: str) -> None:
    before = csv.read_text()
    assert old in before
    csv.write_text(before.replace(old, new, 1))
    with pytest.raises(DataError, match=text) as caught:
        read_csv(csv)
    assert str(csv) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_file_and_a_folder(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="there is no file"):
        read_csv(tmp_path / "none.csv")
    with pytest.raises(DataError, match="cannot be read"):
        read_csv(tmp_path)
    with pytest.raises(DataError, match="cannot be written"):
        write_csv(LatencyTable(), tmp_path / "no" / "t.csv")


def test_a_row_that_has_no_latency_stays_without(conv: MakeConv, make_row: MakeRow, tmp_path: Path) -> None:
    nan = float("nan")
    crashed = make_row(conv(8, 8), nan, low_ms=nan, high_ms=nan, status="crashed", process_medians_ms=())
    write_csv(LatencyTable([crashed]), tmp_path / "t.csv")
    (row,) = read_csv(tmp_path / "t.csv").rows
    assert math.isnan(row.latency_ms)
    assert replace(row, latency_ms=0, low_ms=0, high_ms=0) == replace(crashed, latency_ms=0, low_ms=0, high_ms=0)
