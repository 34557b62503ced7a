"""`devices.toml`: read with every complaint named by file and key, changed in place.

What a person wrote into it, comments too, stays. It holds no secrets: names of key files, never keys.
"""

from __future__ import annotations

import re
import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tomlkit
from tomlkit.exceptions import TOMLKitError

from hwloop.devices.device import LOCAL, REPLAY, Device, SshAccess, replay_device
from hwloop.devices.ssh.hostkey import FINGERPRINT, HostKey
from hwloop.errors import ConfigError, UserError
from hwloop.files import write_atomic
from hwloop_agent import protocol

KINDS = {
    LOCAL: frozenset({"python", "worker_python", "root", "board"}),
    "ssh": frozenset(
        {"python", "worker_python", "root", "board", "host", "port", "user", "identity", "fingerprint", "host_key"}
        | {"jump", "jump_keys"}
    ),
    REPLAY: frozenset({"replay", "trial_s"}),
}
"""Keys of each kind of device, besides `transport`."""

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}\Z")
HEADER = "# Devices that hwloop can measure; `hwloop device --help`. No secrets belong in here.\n"


def read_devices(path: Path) -> tuple[Device, ...]:
    """Read a file; one that does not exist has no devices.

    Raises:
        ConfigError: it cannot be read, or has something wrong in it; the text names file and key.
    """
    try:
        content = tomllib.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        return ()
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read: {error}") from error
    for key in content:
        if key != "devices":
            raise ConfigError(f"{path}: unknown key {key}; devices stand in tables [devices.NAME]")
    tables = content.get("devices", {})
    if not isinstance(tables, dict):
        raise ConfigError(f"{path}: devices is not a table; write [devices.NAME]")
    return tuple(_Reader(path, f"devices.{name}", table).device(name) for name, table in tables.items())


def check_name(path: Path, name: str) -> None:
    """Check that a device can be called so in a file.

    Raises:
        UserError: the name is taken or cannot be used.
    """
    if not NAME.match(name) or name == LOCAL:
        raise UserError(f"a device cannot be called {name!r}: letters, digits, . _ - and not {LOCAL}")
    if any(known.name == name for known in read_devices(path)):
        raise UserError(f"{path}: there is a device {name} already; `hwloop device remove {name}` first")


def add_device(path: Path, device: Device) -> None:
    """Write a device into a file, which is made if there is none.

    Raises:
        UserError: the name is taken or cannot be used, or the file cannot be changed.
    """
    check_name(path, device.name)
    document = _parse(path)
    devices = document.get("devices")
    if devices is None:
        devices = document["devices"] = tomlkit.table(is_super_table=True)
    devices[device.name] = _table(device)
    _write(path, document)


def remove_device(path: Path, name: str) -> None:
    """Take a device out of a file.

    Raises:
        UserError: it is not in there, or the file cannot be changed.
    """
    document = _parse(path)
    devices = document.get("devices", {})
    if name not in devices:
        raise UserError(f"{path}: there is no device {name}")
    del devices[name]
    if not devices:
        del document["devices"]
    _write(path, document)


def set_worker_python(path: Path, name: str, python: str | None) -> None:
    """Write into a file which interpreter of a device has the runtimes; None for the one that runs the agent.

    Raises:
        UserError: the device is not in there, or the file cannot be changed.
    """
    document = _parse(path)
    devices = document.get("devices", {})
    if name not in devices:
        raise UserError(f"{path}: there is no device {name}")
    if python is None:
        devices[name].pop("worker_python", None)
    else:
        devices[name]["worker_python"] = python
    _write(path, document)


def _parse(path: Path) -> tomlkit.TOMLDocument:
    try:
        return tomlkit.parse(path.read_text("utf-8"))
    except FileNotFoundError:
        return tomlkit.parse(HEADER)
    except (OSError, UnicodeDecodeError, TOMLKitError) as error:
        raise UserError(f"{path}: cannot be read: {error}") from error


def _write(path: Path, document: tomlkit.TOMLDocument) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(path, tomlkit.dumps(document))
    except OSError as error:
        raise UserError(f"{path}: cannot be written: {error.strerror}") from error


def _table(device: Device) -> tomlkit.items.Table:
    content: dict[str, Any] = {"transport": device.transport}
    if device.ssh is not None:
        access = device.ssh
        content |= {"host": access.host, "port": access.port, "user": access.user, "identity": access.identity}
        if access.host_key is not None:
            content |= {"fingerprint": access.host_key.fingerprint, "host_key": access.host_key.text}
        content["jump"] = access.jump
    if device.replay is not None:
        content |= {"replay": device.replay, "trial_s": device.trial_s or None}
    else:
        content |= {"python": device.python, "worker_python": device.worker_python, "root": device.root}
    content["board"] = device.board
    table = tomlkit.table()
    for key, value in content.items():
        if value is not None:
            table[key] = value
    if device.ssh is not None and device.ssh.jump_keys:
        keys = tomlkit.inline_table()
        keys.update({address: key.text for address, key in device.ssh.jump_keys.items()})
        table["jump_keys"] = keys
    return table


@dataclass(frozen=True)
class _Reader:
    """Reads one table; every complaint names the file and the key."""

    path: Path
    where: str
    table: Any

    def _error(self, key: str, text: str) -> ConfigError:
        return ConfigError(f"{self.path}: {self.where}{'.' + key if key else ''} {text}")

    def device(self, name: str) -> Device:
        if not isinstance(self.table, dict):
            raise self._error("", "is not a table")
        if not NAME.match(name) or name == LOCAL:
            raise self._error("", f"cannot be a device's name: letters, digits, . _ - and not {LOCAL}")
        told = "ssh" if "host" in self.table else REPLAY if "replay" in self.table else LOCAL
        kind = self._text("transport") or told
        if kind not in KINDS:
            raise self._error("transport", f"{kind!r} does not exist (known: {', '.join(KINDS)})")
        allowed = KINDS[kind] | {"transport"}
        for key in self.table:
            if key not in allowed:
                raise self._error(key, f"is unknown for a device by {kind} (known: {', '.join(sorted(allowed))})")
        if kind == REPLAY:
            return self._replay(name)
        python = self._text("python") or (sys.executable if kind == LOCAL else "python3")
        root = self._text("root")
        if root is not None and not root.startswith("/"):
            raise self._error("root", f"{root!r} is not an absolute path of the device")
        access = self._access() if kind == "ssh" else None
        board = self._text("board")
        if board is not None and board.endswith(".toml"):
            board = str(self.path.absolute().parent / board)
        return Device(name, kind, python, self._text("worker_python") or python, root, access, board)

    def _replay(self, name: str) -> Device:
        recording = self._text("replay")
        if recording is None:
            raise self._error("replay", "is missing: name a latency table or a trial journal")
        trial_s, most = self.table.get("trial_s", 0.0), protocol.MAX_TRIAL_S
        if not isinstance(trial_s, int | float) or isinstance(trial_s, bool) or not 0 <= trial_s <= most:
            raise self._error("trial_s", f"{trial_s!r} is not a time from 0 to {most:.0f} s")
        return replay_device(name, self.path.absolute().parent / recording, float(trial_s))

    def _access(self) -> SshAccess:
        host = self._text("host")
        if host is None:
            raise self._error("host", "is missing")
        port = self.table.get("port")
        if port is not None and not (isinstance(port, int) and not isinstance(port, bool) and 0 < port < 65536):
            raise self._error("port", f"{port!r} is not a port number")
        key = self._key("host_key", self._text("host_key"))
        fingerprint = self._text("fingerprint")
        if fingerprint is not None and not FINGERPRINT.match(fingerprint):
            raise self._error("fingerprint", f"{fingerprint!r} is not SHA256: and 43 characters")
        if key is not None and fingerprint not in (None, key.fingerprint):
            raise self._error("fingerprint", f"{fingerprint} is not that of host_key, which is {key.fingerprint}")
        if key is None:
            raise self._error("host_key", "is missing: `hwloop device add` asks the device and writes it")
        jump_keys = self.table.get("jump_keys", {})
        if not isinstance(jump_keys, dict):
            raise self._error("jump_keys", "is not a table of keys by host:port")
        hops = {address: self._key(f"jump_keys.{address!r}", text) for address, text in jump_keys.items()}
        return SshAccess(
            host=host,
            port=port,
            user=self._text("user"),
            identity=self._text("identity"),
            host_key=key,
            jump=self._text("jump"),
            jump_keys={address: hop for address, hop in hops.items() if hop is not None},
        )

    def _text(self, key: str) -> str | None:
        value = self.table.get(key)
        if value is None:
            return None
        if not isinstance(value, str) or not value or not value.isprintable():
            raise self._error(key, f"is {value!r}, not a text")
        return value

    def _key(self, key: str, text: Any) -> HostKey | None:
        if text is None:
            return None
        try:
            return HostKey.parse(str(text))
        except ValueError as error:
            raise self._error(key, f"is {text!r}: {error}") from None
