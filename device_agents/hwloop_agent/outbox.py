"""What the supervisor has to say and the peer has not read yet: bounded, and never waited for."""

from __future__ import annotations

import os
from typing import Optional

from hwloop_agent.protocol import Json, Message, encode

# A peer that leaves this much unread is gone, whatever its socket says.
MAX_BACKLOG_BYTES = 8 << 20


class Outbox:
    """The sending end of a session. Once `lost`, everything said is dropped; the work goes on."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        self.lost = False
        self._held = bytearray()
        self._seq = 0

    @property
    def backlog(self) -> int:
        """How many bytes wait to be read by the peer."""
        return len(self._held)

    def send(self, type_: str, body: Json, message_id: int = 0) -> None:
        """Say something. Raises `FrameError` when it does not fit one line, before anything of it is sent."""
        if self.lost:
            return
        self._held += encode(Message(message_id, self._seq + 1, type_, body))
        self._seq += 1
        self.flush()
        if len(self._held) > MAX_BACKLOG_BYTES:
            self.abandon()

    def flush(self) -> None:
        """Write as much as the peer takes now."""
        while self._held and not self.lost:
            try:
                written = os.write(self.descriptor, self._held[: 1 << 16])
            except BlockingIOError:
                return
            except OSError:
                self.abandon()
                return
            del self._held[:written]

    def abandon(self) -> None:
        """The peer is gone: drop what it has not read, and everything from now on."""
        self.lost = True
        self._held.clear()


def read_available(descriptor: int) -> Optional[bytes]:
    """Return what can be read now: None when nothing is there yet, b"" at the end or when the peer is gone."""
    try:
        return os.read(descriptor, 1 << 16)
    except BlockingIOError:
        return None
    except OSError:
        return b""
