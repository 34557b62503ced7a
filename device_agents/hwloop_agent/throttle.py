"""Was the processor held back? `seen` with evidence, `none` only where a counter certifies it, else `unknown`.

Sources, all readable without root: x86's thermal-throttle counters, the Raspberry Pi firmware's `get_throttled` word
(a file, or `vcgencmd` where the kernel has none, as on a Raspberry Pi 5) and its under-voltage alarm, Jetson's
over-current event counters, and active CPU cooling devices anywhere. The board's profile says which of them must answer
before their silence counts. On a Raspberry Pi `scaling_cur_freq` is what Linux asked for, not what the processor does
(raspberrypi/linux #2986), so a clock that looks right certifies nothing. An idle down-clock is not throttling, and an
unreadable sensor is not an all-clear.
"""

from __future__ import annotations

from typing import Any, Dict, List, NamedTuple, Set

from hwloop_agent.sensors.profile import GENERIC, Profile
from hwloop_agent.sensors.tools import get_throttled
from hwloop_agent.sysfiles import SysFiles, names_in, read_fields, read_number, read_text

NONE, SEEN, UNKNOWN = "none", "seen", "unknown"

PI_LIVE_BITS = 0xF
PI_STICKY_BITS = 0xF << 16
COOLING_TYPES = ("cpufreq", "processor")
# The sources that notice throttling by themselves; cooling devices show Linux's own throttling only, and an
# under-voltage alarm only one of the firmware's reasons.
CERTIFYING = frozenset(["pi_firmware", "over_current", "thermal_count"])


class Evidence(NamedTuple):
    """What the sources say at one moment.

    Attributes:
        counters: event counts that only grow; a growth is throttling.
        live: states that mean throttling now where they are not zero.
        certifies: whether sources are among them that would have noticed.
        doubts: why a silent source proves nothing.
        sources: the kinds of evidence that could be read.
    """

    counters: Dict[str, int]
    live: Dict[str, int]
    certifies: bool
    doubts: List[str]
    sources: List[str]

    def to_json(self) -> Dict[str, Any]:
        """Return the evidence as it goes into a record."""
        return self._asdict()


def is_virtual(files: SysFiles) -> bool:
    """Say whether this is a virtual machine, whose guest cannot see the processor being held back."""
    if read_text(files.sys("hypervisor", "type")):
        return True
    if " hypervisor" in " " + (read_text(files.proc("cpuinfo")) or ""):
        return True
    return bool(names_in(files.proc("device-tree"), "hypervisor"))


class _Looker:
    """Asks the sources one after the other and keeps what they say."""

    def __init__(self, files: SysFiles, profile: Profile) -> None:
        self.files = files
        self.profile = profile
        self.counters: Dict[str, int] = {}
        self.live: Dict[str, int] = {}
        self.doubts: List[str] = []
        self.sources: Set[str] = set()

    def x86(self) -> None:
        for cpu in names_in(self.files.sys("devices/system/cpu"), "cpu"):
            for name in ("core_throttle_count", "package_throttle_count"):
                count = read_number(self.files.sys("devices/system/cpu", cpu, "thermal_throttle", name))
                if count is not None:
                    self.counters[cpu + "/" + name] = count
                    self.sources.add("thermal_count")

    def pi_firmware(self) -> None:
        folder = self.files.sys("devices/platform")
        word = None
        # soc/soc:firmware until the Raspberry Pi 4, soc@107c000000/soc@107c000000:firmware on a 5 with an old kernel.
        for soc in names_in(folder, "soc"):
            word = read_number(f"{folder}/{soc}/{soc}:firmware/get_throttled", 16) if word is None else word
        if word is None and "pi_firmware" in self.profile.needs:
            word, why = get_throttled(self.files)
            if word is None:
                self.doubts.append(f"get_throttled cannot be read: {why}")
        if word is None:
            return
        self.sources.add("pi_firmware")
        self.live["pi/get_throttled"] = word & PI_LIVE_BITS
        for bit in range(16, 20):
            self.counters[f"pi/sticky_bit_{bit}"] = (word >> bit) & 1
        if word & PI_STICKY_BITS:
            self.doubts.append("the firmware's sticky bits were set before")

    def hwmon(self) -> None:
        for hwmon in names_in(self.files.sys("class/hwmon"), "hwmon"):
            folder = self.files.sys("class/hwmon", hwmon)
            if read_text(folder + "/name") == "rpi_volt":
                alarm = read_number(folder + "/in0_lcrit_alarm")
                if alarm is not None:
                    self.live["rpi_volt/in0_lcrit_alarm"] = alarm
                    self.sources.add("under_voltage")
            for name in names_in(folder, "oc"):
                if not name.endswith("_event_cnt"):
                    continue
                count = read_number(folder + "/" + name)
                if count is None:
                    self.doubts.append(f"{name} cannot be read")
                else:
                    self.counters[hwmon + "/" + name] = count
                    self.sources.add("over_current")

    def cooling(self) -> None:
        for device in names_in(self.files.sys("class/thermal"), "cooling_device"):
            kind = (read_text(self.files.sys("class/thermal", device, "type")) or "").lower()
            if not any(word in kind for word in COOLING_TYPES):
                continue
            state = read_number(self.files.sys("class/thermal", device, "cur_state"))
            if state is None:
                self.doubts.append(f"{device} ({kind}) cannot be read")
            else:
                self.live[f"{device} ({kind})"] = state
                self.sources.add("cooling")


def read_evidence(files: SysFiles, profile: Profile = GENERIC) -> Evidence:
    """Ask every source that this machine has; a source that the profile needs and that is not there is a doubt."""
    looker = _Looker(files, profile)
    looker.x86()
    looker.pi_firmware()
    looker.hwmon()
    looker.cooling()
    missing = [kind for kind in profile.needs if kind not in looker.sources]
    if missing:
        looker.doubts.append(f"{' and '.join(missing)} of a {profile.name} cannot be read")
    if is_virtual(files):
        looker.doubts.append("a virtual machine does not see its host's clock")
    certifies = not missing and bool(CERTIFYING & looker.sources)
    return Evidence(looker.counters, looker.live, certifies, looker.doubts, sorted(looker.sources))


def verdict(before: Evidence, after: Evidence) -> str:
    """Return `seen`, `none` or `unknown` for the time between two looks."""
    grown = any(count > before.counters.get(name, count) for name, count in after.counters.items())
    if grown or any(before.live.values()) or any(after.live.values()):
        return SEEN
    vanished = set(before.counters) - set(after.counters) or set(before.live) - set(after.live)
    certified = before.certifies and after.certifies and not vanished
    return NONE if certified and not before.doubts and not after.doubts else UNKNOWN


def model_name(files: SysFiles) -> str:
    """Return the board's or processor's name as the system tells it, or ""."""
    board = read_text(files.proc("device-tree", "model"))
    if board:
        return board
    return read_fields(files.proc("cpuinfo"), ":").get("model name", "")
