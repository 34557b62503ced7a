"""The route to a device: the servers to log in to, one through the other, after `~/.ssh/config` has had its say."""

from __future__ import annotations

import getpass
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from paramiko import SSHConfig
from paramiko.ssh_exception import SSHException

from hwloop.errors import UserError

DEFAULT_PORT = 22
CONNECT_S = 10
MAX_HOPS = 8
MAX_INCLUDES = 16
# What OpenSSH tries when nobody names a key; DSA is dead.
DEFAULT_IDENTITIES = ("~/.ssh/id_ed25519", "~/.ssh/id_ecdsa", "~/.ssh/id_rsa")
INCLUDE = re.compile(r"\s*include\s*[\s=]\s*(.+?)\s*\Z", re.IGNORECASE)


@dataclass(frozen=True)
class Address:
    """What a person writes for one server: `[user@]host[:port]`. What is left out, the SSH configuration may know."""

    host: str
    port: int | None = None
    user: str | None = None

    @classmethod
    def parse(cls, text: str) -> Address:
        """Read `[ssh://][user@]host[:port]`; an IPv6 address stands in brackets.

        Raises:
            UserError: it is something else.
        """
        url = text if "://" in text else f"ssh://{text}"
        form = "write ssh://user@host[:port]"
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError as error:
            raise UserError(f"{text!r} is no SSH address ({error}); {form}") from None
        if parts.scheme != "ssh" or not parts.hostname or parts.path.strip("/") or parts.query or parts.fragment:
            raise UserError(f"{text!r} is no SSH address; {form}")
        if parts.password is not None:
            raise UserError(f"a password does not belong into an address, it would be stored; {form}")
        # `hostname` is lower case, and aliases of the SSH configuration are case-sensitive.
        bare = parts.netloc.rpartition("@")[2]
        host = bare[1 : bare.index("]")] if bare.startswith("[") else bare.partition(":")[0]
        user = unquote(parts.username) if parts.username else None
        if host.startswith("-") or port == 0 or not re.fullmatch(r"[A-Za-z0-9._:%-]+", host):
            raise UserError(f"{text!r} is no SSH address; {form}")
        return cls(host, port, user)


@dataclass(frozen=True)
class Place:
    """One server to log in to.

    Attributes:
        host: name or IP address; port; user: all settled.
        identities: key files to try, in this order.
        named: the key files were named by the user or the configuration; a missing one is an error.
        only: try no key of the ssh-agent that is not one of `identities`.
        connect_s: how long connecting may take.
    """

    host: str
    port: int
    user: str
    identities: tuple[Path, ...] = ()
    named: bool = False
    only: bool = False
    connect_s: int = CONNECT_S

    @property
    def address(self) -> str:
        """`host:port`, an IPv6 address in brackets."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def find_route(
    target: Address, *, identity: str | None = None, jump: str | None = None, config: Path | None = None
) -> tuple[Place, ...]:
    """Return the servers from here to `target`, which is the last of them.

    Args:
        target: the device's address; its host may be an alias of the configuration.
        identity: a key file for the device, before those of the configuration.
        jump: as OpenSSH's ProxyJump: `[user@]host[:port]`, several separated by commas; wins over the configuration,
            `none` switches it off.
        config: the SSH configuration; `~/.ssh/config` by default, where it exists.

    Raises:
        UserError: the configuration cannot be used, or the route runs in a circle.
    """
    path = config if config is not None else Path.home() / ".ssh" / "config"
    if config is not None and not path.exists():
        raise UserError(f"{path}: there is no such SSH configuration")
    return _Routes(path, _read(path)).to(target, identity, jump, 0)


def _read(path: Path) -> SSHConfig:
    if not path.exists():
        return SSHConfig()
    try:
        return SSHConfig.from_text("\n".join(_lines(path, path.parent, 0)))
    except (OSError, UnicodeDecodeError, SSHException) as error:
        raise UserError(f"{path}: the SSH configuration cannot be used: {error}") from error


def _lines(path: Path, folder: Path, depth: int) -> list[str]:
    """The lines of a configuration with `Include` carried out, which paramiko leaves undone."""
    if depth > MAX_INCLUDES:
        raise UserError(f"{path}: Include is nested more than {MAX_INCLUDES} deep; does it include itself?")
    lines: list[str] = []
    for line in path.read_text("utf-8").splitlines():
        found = INCLUDE.match(line)
        if found is None:
            lines.append(line)
            continue
        for pattern in found.group(1).split():
            full = Path(pattern.strip('"')).expanduser()
            full = full if full.is_absolute() else folder / full
            for included in sorted(full.parent.glob(full.name)):
                lines += _lines(included, folder, depth + 1)
    return lines


@dataclass(frozen=True)
class _Routes:
    path: Path
    config: SSHConfig

    def to(self, target: Address, identity: str | None, jump: str | None, depth: int) -> tuple[Place, ...]:
        if depth > MAX_HOPS:
            raise UserError(f"{self.path}: ProxyJump leads to {target.host} in more than {MAX_HOPS} steps or a circle")
        found = self._look_up(target.host)
        asked = jump if jump is not None else found.get("proxyjump", "none")
        hops: list[Place] = []
        if asked.lower() != "none":
            for index, text in enumerate(part.strip() for part in asked.split(",")):
                # As OpenSSH does: only the first jump host may bring a jump host of its own.
                own = None if index == 0 else "none"
                hops += self.to(Address.parse(text), None, own, depth + 1)
        elif found.get("proxycommand"):
            raise UserError(
                f"{self.path}: {target.host} is reached by a ProxyCommand, which hwloop does not run; use ProxyJump"
            )
        return (*hops, self._place(target, identity, found))

    def _look_up(self, host: str) -> dict[str, Any]:
        try:
            return dict(self.config.lookup(host))
        except (SSHException, ImportError, KeyError, ValueError) as error:
            raise UserError(f"{self.path}: the SSH configuration of {host} cannot be used: {error}") from error

    def _place(self, target: Address, identity: str | None, found: dict[str, Any]) -> Place:
        configured = [Path(name).expanduser() for name in found.get("identityfile", ())]
        if identity is not None:
            configured.insert(0, Path(identity).expanduser())
        default = [Path(name).expanduser() for name in DEFAULT_IDENTITIES]
        return Place(
            host=str(found["hostname"]),
            port=target.port or self._number(found, "port", DEFAULT_PORT),
            user=target.user or found.get("user") or getpass.getuser(),
            identities=tuple(configured or default),
            named=identity is not None,
            only=str(found.get("identitiesonly", "no")).lower() == "yes",
            connect_s=self._number(found, "connecttimeout", CONNECT_S),
        )

    def _number(self, found: dict[str, Any], key: str, default: int) -> int:
        text = str(found.get(key, default))
        if not text.isdigit() or int(text) == 0:
            raise UserError(f"{self.path}: {key} {text!r} of {found['hostname']} is not a positive number")
        return int(text)
