"""A recording as a device: the transport to an agent that measures nothing (`hwloop.devices.replay`).

Everything above is what it is for a board: the same sessions, campaigns, journals and tables. Every record and the
facts say `replayed`, and `Bench.identify` makes it part of the processor's name: nothing of it can pass for hardware.
"""

from __future__ import annotations

from collections.abc import Sequence

from hwloop.devices.deadline import Deadline
from hwloop.devices.replay import Faults, Recording, ReplayAgent
from hwloop.errors import TransportError


class ReplayChannel:
    """See `Channel`; answers are ready as soon as the question is written."""

    def __init__(self, agent: ReplayAgent) -> None:
        self._agent = agent
        self._answers = bytearray(agent.greet())

    def read(self, limit: int, deadline: Deadline) -> bytes:
        """See `Channel.read`."""
        if not self._answers and not self._agent.is_over:
            raise TimeoutError  # nothing was asked: nothing will come
        data = bytes(self._answers[:limit])
        del self._answers[:limit]
        return data

    def write(self, data: bytes, deadline: Deadline) -> None:
        """See `Channel.write`."""
        if self._agent.is_over:
            raise TransportError("it has ended")
        self._answers += self._agent.take(data)

    def stderr_tail(self) -> str:
        """See `Channel.stderr_tail`."""
        return ""

    def close(self, wait_s: float, *, kill: bool) -> int | None:
        """See `Channel.close`."""
        self._agent.is_over = True
        return 0


class ReplayTransport:
    """The way to a recording. See `Transport`.

    Args:
        name: of the device.
        recording: that answers.
        faults: what is to go wrong; share one among the transports of a device. Nothing by default.
    """

    python = "python3"

    def __init__(self, name: str, recording: Recording, faults: Faults | None = None) -> None:
        self.name = name
        self._recording = recording
        self._faults = faults if faults is not None else Faults()
        self._sizes: dict[str, int] = {}

    def start(self, argv: Sequence[str]) -> ReplayChannel:
        """See `Transport.start`; the agent is all that a recording can start."""
        if "serve" not in argv:
            raise TransportError(f"{self.name} replays the recording {self._recording.name}: no program runs there")
        return ReplayChannel(ReplayAgent(self._recording, tuple(argv), self._faults))

    def put(self, data: bytes, remote_path: str) -> None:
        """See `Transport.put`; nothing is kept."""
        self._sizes[remote_path] = len(data)

    def size(self, remote_path: str) -> int | None:
        """See `Transport.size`."""
        return self._sizes.get(remote_path)

    def free_bytes(self, remote_path: str) -> int | None:
        """See `Transport.free_bytes`."""
        return None

    def close(self) -> None:
        """See `Transport.close`."""

    def default_root(self) -> str:
        """See `Transport.default_root`; a path that nothing is ever written to."""
        return "/replay"
