"""The devices that can be measured. Today: this machine."""

from __future__ import annotations

import sys
from dataclasses import dataclass

from hwloop.devices.transports import LocalTransport, Transport
from hwloop.errors import ConfigError


@dataclass(frozen=True)
class Device:
    """A machine that can be measured.

    Attributes:
        name: what the user calls it.
        transport: the kind of way to it: `local`.
        python: the interpreter on it that runs the agent.
        worker_python: the interpreter on it that has the runtimes.
        root: the agent's directory on it, absolute; None for the transport's own choice.
    """

    name: str
    transport: str
    python: str
    worker_python: str
    root: str | None = None

    def open_transport(self) -> Transport:
        """Return a way to the device.

        Raises:
            ConfigError: there is no such kind of transport.
        """
        if self.transport == "local":
            return LocalTransport(self.python)
        raise ConfigError(f"device {self.name}: transport {self.transport!r} does not exist (known: local)")


def local_device(root: str | None = None) -> Device:
    """Return this machine as a device, with this interpreter and the runtimes that it has."""
    return Device("local", "local", sys.executable, sys.executable, root)
