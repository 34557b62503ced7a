"""Devices: the way to them, and the sessions with their agents."""

from __future__ import annotations

from hwloop.devices.deadline import Deadline
from hwloop.devices.device import Device, SshAccess, local_device, replay_device
from hwloop.devices.hello import Hello
from hwloop.devices.inventory import Inventory
from hwloop.devices.session import AgentSession, trial_deadline_s
from hwloop.devices.transports import Channel, LocalTransport, Transport
from hwloop.devices.zipapp import build_zipapp

__all__ = [
    "AgentSession",
    "Channel",
    "Deadline",
    "Device",
    "Hello",
    "Inventory",
    "LocalTransport",
    "SshAccess",
    "Transport",
    "build_zipapp",
    "local_device",
    "replay_device",
    "trial_deadline_s",
]
