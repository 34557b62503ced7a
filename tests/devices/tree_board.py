"""A board that is a tree of files: a device whose agent is the real one, with the tree for `/proc` and `/sys`."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

from hwloop.devices import AgentSession, Device

# Stands in for the device's Python: starts the agent that was sent, with other roots, and without runtimes, which would
# only take time to be imported.
PYTHON = """#!{python}
import sys
sys.argv = sys.argv[3:]
sys.path[:] = [sys.argv[0]] + [path for path in sys.path if "-packages" not in path]
from hwloop_agent import sysfiles
sysfiles.SysFiles.__new__.__defaults__ = ({root!r} + "/proc", {root!r} + "/sys", {root!r}, ({root!r} + "/bin",))
from hwloop_agent.__main__ import main
sys.exit(main())
"""
GOVERNOR = "sys/devices/system/cpu/cpufreq/policy0/scaling_governor"
ORIN = {
    "proc/cpuinfo": "processor\t: 0\nCPU part\t: 0xd42",
    "proc/meminfo": "MemTotal: 7990000 kB\nMemAvailable: 6000000 kB\nSwapTotal: 0 kB\nSwapFree: 0 kB",
    "proc/loadavg": "0.15 0.10 0.05 1/150 999",
    "proc/sys/kernel/random/boot_id": "0a0a0a0a-0000-4000-8000-000000000001",
    "proc/device-tree/model": "NVIDIA Jetson Orin Nano Developer Kit\0",
    "proc/device-tree/compatible": "nvidia,p3768-0000+p3767-0005\0nvidia,p3767-0005\0nvidia,tegra234\0",
    "sys/class/thermal/thermal_zone0/type": "cpu-thermal",
    "sys/class/thermal/thermal_zone0/temp": "45000",
    "sys/class/thermal/cooling_device0/type": "cpufreq-cpu0",
    "sys/class/thermal/cooling_device0/cur_state": "0",
    "sys/class/hwmon/hwmon1/name": "ina3221",
    "sys/class/hwmon/hwmon1/update_interval": "5",
    "sys/class/hwmon/hwmon1/in1_label": "VDD_IN",
    "sys/class/hwmon/hwmon1/in1_input": "5000",
    "sys/class/hwmon/hwmon1/curr1_input": "1500",
    "sys/class/hwmon/hwmon2/name": "soctherm_oc",
    "sys/class/hwmon/hwmon2/oc1_event_cnt": "3",
    "sys/devices/system/cpu/cpufreq/policy0/related_cpus": " ".join(map(str, range(os.cpu_count() or 1))),
    GOVERNOR: "schedutil",
    "var/lib/nvpmodel/status": "pmode:0002",
    "etc/nvpmodel.conf": "< POWER_MODEL ID=2 NAME=MAXN >",
}


class Board:
    """A tree of files and the device that has it."""

    def __init__(self, folder: Path, files: dict[str, str]) -> None:
        self.root = folder / "board"
        for name, text in files.items():
            self.write(name, text)
        (self.root / "proc/self").symlink_to("/proc/self")
        (self.root / "proc/thread-self").symlink_to("/proc/thread-self")
        self.python = folder / "python"
        self.python.write_text(PYTHON.format(python=sys.executable, root=str(self.root)))
        self.python.chmod(0o755)
        self.agent_root = folder / "agent"
        self.inventory = folder / "devices.toml"
        self.inventory.write_text(
            f'[devices.orin]\ntransport = "local"\npython = "{self.python}"\nroot = "{self.agent_root}"\n'
        )

    def write(self, name: str, text: str) -> None:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def read(self, name: str) -> str:
        return (self.root / name).read_text().strip()

    def device(self, **more: Any) -> Device:
        return Device("orin", "local", str(self.python), str(self.python), str(self.agent_root), **more)

    def open(self, **more: Any) -> AgentSession:
        device = self.device(**more)
        return AgentSession.open(
            device.open_transport(),
            session_id="s1",
            root=device.root,
            worker_python=device.worker_python,
            board=device.board_profile(),
        )
