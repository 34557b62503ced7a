"""Where the agent's file lies on a device, and how it gets there."""

from __future__ import annotations

import posixpath
from hashlib import sha256

from hwloop.devices.transports import Transport
from hwloop.devices.zipapp import build_zipapp


def place_agent(transport: Transport, root: str) -> tuple[str, str]:
    """Send the agent to a device unless it is there; return its path there and its SHA-256.

    Its name is its hash, and the agent tells the hash of what is really there when a session opens.

    Raises:
        TransportError: the device cannot be reached, or the file not be stored.
    """
    archive = build_zipapp()
    digest = sha256(archive).hexdigest()
    path = posixpath.join(root, "agents", digest, "agent.pyz")
    if transport.size(path) != len(archive):
        transport.put(archive, path)
    return path, digest
