"""Feeds spoiled frames to either end: `python -m tests.agent.hostile_fuzz agent|host SEED CASES FOLDER`.

A process of its own, so that its memory is its own. It prints what came of the cases as JSON, and ends with a traceback
and the case in hexadecimal when an end of the protocol did anything but answer.
"""

from __future__ import annotations

import errno
import json
import os
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hwloop.devices import AgentSession, Deadline, LocalTransport, build_zipapp
from hwloop.devices.hello import Hello
from hwloop.devices.link import Link
from hwloop.errors import DeviceError
from hwloop.measurement import pool
from hwloop_agent import protocol, supervisor
from hwloop_agent.journal import Journal
from hwloop_agent.supervisor import Options, Supervisor
from tests.agent.hostile_frames import Hostile
from tests.timing import QUICK

Json = dict[str, Any]

NONCE = "0123456789abcdef"
FRAME_CODES = {"oversize", "utf8", "json", "number", "duplicate", "depth", "text", "envelope", "version", "type"}
REFUSALS = {"hello_first", "nonce", "proto", "busy", "bad_request", "no_artifact", "no_trial", "os"}
BATCH = 16
SESSION_CASES = 2048
TIMING = {**QUICK, "max_s": 0.05, "max_blocks": 6}
SPEC: Json = {
    "artifact": None,
    "runtime": "null",
    "options": {},
    "inputs": [],
    "threads": 1,
    "timing": TIMING,
    "replicate": 0,
}
INPUT = {"name": "x", "shape": [1, 3], "dtype": "float32", "distribution": "normal", "seed": 0}
ARTIFACT = {"sha256": "a" * 64, "suffix": ".onnx", "size": 5}


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


class Workerless(Supervisor):
    """The supervisor of a device that cannot start one process more: a valid trial costs microseconds here."""

    def _spawn(self, request: Json, deadline_s: float) -> Any:
        raise OSError(errno.EAGAIN, "no more processes")


class AgentEnd:
    """The agent's reader and handlers, fed with what a host might send."""

    def __init__(self, seed: int, folder: Path) -> None:
        supervisor.MAX_BAD_FRAMES = sys.maxsize  # the limit has a test of its own
        self._archive = folder / "agent.pyz"
        self._archive.write_bytes(build_zipapp())
        self._root = folder / "root"
        session = self._root / "sessions" / "fuzz"
        session.mkdir(parents=True)
        with Journal.open(session / "journal.ndjson", sync=False) as journal:
            for number in range(3):
                journal.append({"trial_id": f"{number:064x}:1", "status": "ok"})
        whole = {**SPEC, "runtime": "onnxruntime", "artifact": ARTIFACT, "inputs": [INPUT]}
        trials = [{"trial_id": protocol.trial_id(one), "spec": one, "deadline_s": 5} for one in (SPEC, whole)]
        known = {"trial_id": f"{1:064x}:1", "spec": SPEC, "deadline_s": 5}
        hello = {"proto": [1], "nonce": NONCE, "who": "fuzz", "host": "here"}
        self.hostile = Hostile(
            seed,
            [
                ("hello", hello),
                *(("trial.run", body) for body in (*trials, *trials, known)),
                ("verify", {"sha256": "a" * 64, "suffix": ".onnx"}),
                ("trial.cancel", {"trial_id": trials[0]["trial_id"]}),
                ("journal.read", {"after_seq": 0, "limit": 10}),
                ("journal.ack", {"seq": 1}),
                ("canary", {}),
            ],
        )
        self._hello = protocol.encode(protocol.Message(1, 1, "hello", hello))
        self._out, self._out_write = os.pipe()
        os.set_blocking(self._out_write, False)
        os.set_blocking(self._out, False)
        self._agent: Workerless | None = None
        self._seq = 0
        self._left = 0

    def _open(self) -> Workerless:
        if self._agent is not None:
            self._agent._shut_down()
            os.set_blocking(self._out_write, False)
        options = Options(str(self._archive), str(self._root), "fuzz", NONCE, sys.executable)
        agent = Workerless(options, self._out_write, self._out_write)
        agent._on_input(self._hello)
        assert self._answers(agent)[0].type == "hello"
        self._seq, self._left = 1, SESSION_CASES
        return agent

    def _answers(self, agent: Workerless) -> list[protocol.Message]:
        data = b""
        while True:
            agent._out.flush()
            try:
                data += os.read(self._out, 1 << 20)
            except BlockingIOError:
                return [protocol.decode(line, protocol.AGENT_TYPES) for line in data.splitlines()]

    def step(self, outcomes: Counter[str]) -> bytes:
        """Feed a batch; every line of it is answered. Returns what was fed."""
        if self._agent is None or self._left <= 0 or self._agent._closing or self._agent._last_seq > 1 << 40:
            self._agent = self._open()
        agent = self._agent
        lines = []
        for _ in range(BATCH):
            self._seq += 1
            lines.append(self.hostile.frame(self._seq, self._seq))
        self._left -= BATCH
        data = b"\n".join(lines) + b"\n"
        self.fed = data
        for piece in self.hostile.pieces(data):
            agent._on_input(piece)
            assert agent._lines.held_bytes < protocol.MAX_LINE_BYTES
        answers = self._answers(agent)
        expected = data.count(b"\n")
        assert len(answers) >= expected or agent._closing, f"{expected} lines, {len(answers)} answers"
        for answer in answers:
            code = answer.body["code"] if answer.type == "error" else answer.type
            assert answer.type != "error" or code in FRAME_CODES | REFUSALS, answer
            outcomes[code] += 1
        return data

    def close(self) -> None:
        if self._agent is not None:
            self._agent._shut_down()


class Told:
    """A channel that delivers what it was given, in the pieces it was given."""

    def __init__(self, pieces: list[bytes]) -> None:
        self._pieces = [piece for piece in pieces if piece][::-1]

    def read(self, limit: int, deadline: Deadline) -> bytes:
        return self._pieces.pop() if self._pieces else b""

    def write(self, data: bytes, deadline: Deadline) -> None:
        pass

    def stderr_tail(self) -> str:
        return ""

    def close(self, wait_s: float, *, kill: bool) -> int | None:
        return 0


class Tee:
    """A transport of this machine that keeps the lines its agent said."""

    def __init__(self) -> None:
        self.said = b""

    def open(self, folder: Path) -> AgentSession:
        transport = LocalTransport()
        start = transport.start

        def listen(argv):
            channel = start(argv)
            read = channel.read

            def reading(limit, deadline):
                data = read(limit, deadline)
                self.said += data
                return data

            channel.read = reading
            return channel

        transport.start = listen
        return AgentSession.open(transport, session_id="tee", root=folder / "root")


def real_answers(folder: Path) -> tuple[list[tuple[str, Json]], Json]:
    """What a real agent answers, message by message, and its hello."""
    tee = Tee()
    with tee.open(folder) as session:
        session.run_trial(protocol.trial_id(SPEC), SPEC)
        session.finished()
        session.canary()
        session.facts()
        session._ask("verify", {"sha256": "a" * 64, "suffix": ".onnx"}, "verified")
        session.acknowledge(1)
    lines = tee.said.split(b"\n")[1:-1]
    messages = [protocol.decode(line, protocol.AGENT_TYPES) for line in lines]
    found = {message.type: message.body for message in messages if message.type != "heartbeat"}
    # Spoiled as well in short, and four times as fast.
    found["facts"] = {key: found["facts"][key] for key in ("model", "python", "cpus", "memory_bytes", "runtimes")}
    found["error"] = {"code": "busy", "message": "one thing at a time: measuring"}
    found["trial.failed"] = {"trial_id": protocol.trial_id(SPEC), "family": "agent", "reason": "no worker"}
    found["heartbeat"] = {"phase": "idle", "rss_kb": 9000}
    found["log"] = {"level": "error", "message": "disk full"}
    return list(found.items()), found["hello"]


def read_hello(link: Link) -> Hello:
    return Hello.from_json(link.request("hello", {}, {"hello"}, Deadline(60)).body)


class HostEnd:
    """The host's link and session, told what an agent might say."""

    def __init__(self, seed: int, folder: Path) -> None:
        messages, hello = real_answers(folder)
        self.hostile = Hostile(seed, messages)
        self._hello = Hello.from_json(hello)
        self._trial_id = protocol.trial_id(SPEC)
        question = {"sha256": "a" * 64, "suffix": ".onnx"}
        self._asked: list[tuple[str, Callable[[AgentSession], object]]] = [
            ("trial.result", lambda session: session.run_trial(self._trial_id, SPEC)),
            ("journal.batch", lambda session: session.finished()),
            ("canary", lambda session: session.canary()),
            ("facts", lambda session: session.facts()),
            ("journal.acked", lambda session: session.acknowledge(1)),
            ("verified", lambda session: session._is_there(question, 60)),
            ("hello", lambda session: read_hello(session._link)),
            ("trial.result", lambda session: session.run_trial(self._trial_id, SPEC)),
        ]
        self._turn = 0

    def step(self, outcomes: Counter[str]) -> bytes:
        """Ask something, be told a spoiled answer. Returns what was told."""
        self._turn += 1
        name, ask = self._asked[self._turn % len(self._asked)]
        # Whatever comes before the answer is passed over or ends the link; a spoiled frame is what is asked for.
        before = [b'{"body":{},"id":0,"seq":1,"type":"heartbeat","v":1}'] if self._turn % 4 == 0 else []
        data = b"\n".join([*before, self.hostile.frame(1, 1 + len(before), name)]) + b"\n"
        self.fed = data
        ready = protocol.READY_PREFIX + NONCE.encode() + b"\n"
        link = Link(Told([ready, *self.hostile.pieces(data)]), "board")
        link.await_ready(NONCE, Deadline(60))
        session = AgentSession(None, link, self._hello)  # type: ignore[arg-type]
        try:
            found = ask(session)
        except DeviceError as error:
            text, kind = str(error), type(error).__name__
        else:
            text, kind = "", name
        assert text.isprintable(), text
        outcomes[kind] += 1
        if text:
            return data
        if name in ("trial.result", "journal.batch"):
            # What passes as a record can be stored and pooled.
            records = [found] if isinstance(found, dict) else found
            for record in records:
                protocol.canonical_json(record)
                pool("fuzzed", [record])
        elif name != "hello":
            json.dumps(found, allow_nan=False)
        return data

    def close(self) -> None:
        pass


def main(argv: list[str]) -> None:
    """Run the cases; print `{"cases", "outcomes", "grown_bytes"}`."""
    end, seed, cases, folder = argv[0], int(argv[1]), int(argv[2]), Path(argv[3])
    fuzzed: Any = (AgentEnd if end == "agent" else HostEnd)(seed, folder)
    outcomes: Counter[str] = Counter()
    done = highest = 0
    base = 0
    try:
        while done < cases:
            fuzzed.step(outcomes)
            done += BATCH if end == "agent" else 1
            if done % 512 == 0:
                now = resident_bytes()
                base = base or now
                highest = max(highest, now)
    except BaseException:
        sys.stderr.write(f"after {done} cases of seed {seed}: {fuzzed.fed[:20000].hex()}\n")
        raise
    finally:
        fuzzed.close()
    print(json.dumps({"cases": done, "outcomes": dict(outcomes), "grown_bytes": highest - base}))


if __name__ == "__main__":
    main(sys.argv[1:])
