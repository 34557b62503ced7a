"""Power sensors: rails that say what flows now (INA3221 and its relatives), and counters of energy used (RAPL).

A rail is found by its label, never by its number: hwmon indices change from boot to boot. Kernels of JetPack 5 and
later show the INA3221 as hwmon (`inN_label`, `inN_input` in mV, `currN_input` in mA), those of JetPack 4 (Nano, TX2,
first Xavier) as iio (`rail_name_N`, `in_powerN_input` in mW). RAPL counters are `powercap` zones on Intel and AMD;
since Linux 5.10 only root may read them (CVE-2020-8694).
"""

from __future__ import annotations

import os
from typing import List, NamedTuple, Optional, Sequence, Tuple

from hwloop_agent.sysfiles import SysFiles, names_in, read_number, read_text

NOT_CONNECTED = "NC"


class Rail(NamedTuple):
    """A power rail: its label, the files that give its power, and how often the sensor measures (ms, None: not told).

    `milliwatts` is a file, or "" where the power is `millivolts` times `milliamperes`.
    """

    label: str
    millivolts: str
    milliamperes: str
    milliwatts: str
    interval_ms: Optional[int]


class Counter(NamedTuple):
    """A counter of energy: its name, its file in microjoules, and where it starts again from 0 (None: unknown)."""

    name: str
    path: str
    range_uj: Optional[int]


def _hwmon_rails(files: SysFiles) -> List[Rail]:
    found: List[Rail] = []
    for hwmon in names_in(files.sys("class/hwmon"), "hwmon"):
        folder = files.sys("class/hwmon", hwmon)
        if not (read_text(folder + "/name") or "").startswith("ina"):
            continue
        interval_ms = read_number(folder + "/update_interval")
        for name in names_in(folder, "in"):
            number = name[2:-6]
            label = read_text(f"{folder}/{name}") if name.endswith("_label") else None
            amperes = f"{folder}/curr{number}_input"
            # Channel 7 is the sum of the shunt voltages and has no current of its own.
            if label and label != NOT_CONNECTED and os.path.exists(amperes):
                found.append(Rail(label, f"{folder}/in{number}_input", amperes, "", interval_ms))
    return found


def _iio_rails(files: SysFiles) -> List[Rail]:
    found: List[Rail] = []
    driver = files.sys("bus/i2c/drivers/ina3221x")
    for chip in names_in(driver, ""):
        for device in names_in(os.path.join(driver, chip), "iio:device"):
            folder = os.path.join(driver, chip, device)
            for name in names_in(folder, "rail_name_"):
                label = read_text(os.path.join(folder, name))
                if label and label != NOT_CONNECTED:
                    power = os.path.join(folder, f"in_power{name[10:]}_input")
                    found.append(Rail(label, "", "", power, None))
    return found


def find_rails(files: SysFiles) -> List[Rail]:
    """Return all labelled rails of the board."""
    return _hwmon_rails(files) or _iio_rails(files)


def read_mw(rail: Rail) -> Optional[float]:
    """Return the power of a rail now, in milliwatts; None when it cannot be read."""
    if rail.milliwatts:
        return read_number(rail.milliwatts)
    volts, amperes = read_number(rail.millivolts), read_number(rail.milliamperes)
    return None if volts is None or amperes is None else volts * amperes / 1000


def total_mw(rails: Sequence[Rail]) -> Optional[float]:
    """Return the sum of the rails now, in milliwatts; None when one of them cannot be read."""
    total = 0.0
    for rail in rails:
        power = read_mw(rail)
        if power is None:
            return None
        total += power
    return total


def find_counters(files: SysFiles) -> List[Counter]:
    """Return the energy counters of the processor packages."""
    folder = files.sys("class/powercap")
    found: List[Counter] = []
    for zone in names_in(folder, "intel-rapl:"):
        name = read_text(os.path.join(folder, zone, "name")) or ""
        if name.startswith("package"):
            path = os.path.join(folder, zone, "energy_uj")
            found.append(Counter(name, path, read_number(os.path.join(folder, zone, "max_energy_range_uj"))))
    return found


def read_counters(counters: Sequence[Counter]) -> Tuple[List[int], str]:
    """Return the counters' values in microjoules, or [] and why they cannot be read."""
    values: List[int] = []
    for counter in counters:
        value = read_number(counter.path)
        if value is None:
            root_only = os.path.exists(counter.path) and not os.access(counter.path, os.R_OK)
            return [], f"{counter.name} cannot be read" + (": only root may, since Linux 5.10" if root_only else "")
        values.append(value)
    return values, ""
