"""What a device is: read from files, on request only."""

from __future__ import annotations

import os
import sys
from typing import List

from hwloop_agent.emulation import read_processor
from hwloop_agent.placement import read_cpus
from hwloop_agent.protocol import Json
from hwloop_agent.sensors.board import Sensors
from hwloop_agent.sensors.profile import device_tree
from hwloop_agent.sysfiles import SysFiles, names_in, read_fields, read_kibibytes, read_number, read_text
from hwloop_agent.throttle import is_virtual, model_name

TOOLS = ("vcgencmd", "nvpmodel", "tegrastats", "jetson_clocks")


def os_name(path: str = "/etc/os-release") -> str:
    """Return the distribution's own name for itself, or ""."""
    return read_fields(path, "=").get("PRETTY_NAME", "").strip('"')


def libc_version() -> str:
    """Return for example `glibc 2.36`, or "" for another C library."""
    try:
        return os.confstr("CS_GNU_LIBC_VERSION") or ""
    except (OSError, ValueError):
        return ""


def _cpufreq(files: SysFiles) -> List[Json]:
    folder = files.sys("devices/system/cpu/cpufreq")
    found: List[Json] = []
    for name in names_in(folder, "policy"):
        path = os.path.join(folder, name)
        found.append(
            {
                "cpus": read_text(os.path.join(path, "related_cpus")),
                "governor": read_text(os.path.join(path, "scaling_governor")),
                "min_khz": read_number(os.path.join(path, "scaling_min_freq")),
                "max_khz": read_number(os.path.join(path, "scaling_max_freq")),
            }
        )
    return found


def read_facts(sensors: Sensors, allowed: List[int]) -> Json:
    """Return what this machine is; the runtimes are probed apart, each in its own process."""
    files = sensors.files
    memory = read_fields(files.proc("meminfo"), ":")
    processor = read_fields(files.proc("cpuinfo"), ":")
    uname = os.uname()
    facts: Json = {
        "os": os_name(),
        "kernel": uname.release,
        "arch": uname.machine,
        "hostname": uname.nodename,
        "libc": libc_version(),
        "python": ".".join(map(str, sys.version_info[:3])),
        "python_implementation": sys.implementation.name,
        "python_abiflags": sys.abiflags,
        "model": model_name(files),
        "virtual": is_virtual(files),
        "cpus": [cpu._asdict() for cpu in read_cpus(files, allowed)],
        # What a compiler on the host needs to know: of the last CPU that is listed.
        "cpu_flags": processor.get("flags") or processor.get("Features"),
        "cpu_implementer": processor.get("CPU implementer"),
        "cpu_part": processor.get("CPU part"),
        "memory_bytes": read_kibibytes(memory, "MemTotal"),
        "swap_bytes": read_kibibytes(memory, "SwapTotal"),
        "board": {
            "profile": sensors.profile.name,
            "title": sensors.profile.title,
            "compatible": device_tree(files)[0],
            "throttle_c": sensors.profile.throttle_c,
        },
        "governor": sensors.governor(allowed),
        "clock_mhz": sensors.clock_mhz(allowed),
        "cpufreq": _cpufreq(files),
        "power_mode": sensors.power_mode(),
        "temperature_c": sensors.temperature_c(),
        "thermal": [
            {"type": kind, "temperature_c": value, "cpu": is_cpu} for kind, value, is_cpu in sensors.temperatures()
        ],
        "throttle_evidence": sensors.throttle_evidence().to_json(),
        "power": sensors.power(),
        "tools": [tool for tool in TOOLS if files.tool(tool) is not None],
    }
    facts.update(read_processor(files))
    return facts
