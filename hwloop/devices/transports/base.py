"""The way to a device: what every transport promises; `tests/devices/test_transports.py` holds it to that."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from hwloop.devices.deadline import Deadline


class Channel(Protocol):
    """The two byte streams of one running program, and the end of what it printed on stderr.

    Whatever the transport, a program that floods stderr or stops reading cannot make these calls hang.
    """

    def read(self, limit: int, deadline: Deadline) -> bytes:
        """Return 1 to `limit` bytes as soon as there are any; `b""` at the end of the stream.

        Raises:
            TimeoutError: the deadline passed first.
            TransportError: the channel broke.
        """

    def write(self, data: bytes, deadline: Deadline) -> None:
        """Send all of `data`.

        Raises:
            TimeoutError: the deadline passed before the peer took it.
            TransportError: the channel broke.
        """

    def stderr_tail(self) -> str:
        """Return the last 8 KiB of stderr so far."""

    def close(self, wait_s: float, *, kill: bool) -> int | None:
        """End the program's input and wait up to `wait_s` for it to leave; return its exit code if it did.

        A program that stays is left to finish its work (`kill=False`) or ended (`kill=True`). Closing twice does
        nothing.
        """


class Transport(Protocol):
    """The way to one device.

    Attributes:
        name: what to call it in messages.
        python: the interpreter of the device that the agent runs under.
    """

    name: str
    python: str

    def start(self, argv: Sequence[str]) -> Channel:
        """Start a program on the device.

        Raises:
            TransportError: it cannot be started.
        """

    def put(self, data: bytes, remote_path: str) -> None:
        """Store `data` at an absolute path of the device, mode 0600, under a temporary name first: never half a file.

        Raises:
            TransportError: it cannot be stored.
        """

    def size(self, remote_path: str) -> int | None:
        """Return the size of a file on the device, None where there is none: a cheap question, not a verification.

        Raises:
            TransportError: the device cannot be asked.
        """

    def free_bytes(self, remote_path: str) -> int | None:
        """Return what the file system of an existing path has left for us; None where the device does not tell.

        Raises:
            TransportError: the device cannot be asked.
        """

    def default_root(self) -> str:
        """Return the absolute path of the agent's directory on the device.

        Raises:
            TransportError: the device cannot be asked.
        """

    def close(self) -> None:
        """Let go of the connection, if there is one; the next call connects anew. Closing twice does nothing."""
