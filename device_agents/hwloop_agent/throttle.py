"""Was the processor held back? `seen` with evidence, `none` only where a counter certifies it, else `unknown`.

Sources, all readable without root: x86's thermal-throttle counters, the Raspberry Pi firmware's `get_throttled` word
and its under-voltage alarm, Jetson's over-current event counters, and active CPU cooling devices anywhere. On a
Raspberry Pi `scaling_cur_freq` is what Linux asked for, not what the processor does (raspberrypi/linux #2986), so a
clock that looks right certifies nothing. An idle down-clock is not throttling, and an unreadable sensor is not an
all-clear.
"""

from __future__ import annotations

from typing import Any, Dict, List, NamedTuple

from hwloop_agent.sysfiles import SysFiles, names_in, read_fields, read_number, read_text

NONE, SEEN, UNKNOWN = "none", "seen", "unknown"

PI_FIRMWARE = "devices/platform/soc/soc:firmware/get_throttled"
PI_LIVE_BITS = 0xF
PI_STICKY_BITS = 0xF << 16
COOLING_TYPES = ("cpufreq", "processor")


class Evidence(NamedTuple):
    """What the sources say at one moment.

    Attributes:
        counters: event counts that only grow; a growth is throttling.
        live: states that mean throttling now where they are not zero.
        certifies: whether a source is among them that would have noticed.
        doubts: why a silent source proves nothing.
    """

    counters: Dict[str, int]
    live: Dict[str, int]
    certifies: bool
    doubts: List[str]

    def to_json(self) -> Dict[str, Any]:
        """Return the evidence as it goes into a record."""
        return {"counters": self.counters, "live": self.live, "certifies": self.certifies, "doubts": self.doubts}


def is_virtual(files: SysFiles) -> bool:
    """Say whether this is a virtual machine, whose guest cannot see the processor being held back."""
    if read_text(files.sys("hypervisor", "type")):
        return True
    if " hypervisor" in " " + (read_text(files.proc("cpuinfo")) or ""):
        return True
    return bool(names_in(files.proc("device-tree"), "hypervisor"))


def _x86_counters(files: SysFiles) -> Dict[str, int]:
    found: Dict[str, int] = {}
    for cpu in names_in(files.sys("devices/system/cpu"), "cpu"):
        for name in ("core_throttle_count", "package_throttle_count"):
            count = read_number(files.sys("devices/system/cpu", cpu, "thermal_throttle", name))
            if count is not None:
                found[cpu + "/" + name] = count
    return found


def read_evidence(files: SysFiles) -> Evidence:
    """Ask every source that this machine has."""
    counters = _x86_counters(files)
    live: Dict[str, int] = {}
    doubts: List[str] = []
    certifies = bool(counters)

    word = read_number(files.sys(PI_FIRMWARE), 16)
    if word is not None:
        live["pi/get_throttled"] = word & PI_LIVE_BITS
        for bit in range(16, 20):
            counters[f"pi/sticky_bit_{bit}"] = (word >> bit) & 1
        if word & PI_STICKY_BITS:
            doubts.append("the firmware's sticky bits were set before")
        else:
            certifies = True

    for hwmon in names_in(files.sys("class/hwmon"), "hwmon"):
        folder = files.sys("class/hwmon", hwmon)
        if read_text(folder + "/name") == "rpi_volt":
            alarm = read_number(folder + "/in0_lcrit_alarm")
            if alarm is not None:
                live["rpi_volt/in0_lcrit_alarm"] = alarm
        for name in names_in(folder, "oc"):
            count = read_number(folder + "/" + name) if name.endswith("_event_cnt") else None
            if count is not None:
                counters[hwmon + "/" + name] = count
                certifies = True

    for device in names_in(files.sys("class/thermal"), "cooling_device"):
        kind = (read_text(files.sys("class/thermal", device, "type")) or "").lower()
        state = read_number(files.sys("class/thermal", device, "cur_state"))
        if state is not None and any(word_ in kind for word_ in COOLING_TYPES):
            live[f"{device} ({kind})"] = state

    if is_virtual(files):
        doubts.append("a virtual machine does not see its host's clock")
    return Evidence(counters, live, certifies, doubts)


def verdict(before: Evidence, after: Evidence) -> str:
    """Return `seen`, `none` or `unknown` for the time between two looks."""
    grown = any(count > before.counters.get(name, count) for name, count in after.counters.items())
    if grown or any(before.live.values()) or any(after.live.values()):
        return SEEN
    certified = before.certifies and after.certifies and set(before.counters) <= set(after.counters)
    return NONE if certified and not before.doubts else UNKNOWN


def model_name(files: SysFiles) -> str:
    """Return the board's or processor's name as the system tells it, or ""."""
    board = read_text(files.proc("device-tree", "model"))
    if board:
        return board
    return read_fields(files.proc("cpuinfo"), ":").get("model name", "")
