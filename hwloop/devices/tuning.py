"""Tuning a device's frequency governor: only when asked, held while somebody is there, put back afterwards.

The board's side is `hwloop_agent.sensors.tuning`: a fixed list of files, a restore file before the first change.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Self

from hwloop.devices.agentfile import place_agent
from hwloop.devices.deadline import Deadline
from hwloop.devices.device import Device
from hwloop.devices.provisioning.remote import run_on_board
from hwloop.devices.transports import Channel, Transport
from hwloop.errors import AgentError, ProtocolError, TransportError
from hwloop_agent.protocol import clean_text

MARK = b"hwloop-board "
LIMIT_S = 30.0
# The board puts itself back after 30 s without a word from us.
SIGN_OF_LIFE_S = 5.0
MAX_ANSWER_BYTES = 1 << 18
TEXT_CHARACTERS = 200


@dataclass(frozen=True)
class Change:
    """One file below `/sys` of the device.

    Attributes:
        file: relative to `/sys`; `before`: what it holds or held; `after`: what it becomes or became.
    """

    file: str
    before: str
    after: str

    @classmethod
    def from_json(cls, content: Any) -> Self:
        """Read one. Raises `ProtocolError`."""
        if not isinstance(content, dict):
            raise ProtocolError("the device's answer names a change that is none")
        words = (clean_text(str(content.get(key)), TEXT_CHARACTERS) for key in ("file", "before", "after"))
        return cls(*(word.replace("\n", " ") for word in words))


@dataclass(frozen=True)
class Tuning:
    """What tuning a device would change, and whether it is tuned now."""

    changes: tuple[Change, ...]
    is_tuned: bool


def _changes(event: Mapping[str, Any]) -> tuple[Change, ...]:
    found = event.get("changes")
    if not isinstance(found, list):
        raise ProtocolError("the device's answer names no changes")
    return tuple(Change.from_json(one) for one in found)


def _root(device: Device, transport: Transport) -> str:
    return device.root if device.root is not None else transport.default_root()


def _ask(device: Device, command: str) -> dict[str, Any]:
    transport = device.open_transport()
    try:
        return run_on_board(transport, _root(device, transport), command, {}, limit_s=LIMIT_S, program="tune")
    finally:
        transport.close()


def show(device: Device) -> Tuning:
    """Ask a device what tuning would change there.

    Raises:
        AgentError: the device has nothing to tune; the text says why.
        TransportError: it cannot be reached.
    """
    event = _ask(device, "show")
    return Tuning(_changes(event), event.get("tuned") is True)


def restore(device: Device) -> tuple[Change, ...]:
    """Put back what a tuning that was cut off has left; return what was put back.

    Raises:
        AgentError: it cannot be put back, or somebody holds the device tuned.
        TransportError: it cannot be reached.
    """
    return _changes(_ask(device, "restore"))


def hold(device: Device, wait: Callable[[float], bool], on_held: Callable[[tuple[Change, ...]], None]) -> None:
    """Tune a device, hold it tuned while `wait` says so, and put it back.

    Args:
        device: which one.
        wait: waits for at most so many seconds; False: that was enough. What it raises ends the tuning in order too.
        on_held: told what was changed, once it is.

    Raises:
        AgentError: the device cannot be tuned, or not be put back; the text says why.
        TransportError: the connection broke; the device puts itself back.
    """
    transport = device.open_transport()
    try:
        root = _root(device, transport)
        path, _ = place_agent(transport, root)
        words = json.dumps({"root": root})
        channel = transport.start([transport.python, "-I", "-B", path, "tune", "hold", words])
        try:
            on_held(_changes(_event(channel, device.name)))
            try:
                while wait(SIGN_OF_LIFE_S):
                    channel.write(b".", Deadline(LIMIT_S))
            finally:
                channel.write(b"q", Deadline(LIMIT_S))
                _event(channel, device.name)
        finally:
            channel.close(SIGN_OF_LIFE_S, kill=False)
    finally:
        transport.close()


def _event(channel: Channel, name: str) -> dict[str, Any]:
    """Return the next event; lines of others (login banners) are passed over."""
    waiting = b""
    deadline = Deadline(LIMIT_S)
    while len(waiting) < MAX_ANSWER_BYTES:
        for line in waiting.splitlines():
            if line.startswith(MARK) and waiting.endswith(b"\n"):
                return _read(line[len(MARK) :], name)
        try:
            data = channel.read(1 << 16, deadline)
        except TimeoutError:
            raise TransportError(f"{name}: no answer within {LIMIT_S:.0f} s") from None
        if not data:
            said = clean_text(channel.stderr_tail().strip(), TEXT_CHARACTERS).replace("\n", " ")
            raise TransportError(f"tuning {name} ended without a word" + (f"; it said: {said}" if said else ""))
        waiting += data
    raise ProtocolError(f"{name}: it prints without end")


def _read(line: bytes, name: str) -> dict[str, Any]:
    try:
        event = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise ProtocolError(f"{name}: a line of its answer cannot be read: {error}") from error
    if not isinstance(event, dict):
        raise ProtocolError(f"{name}: a line of its answer is not an object")
    if "failed" in event:
        raise AgentError(f"{name}: {clean_text(str(event['failed']), 1000)}")
    return event
