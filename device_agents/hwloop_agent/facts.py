"""What a device is: read from files, on request only."""

from __future__ import annotations

import os
import sys
from typing import List

from hwloop_agent.conditions import clock_mhz, governor, temperature_c
from hwloop_agent.emulation import read_processor
from hwloop_agent.placement import read_cpus
from hwloop_agent.protocol import Json
from hwloop_agent.sysfiles import SysFiles, names_in, read_fields, read_kibibytes, read_number, read_text
from hwloop_agent.throttle import is_virtual, model_name, read_evidence

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


def _thermal(files: SysFiles) -> List[Json]:
    folder = files.sys("class/thermal")
    zones: List[Json] = []
    for name in names_in(folder, "thermal_zone"):
        value = read_number(os.path.join(folder, name, "temp"))
        kind = read_text(os.path.join(folder, name, "type"))
        zones.append({"type": kind, "temperature_c": None if value is None else value / 1000})
    return zones


def _tools() -> List[str]:
    places = os.environ.get("PATH", os.defpath).split(os.pathsep)
    return [tool for tool in TOOLS if any(os.access(os.path.join(place, tool), os.X_OK) for place in places if place)]


def read_facts(files: SysFiles, allowed: List[int]) -> Json:
    """Return what this machine is; the runtimes are probed apart, each in its own process."""
    memory = read_fields(files.proc("meminfo"), ":")
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
        "memory_bytes": read_kibibytes(memory, "MemTotal"),
        "swap_bytes": read_kibibytes(memory, "SwapTotal"),
        "governor": governor(files, allowed),
        "clock_mhz": clock_mhz(files, allowed),
        "cpufreq": _cpufreq(files),
        "temperature_c": temperature_c(files),
        "thermal": _thermal(files),
        "throttle_evidence": read_evidence(files).to_json(),
        "tools": _tools(),
    }
    facts.update(read_processor(files))
    return facts
