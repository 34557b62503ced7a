"""What was measured at other clocks is merged only knowingly, and then says so."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from hwloop.errors import UserError
from hwloop.layers import Layer
from hwloop.tables import LatencyTable, Row

MakeRow = Callable[..., Row]
MakeConv = Callable[..., Layer]
MakeTable = Callable[..., LatencyTable]


@pytest.fixture
def make_table(conv: MakeConv, make_row: MakeRow) -> MakeTable:
    """A table of one row for each clock."""

    def make(*clocks_mhz: float | None, governor: str | None = "performance", first: int = 8) -> LatencyTable:
        return LatencyTable(
            make_row(conv(8, first + i), 1.0, governor=governor, clock_mhz=clock) for i, clock in enumerate(clocks_mhz)
        )

    return make


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ((1500.0, 1500.0), (1500.0,)),
        ((1500.0, 1480.0), (1560.0,)),
        ((1500.0, 1500.0, 1500.0, 600.0, 1500.0), (1500.0,)),
        ((600.0, 1500.0), (1000.0,)),
        ((None,), (None,)),
    ],
)
def test_the_same_clocks_are_merged(make_table: MakeTable, a: tuple[float], b: tuple[float]) -> None:
    merged = make_table(*a).merge(make_table(*b, first=40))
    assert len(merged) == len(a) + len(b)
    assert merged.mixed == ()


@pytest.mark.parametrize(
    ("a", "b", "named"),
    [
        ((1500.0,), (600.0,), r"clock \(1500 MHz / 600 MHz\)"),
        ((1500.0, 1400.0), (600.0, 700.0), r"clock \(1425–1475 MHz / 625–675 MHz\)"),
        ((1500.0,), (None,), r"clock \(1500 MHz / unknown\)"),
    ],
)
def test_other_clocks_are_refused_by_name(make_table: MakeTable, a: tuple[float], b: tuple[float], named: str) -> None:
    first, second = make_table(*a), make_table(*b, first=40)
    with pytest.raises(UserError, match=f"differ in {named};.*--mix clock"):
        first.merge(second)
    with pytest.raises(UserError, match="cannot append to"):
        first.append(second.rows)


def test_what_was_mixed_knowingly_is_recorded_for_good(make_table: MakeTable, tmp_path: Path) -> None:
    fast, slow = make_table(1500.0), make_table(600.0, governor="powersave", first=20)
    with pytest.raises(UserError, match=r"governor \(performance / powersave\), clock \(1500 MHz / 600 MHz\)"):
        fast.merge(slow)
    with pytest.raises(UserError, match=r"differ in governor \(performance / powersave\);.*--mix governor, which"):
        fast.merge(slow, mix=["clock"])
    mixed = fast.merge(slow, mix=["clock", "governor"])
    wanted = ("governor (performance / powersave)", "clock (1500 MHz / 600 MHz)")
    assert mixed.mixed == wanted
    mixed.save(tmp_path / "t.parquet")
    loaded = LatencyTable.load(tmp_path / "t.parquet")
    assert loaded.mixed == wanted
    assert loaded.filter(pattern="conv *").with_grain(8).mixed == wanted
    # The rows keep their own clocks, and a third table still has to be one of the two.
    assert [row.clock_mhz for row in loaded.rows] == [1500.0, 600.0]
    assert LatencyTable().merge(loaded).mixed == wanted


def test_only_clocks_can_be_mixed(make_table: MakeTable) -> None:
    with pytest.raises(UserError, match="'runtime' cannot be mixed"):
        make_table(1500.0).merge(make_table(1500.0), mix=["runtime"])


def test_rows_without_a_latency_were_measured_at_no_clock(
    make_table: MakeTable, conv: MakeConv, make_row: MakeRow
) -> None:
    nan = float("nan")
    crashed = make_row(conv(64, 64), nan, low_ms=nan, high_ms=nan, status="crashed", process_medians_ms=())
    assert len(make_table(1500.0).append([crashed])) == 2
