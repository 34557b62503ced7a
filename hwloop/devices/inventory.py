"""The devices that can be measured: this machine, and those that `devices.toml` describes.

A project's file is `devices.toml` in the current folder or above it, a user's is `hwloop/devices.toml` in the folder
for configuration; what the project says about a name wins.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from hwloop.devices.device import LOCAL, Device, local_device
from hwloop.devices.devicefile import read_devices
from hwloop.errors import UserError

FILE_NAME = "devices.toml"


def user_inventory(environ: Mapping[str, str] = os.environ) -> Path:
    """Return the path of the user's file: below XDG_CONFIG_HOME, else `~/.config`."""
    base = environ.get("XDG_CONFIG_HOME", "")
    return (Path(base) if base.startswith("/") else Path.home() / ".config") / "hwloop" / FILE_NAME


def project_inventory(folder: Path) -> Path | None:
    """Return the path of the project's file: the nearest `devices.toml` in `folder` or above it; None without one."""
    for place in (folder.absolute(), *folder.absolute().parents):
        if (place / FILE_NAME).is_file():
            return place / FILE_NAME
    return None


@dataclass(frozen=True)
class Inventory:
    """The devices of some files, the first of which wins where two describe the same name.

    Attributes:
        files: where devices are looked for.
    """

    files: tuple[Path, ...]

    @classmethod
    def find(cls, folder: Path | None = None, file: Path | None = None) -> Inventory:
        """Return the inventory that holds in `folder` (default: the current one), or that of one `file` alone.

        Raises:
            UserError: `file` does not exist.
        """
        if file is not None:
            if not file.exists():
                raise UserError(f"{file}: there is no such inventory; `hwloop device add` writes one")
            return cls((file,))
        project = project_inventory(folder if folder is not None else Path.cwd())
        return cls((user_inventory(),) if project is None else (project, user_inventory()))

    def devices(self) -> tuple[Device, ...]:
        """Return all devices, this machine first.

        Raises:
            ConfigError: a file cannot be read or has something wrong in it; the text names file and key.
        """
        found = {LOCAL: local_device()}
        for path in self.files:
            for device in read_devices(path):
                found.setdefault(device.name, device)
        return tuple(found.values())

    def get(self, name: str) -> Device:
        """Return a device.

        Raises:
            UserError: there is none of this name.
            ConfigError: see `devices`.
        """
        devices = {device.name: device for device in self.devices()}
        if name not in devices:
            known = ", ".join(devices)
            raise UserError(f"there is no device {name!r} (known: {known}); `hwloop device add {name} ssh://user@host`")
        return devices[name]

    def file_of(self, name: str) -> Path | None:
        """Return the file that describes a device; None where none does."""
        for path in self.files:
            if any(device.name == name for device in read_devices(path)):
                return path
        return None
