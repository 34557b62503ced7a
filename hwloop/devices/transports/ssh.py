"""A device that is reached by SSH: programs over channels without a terminal, files over SFTP, one connection."""

from __future__ import annotations

import contextlib
import posixpath
import shlex
import stat
import struct
from collections.abc import Iterator, Sequence
from pathlib import Path
from secrets import token_hex

import paramiko
from paramiko.sftp import CMD_EXTENDED

from hwloop.devices.deadline import Deadline
from hwloop.devices.ssh.channel import LAUNCHER, SshChannel
from hwloop.devices.ssh.connection import Connection, Limits
from hwloop.devices.ssh.hostkey import Pins
from hwloop.devices.ssh.login import TERMINAL, Secrets
from hwloop.devices.ssh.route import Address, find_route
from hwloop.errors import TransportError

START_S = 20.0
# A stored file may take this long, and longer by its size at the speed of a bad wireless link.
PUT_S = 30.0
PUT_BYTES_PER_S = 50_000
WRITE_BYTES = 1 << 15
PRIVATE_FILE, PRIVATE_FOLDER = 0o600, 0o700


class SshTransport:
    """The way to one device by SSH. See `Transport`.

    It connects at the first call, and anew when the connection was lost or closed; one connection carries everything.
    It belongs to one thread.

    Args:
        name: of the device, for messages.
        address: of the device; its host may be an alias of the SSH configuration.
        pins: the host keys to expect.
        python: the device's interpreter that runs the agent.
        identity: a key file to try first.
        jump: jump hosts, as `hwloop.devices.ssh.route.find_route` takes them.
        config: the SSH configuration; `~/.ssh/config` by default.
        secrets: passphrases and passwords; by default the person at the terminal is asked.
        limits: how long each step may take.
    """

    def __init__(
        self,
        name: str,
        address: Address,
        pins: Pins,
        *,
        python: str = "python3",
        identity: str | None = None,
        jump: str | None = None,
        config: Path | None = None,
        secrets: Secrets | None = None,
        limits: Limits | None = None,
    ) -> None:
        self.name = name
        self.python = python
        self._address = address
        self._pins = pins
        self._identity = identity
        self._jump = jump
        self._config = config
        self._secrets = secrets if secrets is not None else TERMINAL
        self._limits = limits if limits is not None else Limits()
        self._connection: Connection | None = None
        self._files: paramiko.SFTPClient | None = None

    def connect(self) -> Connection:
        """Return the connection, opened if there is none.

        Raises:
            UserError: the SSH configuration cannot be used.
            AccessError: a host key is not the pinned one, or the device does not let us in.
            TransportError: the device cannot be reached.
        """
        if self._connection is not None and not self._connection.alive:
            self.close()
        if self._connection is None:
            route = find_route(self._address, identity=self._identity, jump=self._jump, config=self._config)
            ask = self._secrets.for_one_connection()
            self._connection = Connection.open(self.name, route, self._pins, ask, self._limits)
        return self._connection

    def start(self, argv: Sequence[str]) -> SshChannel:
        """See `Transport.start`."""
        connection = self.connect()
        nonce = token_hex(8)
        command = "exec " + shlex.join(["/bin/sh", "-c", LAUNCHER, nonce, *argv])
        with connection.within(self._limits.request_s, f"starting {argv[0]}"):
            raw = connection.device.open_session(timeout=self._limits.request_s)
            channel = SshChannel(connection, raw, nonce)
            try:
                raw.exec_command(command)
            except BaseException:
                channel.close(0, kill=False)
                raise
        try:
            channel.await_start(argv[0], Deadline(START_S))
        except BaseException:
            channel.close(0, kill=True)
            raise
        return channel

    @contextlib.contextmanager
    def _sftp(self, what: str, seconds: float | None = None) -> Iterator[paramiko.SFTPClient]:
        connection = self.connect()
        with connection.within(seconds if seconds is not None else self._limits.request_s, what):
            if self._files is None:
                try:
                    self._files = connection.device.open_sftp_client()
                except EOFError as error:
                    raise TransportError(f"{self.name} offers no SFTP; install its openssh-sftp-server") from error
            yield self._files

    def put(self, data: bytes, remote_path: str) -> None:
        """See `Transport.put`."""
        folder = posixpath.dirname(remote_path)
        temporary = posixpath.join(folder, f".put-{token_hex(8)}")
        with self._sftp(f"storing {remote_path}", PUT_S + len(data) / PUT_BYTES_PER_S) as files:
            try:
                try:
                    self._write(files, temporary, data)
                except FileNotFoundError:
                    _make_folders(files, folder)
                    self._write(files, temporary, data)
                files.posix_rename(temporary, remote_path)
            except OSError as error:
                with contextlib.suppress(OSError):
                    files.remove(temporary)
                reason = error.strerror or str(error)
                raise TransportError(f"{remote_path} cannot be stored on {self.name}: {reason}") from error

    @staticmethod
    def _write(files: paramiko.SFTPClient, path: str, data: bytes) -> None:
        with files.open(path, "wxb") as file:
            file.chmod(PRIVATE_FILE)
            file.set_pipelined(True)
            for start in range(0, len(data), WRITE_BYTES):
                file.write(data[start : start + WRITE_BYTES])
            file.flush()
            file.set_pipelined(False)
            stored = file.stat().st_size
            if stored != len(data):
                raise OSError(f"{stored} of {len(data)} bytes have arrived")
            with contextlib.suppress(OSError):  # not every server has it
                _request(files, "fsync@openssh.com", file.handle)

    def size(self, remote_path: str) -> int | None:
        """See `Transport.size`."""
        with self._sftp(f"looking at {remote_path}") as files:
            try:
                found = files.stat(remote_path)
            except FileNotFoundError:
                return None
            except OSError as error:
                reason = error.strerror or str(error)
                raise TransportError(f"{remote_path} cannot be looked at on {self.name}: {reason}") from error
        return found.st_size if stat.S_ISREG(found.st_mode or 0) else None

    def free_bytes(self, remote_path: str) -> int | None:
        """See `Transport.free_bytes`."""
        with self._sftp(f"looking at {remote_path}") as files:
            try:
                answer = _request(files, "statvfs@openssh.com", remote_path)
            except OSError:
                return None
        _, fragment_bytes, _, _, available = struct.unpack_from(">5Q", answer)
        return int(fragment_bytes * available)

    def default_root(self) -> str:
        """See `Transport.default_root`: `.cache/hwloop` in the user's home directory, where SFTP begins."""
        with self._sftp("asking for the home directory") as files:
            return posixpath.join(files.normalize("."), ".cache", "hwloop")

    def close(self) -> None:
        """See `Transport.close`."""
        connection, self._connection, self._files = self._connection, None, None
        if connection is not None:
            connection.close()


def _make_folders(files: paramiko.SFTPClient, folder: str) -> None:
    """Make a folder and those above it, as private as the user's own; what exists stays as it is."""
    try:
        files.stat(folder)
    except FileNotFoundError:
        _make_folders(files, posixpath.dirname(folder))
        try:
            files.mkdir(folder, PRIVATE_FOLDER)
        except OSError:
            # Another session may have made it at the same moment: SFTP has no word for that.
            if not stat.S_ISDIR(files.stat(folder).st_mode or 0):
                raise


def _request(files: paramiko.SFTPClient, name: str, argument: object) -> bytes:
    """Send one of OpenSSH's own SFTP requests; return what follows the number in its answer."""
    _, answer = files._request(CMD_EXTENDED, name, argument)  # type: ignore[attr-defined]  # paramiko has no public way
    return bytes(answer.get_remainder())
