"""Messages over a channel: the handshake, requests and their answers, and noticing when the peer is gone.

What arrives is treated as hostile: bounded, checked against the protocol, and freed of control characters before it
is shown.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Set
from typing import Any

from hwloop.devices.deadline import Clock, Deadline
from hwloop.devices.transports import Channel
from hwloop.errors import AgentError, AgentMismatchError, DeviceBusyError, ProtocolError, TransportError
from hwloop_agent import protocol
from hwloop_agent.protocol import FrameError, LineReader, Message

READ_BYTES = 1 << 16
SHOWN_CHARACTERS = 2000
# While an answer is awaited the agent sends a heartbeat every 5 s; this long without any byte means that it is gone.
SILENCE_S = 3 * protocol.HEARTBEAT_S


class Link:
    """One agent's channel. Any error but a refusal ends it.

    While it waits for an answer it says `ping` every `protocol.PING_S`: an agent that hears nothing takes its host to
    be gone and gives the device up.
    """

    def __init__(self, channel: Channel, name: str, clock: Clock = time.monotonic) -> None:
        self._channel = channel
        self._clock = clock
        self._said_at: float | None = None
        self._name = name
        self._reader = LineReader()
        self._waiting: deque[bytes | FrameError] = deque()
        self._last_id = 0
        self._sent = 0
        self._received = 0
        self._open = True
        self._unanswered: int | None = None
        self.logs: deque[str] = deque(maxlen=100)

    @staticmethod
    def text(value: object) -> str:
        """Return something the peer said, fit for a terminal and a single line."""
        return protocol.clean_text(str(value), SHOWN_CHARACTERS).replace("\n", " ")

    def _lost(self, why: str) -> TransportError:
        self._open = False
        said = self.text(self._channel.stderr_tail().strip()[-SHOWN_CHARACTERS:])
        return TransportError(f"lost the agent on {self._name}: {why}" + (f"; it said: {said}" if said else ""))

    def _read(self, deadline: Deadline) -> bytes:
        while True:
            # Before the first message it may be a login shell that listens: it is told nothing.
            ping_in_s = float("inf") if self._said_at is None else self._said_at + protocol.PING_S - self._clock()
            if ping_in_s <= 0:
                self.send("ping", {}, deadline)
                ping_in_s = protocol.PING_S
            is_whole = ping_in_s >= deadline.remaining
            try:
                data = self._channel.read(READ_BYTES, deadline if is_whole else deadline.at_most(ping_in_s))
            except TimeoutError:
                if not is_whole:
                    continue
                raise self._lost(f"silent for {deadline.seconds:.0f} s") from None
            except TransportError as error:
                raise self._lost(str(error)) from error
            if not data:
                raise self._lost("it has ended")
            return data

    def await_ready(self, nonce: str, deadline: Deadline) -> None:
        """Discard what login shells print, up to 64 KiB, until the agent says READY with our nonce.

        Raises:
            TransportError: it never did; the text shows what was printed instead.
        """
        marker = protocol.READY_PREFIX + nonce.encode() + b"\n"
        banner = bytearray()
        found = -1
        while found < 0:
            if len(banner) > protocol.MAX_BANNER_BYTES + len(marker):
                raise self._lost(
                    f"no READY in the first 64 KiB, which begin {self.text(banner[:300].decode('utf-8', 'replace'))!r}"
                )
            try:
                searched = max(len(banner) - len(marker), 0)
                banner += self._read(deadline)
                found = banner.find(marker, searched)
            except TransportError as error:
                shown = self.text(banner[-300:].decode("utf-8", "replace"))
                raise TransportError(f"{error}; before READY it printed {shown!r}") from None
        self._waiting.extend(self._reader.feed(bytes(banner[found + len(marker) :])))

    def send(self, type_: str, body: dict[str, Any], deadline: Deadline) -> int:
        """Send a message; return its id.

        Raises:
            TransportError: the agent does not take it.
            ProtocolError: it is too large for a message.
        """
        if not self._open:
            raise TransportError(f"the session with {self._name} is over")
        try:
            line = protocol.encode(Message(self._last_id + 1, self._sent + 1, type_, body))
        except ValueError as error:
            raise ProtocolError(f"{type_} cannot be sent: {error}") from error
        self._last_id += 1
        self._sent += 1
        self._said_at = self._clock()
        try:
            self._channel.write(line, deadline)
        except TimeoutError:
            raise self._lost("it does not read") from None
        except TransportError as error:
            raise self._lost(str(error)) from error
        return self._last_id

    def _next(self, deadline: Deadline) -> Message:
        while not self._waiting:
            self._waiting.extend(self._reader.feed(self._read(deadline)))
        line = self._waiting.popleft()
        try:
            if isinstance(line, FrameError):
                raise line
            message = protocol.decode(line, protocol.AGENT_TYPES)
            if message.seq != self._received + 1:
                raise FrameError("envelope", f"message {message.seq} after {self._received}")
        except FrameError as error:
            self._open = False
            raise ProtocolError(
                f"the agent on {self._name} broke the protocol ({error.code}): {self.text(error)}"
            ) from None
        self._received = message.seq
        return message

    def answer(self, message_id: int, types: Set[str], whole: Deadline, silence_s: float = SILENCE_S) -> Message:
        """Return the next answer to request `message_id`; heartbeats count as life, logs are kept in `logs`.

        Raises:
            DeviceBusyError: somebody else holds the device.
            AgentError: the agent refused.
            TransportError: nothing for `silence_s`, or not the answer before `whole`; the link is then over.
            ProtocolError: an answer of another type.
        """
        self._unanswered = message_id
        while True:
            if whole.expired:
                raise self._lost(f"no answer within {whole.seconds:.0f} s")
            message = self._next(whole.at_most(silence_s))
            if message.type == "log":
                self.logs.append(self.text(message.body.get("message")))
            elif message.id == message_id:
                self._unanswered = None if message.type not in ("trial.accepted", "trial.phase") else message_id
                if message.type == "error":
                    raise self._refused(message.body)
                if message.type not in types:
                    self._open = False
                    raise ProtocolError(f"the agent on {self._name} answered with {message.type}")
                return message

    def _refused(self, body: dict[str, Any]) -> AgentError | AgentMismatchError | DeviceBusyError:
        text = self.text(body.get("message"))
        if body.get("code") == "lease":
            return DeviceBusyError(text, leaving=body.get("leaving") is True)
        if body.get("code") == "proto":
            return AgentMismatchError(f"{self._name}: {text}")
        return AgentError(f"{self._name}: {text} ({self.text(body.get('code'))})")

    def request(self, type_: str, body: dict[str, Any], types: Set[str], deadline: Deadline) -> Message:
        """Send a request and return its answer. Raises what `send` and `answer` raise."""
        return self.answer(self.send(type_, body, deadline), types, deadline)

    def say_goodbye(self, deadline: Deadline) -> bool:
        """Say `bye` when nothing is being worked on; return whether the agent has no reason to stay."""
        if not self._open:
            return False
        if self._unanswered is not None:
            return False
        try:
            self.request("bye", {}, {"bye"}, deadline)
        except (TransportError, ProtocolError, AgentError):
            return False
        return True

    def close(self, wait_s: float, *, kill: bool) -> None:
        """Close the channel; see `Channel.close`."""
        self._open = False
        self._channel.close(wait_s, kill=kill)
