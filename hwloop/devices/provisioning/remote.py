"""Runs the agent's `provision` on a device and reads its events. What it says is checked and bounded."""

from __future__ import annotations

import getpass
import json
import socket
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from hwloop.devices.agentfile import place_agent
from hwloop.devices.deadline import Deadline
from hwloop.devices.transports import Channel, Transport
from hwloop.errors import AgentError, ProtocolError, TransportError
from hwloop_agent.protocol import clean_text

MARK = b"hwloop-board "
READ_BYTES = 1 << 16
MAX_LINE_BYTES = 1 << 20
MAX_OUTPUT_BYTES = 8 << 20
SILENCE_S = 60.0
CLOSE_S = 5.0
SHOWN_CHARACTERS = 2000


def run_on_board(
    transport: Transport,
    root: str,
    command: str,
    spec: Mapping[str, Any],
    *,
    limit_s: float,
    on_step: Callable[[str], None] | None = None,
    program: str = "provision",
) -> dict[str, Any]:
    """Carry out one command of `hwloop_agent.provision` in the agent's directory `root`; return its last event.

    Args:
        transport: the way to the device.
        root: absolute, on the device.
        command: `state`, `install` or `remove`.
        spec: its arguments.
        limit_s: after this long it is given up.
        on_step: told what it does.
        program: `provision`, or another part of the agent that answers in the same way (`tune`).

    Raises:
        AgentError: the device said why it cannot be done.
        TransportError: the connection broke, or was silent.
        ProtocolError: what came back is not from this program.
    """
    path, _ = place_agent(transport, root)
    words = json.dumps({**spec, "root": root, "who": _who(), "host": socket.gethostname()}, sort_keys=True)
    channel = transport.start([transport.python, "-I", "-B", path, program, command, words])
    over = False
    try:
        for event in _events(channel, transport.name, Deadline(limit_s)):
            if "failed" in event:
                raise AgentError(f"{transport.name}: {_text(event['failed'])}")
            if event.get("done") is True:
                over = True
                return event
            if on_step is not None and "step" in event:
                on_step(_text(event["step"]))
        said = _text(channel.stderr_tail().strip())
        raise TransportError(
            f"{program} on {transport.name} ended without a word" + (f"; it said: {said}" if said else "")
        )
    finally:
        channel.close(CLOSE_S if over else 0.5, kill=True)


def _who() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # no name for this user id: some containers
        return "unknown user"


def _text(value: object) -> str:
    return clean_text(str(value), SHOWN_CHARACTERS).replace("\n", " ")


def _events(channel: Channel, name: str, whole: Deadline) -> Iterator[dict[str, Any]]:
    """Yield the events; lines of others (login banners) are passed over."""
    waiting = b""
    total = 0
    while True:
        try:
            data = channel.read(READ_BYTES, whole.at_most(SILENCE_S))
        except TimeoutError:
            why = f"not done within {whole.seconds:.0f} s" if whole.expired else f"silent for {SILENCE_S:.0f} s"
            raise TransportError(f"provisioning {name}: {why}") from None
        if not data:
            return
        total += len(data)
        waiting += data
        if total > MAX_OUTPUT_BYTES or len(waiting) > MAX_LINE_BYTES:
            raise ProtocolError(f"provisioning {name}: it prints without end")
        *lines, waiting = waiting.split(b"\n")
        for line in lines:
            if line.startswith(MARK):
                yield _decode(line[len(MARK) :], name)


def _decode(line: bytes, name: str) -> dict[str, Any]:
    try:
        event = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise ProtocolError(f"provisioning {name}: a line of its answer cannot be read: {error}") from error
    if not isinstance(event, dict):
        raise ProtocolError(f"provisioning {name}: a line of its answer is not an object")
    return event
