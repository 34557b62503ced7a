"""Ways to a device."""

from __future__ import annotations

from hwloop.devices.transports.base import Channel, Transport
from hwloop.devices.transports.local import LocalChannel, LocalTransport

__all__ = ["Channel", "LocalChannel", "LocalTransport", "Transport"]
