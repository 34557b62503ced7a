"""The board as its sensors show it: governor, clocks, temperatures, throttle evidence, power. None: cannot be read."""

from __future__ import annotations

import os
from typing import Any, Dict, List, NamedTuple, Optional, Sequence, Tuple

from hwloop_agent import throttle
from hwloop_agent.sensors.profile import GENERIC, Profile
from hwloop_agent.sensors.rails import find_counters, find_rails, read_counters, read_mw
from hwloop_agent.sysfiles import SysFiles, names_in, parse_cpu_list, read_number, read_text

CPU_ZONES = ("cpu", "soc", "x86_pkg", "core")
# Chips whose only thermometers are hwmon's: AMD has no thermal zone for the package.
CPU_CHIPS = ("k10temp", "zenpower", "coretemp", "cpu_thermal")
LOWEST_C, HIGHEST_C = -40.0, 150.0


class Sensors(NamedTuple):
    """All sensors of a board: where its files are, and what is known of its kind."""

    files: SysFiles
    profile: Profile = GENERIC

    def policies(self, cpus: Sequence[int]) -> List[str]:
        """Return the folders of the frequency policies that `cpus` are under (`policy*`: clusters have their own)."""
        folder = self.files.sys("devices/system/cpu/cpufreq")
        found: List[str] = []
        for name in names_in(folder, "policy"):
            members = parse_cpu_list(read_text(os.path.join(folder, name, "related_cpus")) or "")
            if set(members) & set(cpus):
                found.append(os.path.join(folder, name))
        return found

    def governor(self, cpus: Sequence[int]) -> Optional[str]:
        """Return the frequency governor of `cpus`; several are joined by commas, None where there is none to read."""
        names = {read_text(os.path.join(policy, "scaling_governor")) for policy in self.policies(cpus)}
        return ",".join(sorted(name for name in names if name)) or None

    def clock_mhz(self, cpus: Sequence[int]) -> Optional[float]:
        """Return the slowest clock, in MHz, that Linux reports for `cpus`; None where it reports none (most guests)."""
        speeds = [read_number(os.path.join(policy, "scaling_cur_freq")) for policy in self.policies(cpus)]
        known = [speed for speed in speeds if speed]
        return min(known) / 1000 if known else None

    def temperatures(self) -> List[Tuple[str, Optional[float], bool]]:
        """Return each thermometer's name, its °C (None: cannot be read) and whether it is a CPU's."""
        found: List[Tuple[str, Optional[float], bool]] = []
        words = [zone.lower() for zone in self.profile.cpu_zones] or CPU_ZONES
        folder = self.files.sys("class/thermal")
        for zone in names_in(folder, "thermal_zone"):
            kind = read_text(os.path.join(folder, zone, "type")) or zone
            is_cpu = any(word in kind.lower() for word in words)
            found.append((kind, _celsius(os.path.join(folder, zone, "temp")), is_cpu))
        if any(is_cpu for _, _, is_cpu in found):
            return found
        folder = self.files.sys("class/hwmon")
        for hwmon in names_in(folder, "hwmon"):
            chip = read_text(os.path.join(folder, hwmon, "name"))
            if chip in CPU_CHIPS:
                names = [name for name in names_in(os.path.join(folder, hwmon), "temp") if name.endswith("_input")]
                found += [(f"{chip} {name[:-6]}", _celsius(os.path.join(folder, hwmon, name)), True) for name in names]
        return found

    def temperature_c(self) -> Optional[float]:
        """Return the hottest CPU zone in °C (the hottest of all where no zone is a CPU's); None without sensors.

        Where the CPU has zones and none of them can be read, the answer is None: another zone would be no answer.
        """
        every = self.temperatures()
        of_cpu = [zone for zone in every if zone[2]]
        return max((value for _, value, _ in of_cpu or every if value is not None), default=None)

    def throttle_evidence(self) -> throttle.Evidence:
        """Return what says whether the processor is held back."""
        return throttle.read_evidence(self.files, self.profile)

    def power_mode(self) -> Optional[str]:
        """Return the name of the Jetson power mode (`nvpmodel`), None where there is none.

        `nvpmodel -q` may need root; the two files that it keeps do not.
        """
        status = read_text(self.files.fs("var/lib/nvpmodel/status")) or ""
        number = (status.partition("pmode:")[2].split() or [""])[0]
        if not number.isdigit():
            return None
        for line in (read_text(self.files.fs("etc/nvpmodel.conf")) or "").splitlines():
            words = dict(word.partition("=")[::2] for word in line.strip("<> \t").split())
            if "POWER_MODEL" in words and words.get("ID") == str(int(number)) and words.get("NAME"):
                return words["NAME"]
        return f"mode {int(number)}"

    def power(self) -> Dict[str, Any]:
        """Return what could tell energy: `rails` with their power now, `counters` of energy, and why one is silent."""
        counters = find_counters(self.files)
        return {
            "rails": [{"label": rail.label, "milliwatts": read_mw(rail)} for rail in find_rails(self.files)],
            "total_of": list(self.profile.rails),
            "counters": [counter.name for counter in counters],
            "reason": read_counters(counters)[1],
        }


def _celsius(path: str) -> Optional[float]:
    value = read_number(path)
    # 0 is what absent sensors say.
    return value / 1000 if value and LOWEST_C < value / 1000 < HIGHEST_C else None
