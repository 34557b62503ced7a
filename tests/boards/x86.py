"""An x86-64 board: a real sshd on loopback with a home, host key and authorized keys of its own."""

from __future__ import annotations

import contextlib
import getpass
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

from hwloop.devices import Device, SshAccess
from hwloop.devices.ssh.hostkey import HostKey, Pins
from hwloop.devices.ssh.login import Secrets
from hwloop.devices.ssh.route import Address
from hwloop.devices.transports.ssh import SshTransport

SSHD = shutil.which("sshd", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")
UP_S = 20.0


def make_key(path: Path, kind: str = "ed25519", passphrase: str = "") -> Path:
    subprocess.run(
        ["ssh-keygen", "-q", "-t", kind, "-N", passphrase, "-C", path.name, "-f", str(path)],
        check=True,
        stdin=subprocess.DEVNULL,
    )
    return path


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def children_of(pid: int) -> list[int]:
    with contextlib.suppress(OSError):
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return []


def descendants(pid: int) -> list[int]:
    """The children of a process, theirs, and so on."""
    found = children_of(pid)
    for child in found:
        found += children_of(child)
    return found


def is_zombie(pid: int) -> bool:
    """Whether a process has ended, reaped or not."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] in "ZX"
    return True


def _command_lines() -> list[tuple[int, list[str]]]:
    """Every process that runs, with the words of its command line; one that has ended has none."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                words = (entry / "cmdline").read_bytes().decode("utf-8", "replace").split("\0")
                found.append((int(entry.name), words))
    return found


def wait_until(condition, what: str, seconds: float = UP_S) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, f"{what} has not come about within {seconds} s"
        time.sleep(0.01)


@dataclass
class X86Board:
    """One board. `start` and `stop` are its sshd; its home, keys and port stay the same."""

    folder: Path
    port: int = field(default_factory=free_port)
    process: subprocess.Popen[bytes] | None = None
    extra_config: list[str] = field(default_factory=list)
    host: str = "127.0.0.1"
    launcher: tuple[str, ...] = ()  # before sshd's command line: `nsenter …` puts the board into another network
    environment: dict[str, str] = field(default_factory=dict)  # what every program on the board finds, besides

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True)
        self.home.mkdir()
        make_key(self.folder / "host_key")
        make_key(self.user_key)
        self.authorize(self.user_key)

    @property
    def home(self) -> Path:
        return self.folder / "home"

    @property
    def user_key(self) -> Path:
        return self.folder / "user_key"

    @property
    def root(self) -> Path:
        return self.home / ".cache" / "hwloop"

    @property
    def host_key(self) -> HostKey:
        return HostKey.parse(" ".join((self.folder / "host_key.pub").read_text().split()[:2]))

    @property
    def user(self) -> str:
        return getpass.getuser()

    @property
    def log(self) -> str:
        return (self.folder / "sshd.log").read_text()

    def authorize(self, key: Path) -> None:
        with (self.folder / "authorized_keys").open("a") as file:
            file.write(key.with_name(key.name + ".pub").read_text())

    def new_host_key(self) -> None:
        for name in ("host_key", "host_key.pub"):
            (self.folder / name).unlink()
        make_key(self.folder / "host_key")

    def _config(self) -> Path:
        path = self.folder / "sshd_config"
        lines = [
            f"Port {self.port}",
            f"ListenAddress {self.host}",
            f"HostKey {self.folder / 'host_key'}",
            f"AuthorizedKeysFile {self.folder / 'authorized_keys'}",
            f"PidFile {self.folder / 'sshd.pid'}",
            "StrictModes no",
            "UsePAM no",
            "PermitRootLogin prohibit-password",
            "PasswordAuthentication no",
            "KbdInteractiveAuthentication no",
            "AllowTcpForwarding yes",
            # The board's user is whoever runs the tests, in a home of the board's own.
            " ".join(("SetEnv", *(f"{name}={value}" for name, value in self._environment().items()))),
            f"Subsystem sftp internal-sftp -d {self.home}",
            *self.extra_config,
        ]
        path.write_text("\n".join(lines) + "\n")
        return path

    def _environment(self) -> dict[str, str]:
        return {"HOME": str(self.home), "TMPDIR": str(self.folder), **self.environment}

    def start(self) -> None:
        assert self.process is None
        assert SSHD is not None
        if os.getuid() == 0:
            Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)  # sshd's empty folder for privilege separation
        log = (self.folder / "sshd.log").open("ab")
        with log:
            self.process = subprocess.Popen(
                [*self.launcher, SSHD, "-D", "-e", "-f", str(self._config())],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={name: value for name, value in os.environ.items() if not name.startswith("SSH_")},
            )
        wait_until(self._answers, f"sshd on port {self.port}")

    def _answers(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, f"sshd ended: {self.log}"
        try:
            with socket.create_connection((self.host, self.port), timeout=1) as connection:
                return connection.recv(4) == b"SSH-"
        except OSError:
            return False

    def connections(self) -> list[int]:
        """The process ids of sshd's children, one for each connection."""
        return children_of(self.process.pid) if self.process is not None else []

    def cut(self) -> None:
        """Kill the sshd processes of all connections; the programs they started stay."""
        for pid in self.connections():
            for child in (pid, *children_of(pid)):
                with contextlib.suppress(ProcessLookupError, OSError):
                    if Path(f"/proc/{child}/comm").read_text().strip() == "sshd":
                        os.kill(child, signal.SIGKILL)

    def stop(self) -> None:
        """End sshd; connections that are open stay so."""
        if self.process is not None:
            self.process.terminate()
            self.process.wait(10)
            self.process = None

    def agents(self, role: str = "serve") -> list[int]:
        """The process ids of this board's agents: `serve` for supervisors, `worker` for workers."""
        return [pid for pid, words in _command_lines() if role in words and words[0] and self._runs_here(words)]

    def _runs_here(self, words: list[str]) -> bool:
        return any(word.startswith(f"{self.root}/agents/") for word in words)

    def power_off(self) -> None:
        """Kill every process of the board in one go, as a power cut does; `start` is the next boot."""
        assert self.process is not None
        self.process.kill()  # first: it starts no more sessions
        wait_until(self._kill_all, "the death of every process on the board")
        self.process.wait()
        self.process = None

    def _kill_all(self) -> bool:
        """Kill what still runs; say whether nothing did."""
        assert self.process is not None
        running = [pid for pid, words in _command_lines() if self._runs_here(words)]
        running += [pid for pid in descendants(self.process.pid) if not is_zombie(pid)]
        for pid in running:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        return not running

    def pins(self) -> Pins:
        return Pins(self.host_key)

    def transport(self, **more) -> SshTransport:
        """A way to the board; keyword arguments replace those of `SshTransport`."""
        given = {
            "address": Address(self.host, self.port, self.user),
            "pins": self.pins(),
            "python": sys.executable,
            "identity": str(self.user_key),
            "secrets": Secrets(lambda question: None),
            **more,
        }
        if "config" not in given:
            given["config"] = self.ssh_config()
        return SshTransport(given.pop("name", "board"), given.pop("address"), given.pop("pins"), **given)

    def device(self, name: str = "board") -> Device:
        access = SshAccess(self.host, self.port, self.user, str(self.user_key), self.host_key)
        return Device(name, "ssh", sys.executable, sys.executable, None, access)

    def ssh_config(self, text: str = "") -> Path:
        """An SSH configuration; empty unless told otherwise, so that the tester's own plays no part."""
        path = self.folder / "ssh_config"
        path.write_text(text)
        return path
