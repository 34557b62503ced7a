from __future__ import annotations

from collections.abc import Callable

import pytest

from hwloop.layers import Layer
from hwloop.tables import LatencyTable, Row

MakeRow = Callable[..., Row]
MakeConv = Callable[..., Layer]


@pytest.fixture
def table(conv: MakeConv, make_row: MakeRow) -> LatencyTable:
    linear = Layer.parse("linear 1x8>1x8 float32")
    return LatencyTable(
        [make_row(conv(8, 8), 1.0), make_row(conv(8, 16), 2.0, status="degraded"), make_row(linear, 3.0)], grain=8
    )


@pytest.mark.parametrize(
    ("criteria", "left"),
    [
        ({}, [1.0, 2.0, 3.0]),
        ({"ops": ["linear"]}, [3.0]),
        ({"ops": ["conv", "linear"], "statuses": ["ok"]}, [1.0, 3.0]),
        ({"statuses": ["degraded"]}, [2.0]),
        ({"pattern": "conv *>1x8x* k3x3 *"}, [1.0]),
        ({"pattern": "CONV *"}, []),
        ({"pattern": "conv"}, []),
    ],
)
def test_rows_that_pass_every_criterion_are_kept(table: LatencyTable, criteria: dict, left: list[float]) -> None:
    found = table.filter(**criteria)
    assert [row.latency_ms for row in found.rows] == left
    assert found.grain == 8
    assert len(table) == 3
