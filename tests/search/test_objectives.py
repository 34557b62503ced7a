"""Objectives are chosen by name."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from hwloop.errors import UserError
from hwloop.search import Costs, get_objectives, list_objectives, parse_constraints


def test_the_known_objectives_are_listed() -> None:
    assert list_objectives() == ("error", "latency_ms", "peak_memory_mb", "energy_mj", "parameters", "macs")
    assert [objective.name for objective in get_objectives(["macs", "error"])] == ["macs", "error"]


@pytest.mark.parametrize(
    ("names", "text"),
    [
        (
            ["error", "beauty"],
            "no objective 'beauty'; known are error, latency_ms, peak_memory_mb, energy_mj, parameters",
        ),
        (["error", "error"], "'error' is given twice"),
        ([], "at least one objective"),
    ],
)
def test_what_is_no_objective_is_refused_with_the_known_ones(names: list[str], text: str) -> None:
    with pytest.raises(UserError, match=text):
        get_objectives(names)


def test_only_the_error_takes_an_evaluation() -> None:
    assert [objective.expensive for objective in get_objectives(list_objectives())] == [True, *[False] * 5]


def test_each_objective_reads_its_cost_in_its_unit(toy: Any) -> None:
    widths = np.array([toy.Space().widths, (8,) * 6])
    costs = Costs.of(toy.Model(), widths)
    values = {o.name: o.cost(costs) for o in get_objectives(list_objectives()) if o.cost is not None}
    assert values["peak_memory_mb"].tolist() == [60 + 0.01 * 272, 60 + 0.01 * 48]
    assert values["macs"].tolist() == [64 * p for p in values["parameters"]]
    assert values["parameters"][1] == 9 * 5 * 64


def test_energy_is_known_where_the_device_measures_it(toy: Any) -> None:
    widths = np.array([(8,) * 6])
    (energy,) = get_objectives(["energy_mj"])
    (limit,) = parse_constraints(["energy_mj <= 0.5"])
    assert energy.cost is not None
    measured = Costs.of(toy.Model(watts=2.0), widths)
    latency = toy.Model().predict(widths).latency_ms
    assert energy.cost(measured) == pytest.approx(2.0 * latency)
    assert limit.violation(measured) == pytest.approx(2.0 * 1.1 * latency / 0.5 - 1)  # its upper end
    unknown = Costs.of(toy.Model(), widths)
    assert np.isnan(energy.cost(unknown)).all()
    with pytest.raises(UserError, match="the predictor never saw energy_mj measured"):
        limit.violation(unknown)
