"""An agent that measures nothing: it speaks the protocol and answers from a recording.

It is what stands at the far end of a `ReplayTransport`: lines go in, lines come out. It keeps no journal (its records
have number 0, as on a device whose disk is full): what it was asked once it answers again, and the same.
"""

from __future__ import annotations

import hashlib
import os
import posixpath
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from hwloop.devices.replay.recording import Recording
from hwloop_agent import protocol
from hwloop_agent.protocol import FrameError, LineReader, Message

Json = dict[str, Any]


@dataclass
class Faults:
    """What is to go wrong, counted over all sessions of a device.

    Attributes:
        lose_at: numbers of the trials, from 1, in which the connection breaks.
        trial_s: how long a trial takes.
        sleep: waits.
        trials: begun so far.
    """

    lose_at: frozenset[int] = frozenset()
    trial_s: float = 0.0
    sleep: Callable[[float], None] = time.sleep
    trials: int = 0


@dataclass
class ReplayAgent:
    """One agent's life.

    Attributes:
        recording: answers the trials.
        argv: that it was started with (`AgentSession.open`).
        faults: what goes wrong.
        is_over: it has left, or its connection broke.
    """

    recording: Recording
    argv: Sequence[str]
    faults: Faults
    is_over: bool = False
    _reader: LineReader = field(default_factory=LineReader)
    _sent: int = 0

    def greet(self) -> bytes:
        """Return what it says before it is asked."""
        return protocol.READY_PREFIX + self._option("--nonce").encode() + b"\n"

    def take(self, data: bytes) -> bytes:
        """Return the answers to what has arrived."""
        answers = b""
        for line in self._reader.feed(data):
            if self.is_over:
                break
            sent = self._sent
            try:
                if isinstance(line, FrameError):
                    raise line
                message = protocol.decode(line, protocol.HOST_TYPES)
                answers += b"".join([self._say(message.id, type_, body) for type_, body in self._answer(message)])
            except FrameError as error:  # also of a record that its mark makes too long for a line
                self._sent = sent
                answers += self._say(error.message_id, "error", {"code": error.code, "message": str(error)})
        return answers

    def _option(self, name: str) -> str:
        return self.argv[list(self.argv).index(name) + 1]

    def _say(self, message_id: int, type_: str, body: Json) -> bytes:
        self._sent += 1
        return protocol.encode(Message(message_id, self._sent, type_, body))

    def _answer(self, message: Message) -> list[tuple[str, Json]]:
        body = message.body
        if message.type == "hello":
            return [("hello", self._hello())]
        if message.type == "facts":
            return [("facts", {**self.recording.facts, "replayed": self.recording.name})]
        if message.type == "verify":  # what is in a recording needs no artifact
            return [("verified", {"ok": True, "size": 0, "reason": ""})]
        if message.type == "canary":
            return [("canary", {"median_ns": 100_000.0, "mad_ns": 0.0, "pace_ns": 100_000.0, "n": 1})]
        if message.type == "trial.run":
            return self._run(body)
        if message.type == "journal.read":
            return [("journal.batch", {"records": [], "last_seq": 0, "more": False, "cut_bytes": 0})]
        if message.type == "journal.ack":
            return [("journal.acked", {"seq": body["seq"]})]
        if message.type == "bye":
            self.is_over = True
            return [("bye", {})]
        if message.type == "ping":
            return []
        return [("error", {"code": "bad_request", "message": f"a recording cannot do {message.type}"})]

    def _hello(self) -> Json:
        root, session = self._option("--root"), self._option("--session")
        boot_id = hashlib.sha256(self.recording.name.encode()).hexdigest()[:32]
        return {
            "proto": protocol.PROTOCOL_VERSION,
            "version": "replay",
            "agent_sha256": posixpath.basename(posixpath.dirname(self.argv[3])),
            "python": "",
            "worker_python": "",
            "pid": os.getpid(),
            "boot_id": boot_id,
            "mono_ns": time.monotonic_ns(),
            "session": session,
            "artifacts": posixpath.join(root, "sessions", session, "artifacts"),
            "cpus": [0],
            "interrupted": None,
            "installed": dict(self.recording.installed),
            "journal": {"last_seq": 0, "cut_bytes": 0},
        }

    def _run(self, body: Mapping[str, Any]) -> list[tuple[str, Json]]:
        trial_id, spec = str(body["trial_id"]), dict(body["spec"])
        self.faults.trials += 1
        if self.faults.trial_s:
            self.faults.sleep(self.faults.trial_s)
        if self.faults.trials in self.faults.lose_at:
            self.is_over = True
            return [("trial.accepted", {"trial_id": trial_id, "quiet_s": 0})]
        record = self.recording.answer(trial_id, spec)
        return [
            ("trial.accepted", {"trial_id": trial_id, "quiet_s": 0}),
            ("trial.result", {"seq": 0, "record": record, "stored": False}),
        ]
