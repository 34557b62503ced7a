"""Host keys: what a device proves itself with. A key is pinned once, by a person, and compared ever after."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Self

from hwloop.errors import AccessError

FINGERPRINT = re.compile(r"SHA256:[A-Za-z0-9+/]{43}\Z")
KEY_TYPE = re.compile(r"[a-z0-9@.-]{1,64}\Z")


@dataclass(frozen=True)
class HostKey:
    """The public key of an SSH server.

    Attributes:
        type: for example `ssh-ed25519`.
        base64: the key in the spelling of `known_hosts` and of `ssh_host_*_key.pub`.
    """

    type: str
    base64: str

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `TYPE BASE64`, as OpenSSH writes it.

        Raises:
            ValueError: it is something else.
        """
        parts = text.split()
        if len(parts) != 2 or not KEY_TYPE.match(parts[0]):
            raise ValueError("a host key is written TYPE BASE64, as in ssh_host_ed25519_key.pub")
        try:
            blob = base64.b64decode(parts[1], validate=True)
        except binascii.Error as error:
            raise ValueError(f"a host key is written TYPE BASE64 ({error})") from None
        name = parts[0].encode()
        if not blob.startswith(len(name).to_bytes(4, "big") + name):
            raise ValueError(f"this is not a key of the type {parts[0]}")
        return cls(parts[0], parts[1])

    @property
    def text(self) -> str:
        """`TYPE BASE64`."""
        return f"{self.type} {self.base64}"

    @property
    def fingerprint(self) -> str:
        """`SHA256:…` as `ssh-keygen -l` prints it."""
        digest = sha256(base64.b64decode(self.base64)).digest()
        return "SHA256:" + base64.b64encode(digest).decode().rstrip("=")


class UnknownHostKeyError(AccessError):
    """A server shows a key and none is pinned for it.

    Attributes:
        address: `host:port` of the server.
        key: what it showed.
        is_hop: it is a jump host on the way, not the device.
    """

    def __init__(self, text: str, address: str, key: HostKey, is_hop: bool) -> None:
        super().__init__(text)
        self.address = address
        self.key = key
        self.is_hop = is_hop


@dataclass(frozen=True)
class Pins:
    """The keys that are trusted on one route.

    Attributes:
        device: the device's key, whatever address it has today; None when it has never been seen.
        hops: the keys of the jump hosts, by `host:port`.
        kind: of the key to ask a server for where none is pinned: it may have several; "" for any.
    """

    device: HostKey | None = None
    hops: Mapping[str, HostKey] = field(default_factory=dict)
    kind: str = ""

    def expected(self, address: str, is_hop: bool) -> HostKey | None:
        """Return the pinned key of a server on the route."""
        return self.hops.get(address) if is_hop else self.device

    def wanted_kind(self, address: str, is_hop: bool) -> str:
        """Return the kind of key to ask a server for; "" for any."""
        pinned = self.expected(address, is_hop)
        return pinned.type if pinned is not None else self.kind

    def check(self, name: str, address: str, is_hop: bool, shown: HostKey) -> None:
        """Compare the key that a server shows with the pinned one.

        Args:
            name: of the device, for the message.
            address: `host:port` of the server.
            is_hop: it is a jump host.
            shown: its key.

        Raises:
            UnknownHostKeyError: none is pinned.
            AccessError: another one is pinned.
        """
        what = f"jump host {address} of device {name}" if is_hop else f"device {name} ({address})"
        pinned = self.expected(address, is_hop)
        if pinned is None:
            raise UnknownHostKeyError(
                f"{what}: no host key is pinned, it shows {shown.type} {shown.fingerprint}; compare that with"
                " `ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub` typed on the machine itself, then pin it with"
                f" `hwloop device add {name} URL --fingerprint {shown.fingerprint}`",
                address,
                shown,
                is_hop,
            )
        if pinned != shown:
            raise AccessError(
                f"{what}: THE HOST KEY HAS CHANGED: pinned is {pinned.type} {pinned.fingerprint}, it shows"
                f" {shown.type} {shown.fingerprint}; another machine has its address, or it was installed anew: find"
                f" out which, and if it is yours, `hwloop device remove {name}` and add it again"
            )
