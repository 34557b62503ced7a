"""A device: what it is called, and the way to it."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hwloop.devices.ssh.hostkey import HostKey, Pins
from hwloop.devices.transports.base import Transport
from hwloop.devices.transports.local import LocalTransport
from hwloop.errors import ConfigError

LOCAL = "local"
REPLAY = "replay"


@dataclass(frozen=True)
class SshAccess:
    """How a device is reached by SSH. What is None, `~/.ssh/config` or SSH's own defaults decide.

    Attributes:
        host: its name, its IP address, or an alias of the SSH configuration.
        port: of its sshd; user: whom to log in as.
        identity: a key file of this machine.
        host_key: what it proves itself with; None only before it has been added.
        jump: jump hosts on the way, as OpenSSH's ProxyJump.
        jump_keys: the jump hosts' keys, by `host:port`.
        key_kind: of host key to ask for, while none is pinned; "" for any. Not stored.
    """

    host: str
    port: int | None = None
    user: str | None = None
    identity: str | None = None
    host_key: HostKey | None = None
    jump: str | None = None
    jump_keys: Mapping[str, HostKey] = field(default_factory=dict)
    key_kind: str = ""

    @property
    def url(self) -> str:
        """`ssh://user@host:port`, as far as it is settled."""
        user = f"{self.user}@" if self.user else ""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"ssh://{user}{host}" + (f":{self.port}" if self.port else "")


@dataclass(frozen=True)
class Device:
    """A machine that can be measured.

    Attributes:
        name: what the user calls it.
        transport: the kind of way to it: `local`, `ssh` or `replay`.
        python: the interpreter on it that runs the agent.
        worker_python: the interpreter on it that has the runtimes.
        root: the agent's directory on it, absolute; None for the transport's own choice.
        ssh: how it is reached, of an `ssh` device.
        board: a board profile of its own: a file of this machine, or the name of a profile of hwloop's; None for the
            one that the device recognises itself by.
        replay: of a `replay` device, the recording that answers: a latency table (`.parquet`) or a trial journal.
        trial_s: of a `replay` device, how long a trial takes.
    """

    name: str
    transport: str
    python: str
    worker_python: str
    root: str | None = None
    ssh: SshAccess | None = None
    board: str | None = None
    replay: str | None = None
    trial_s: float = 0.0

    def board_profile(self) -> dict[str, Any] | None:
        """Return the board profile that the device is told to use, as its agent takes it; None: its own choice.

        Raises:
            ConfigError: there is no such profile, or it has something wrong in it.
        """
        if self.board is None:
            return None
        # Imported here: pydantic takes a tenth of a second, and most devices have no profile of their own.
        from hwloop.devices.profiles import find_profile

        return find_profile(self.board)

    @property
    def address(self) -> str:
        """Where it is, for people."""
        if self.replay is not None:
            return f"replay of {self.replay}"
        return self.ssh.url if self.ssh is not None else "this machine"

    def open_transport(self) -> Transport:
        """Return a way to the device; it connects when it is used.

        Raises:
            ConfigError: there is no such kind of transport.
            DataError: the recording of a `replay` device cannot be used.
        """
        if self.transport == LOCAL:
            return LocalTransport(self.python)
        if self.transport == REPLAY and self.replay is not None:
            from hwloop.devices.replay import Faults, open_recording
            from hwloop.devices.transports.replay import ReplayTransport

            return ReplayTransport(self.name, open_recording(Path(self.replay)), Faults(trial_s=self.trial_s))
        if self.transport == "ssh" and self.ssh is not None:
            # Imported here: paramiko takes a quarter of a second, and local studies do without.
            from hwloop.devices.ssh.route import Address
            from hwloop.devices.transports.ssh import SshTransport

            access = self.ssh
            return SshTransport(
                self.name,
                Address(access.host, access.port, access.user),
                Pins(access.host_key, access.jump_keys, access.key_kind),
                python=self.python,
                identity=access.identity,
                jump=access.jump,
            )
        raise ConfigError(
            f"device {self.name}: transport {self.transport!r} does not exist (known: local, ssh, replay)"
        )


def local_device(root: str | None = None) -> Device:
    """Return this machine as a device, with this interpreter and the runtimes that it has."""
    return Device(LOCAL, LOCAL, sys.executable, sys.executable, root)


def replay_device(name: str, recording: Path, trial_s: float = 0.0) -> Device:
    """Return a recording as a device: a latency table (`.parquet`) or a trial journal."""
    return Device(name, REPLAY, "python3", "python3", replay=str(recording.absolute()), trial_s=trial_s)
