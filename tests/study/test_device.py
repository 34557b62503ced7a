"""A study that asks for what its device cannot measure is refused before the campaign."""

from __future__ import annotations

from typing import Any

import pytest

from hwloop.errors import UserError
from hwloop.measurement import Identity
from hwloop.study.config import SearchSection, StudyConfig
from hwloop.study.device import check_sensors

RAIL = {"rails": [{"label": "VDD_IN", "milliwatts": 4000.0}], "total_of": ["VDD_IN"], "counters": [], "reason": None}
COUNTER = {"rails": [], "total_of": [], "counters": ["package-0"], "reason": None}
LOCKED = {"rails": [], "total_of": [], "counters": ["package-0"], "reason": "package-0: permission denied"}
NOTHING: dict[str, Any] = {"rails": [], "total_of": [], "counters": [], "reason": None}


def config(objectives: list[str], constraints: list[str]) -> StudyConfig:
    return StudyConfig(search=SearchSection(objectives=objectives, constraints=constraints))


def identity(power: dict[str, Any] | None) -> Identity:
    return Identity("Pi 4", "0" * 64, {} if power is None else {"power": power})


ENERGY_ASKED = (config(["error", "energy_mj"], []), config(["error", "latency_ms"], ["energy_mj <= 5"]))


@pytest.mark.parametrize("asked", ENERGY_ASKED)
@pytest.mark.parametrize("power", [RAIL, COUNTER, None])
def test_energy_may_be_asked_of_a_device_that_can_tell_it_or_says_nothing_of_its_sensors(asked, power):
    check_sensors(asked, identity(power))


@pytest.mark.parametrize("asked", ENERGY_ASKED)
@pytest.mark.parametrize(("power", "reason"), [(NOTHING, "none was found"), (LOCKED, "permission denied")])
def test_energy_is_refused_of_a_device_without_a_sensor_that_can_be_read(asked, power, reason):
    with pytest.raises(UserError, match=f"Pi 4 has no power sensor .*{reason}.* leave it out"):
        check_sensors(asked, identity(power))


def test_a_device_without_a_sensor_may_be_searched_for_anything_else():
    check_sensors(config(["error", "latency_ms"], ["latency_ms <= 5"]), identity(NOTHING))
