"""Provisioning: bring runtimes to a device that has Python and nothing else, offline, hash-pinned, without root."""

from __future__ import annotations

from hwloop.devices.provisioning.catalog import DEFAULT_RUNTIMES, KNOWN_RUNTIMES, Wanted, parse_wanted, requirements_for
from hwloop.devices.provisioning.deploy import Deployment, Installed, deploy, remove, status
from hwloop.devices.provisioning.lock import Lock, Wheel
from hwloop.devices.provisioning.target import Target
from hwloop.devices.provisioning.wheelhouse import Wheelhouse, default_cache

__all__ = [
    "DEFAULT_RUNTIMES",
    "KNOWN_RUNTIMES",
    "Deployment",
    "Installed",
    "Lock",
    "Target",
    "Wanted",
    "Wheel",
    "Wheelhouse",
    "default_cache",
    "deploy",
    "parse_wanted",
    "remove",
    "requirements_for",
    "status",
]
