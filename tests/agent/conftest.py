"""A real agent over raw pipes, and a check that no test leaves files or processes behind."""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from hwloop.devices import build_zipapp
from hwloop_agent import protocol
from tests.leaks import nothing_left

NONCE = "0123456789abcdef"


@pytest.fixture(autouse=True)
def no_leaks() -> Iterator[None]:
    """Fails a test that leaves a file descriptor or a child process behind."""
    with nothing_left():
        yield


class RawAgent:
    """The agent's process and its pipes, spoken to byte by byte."""

    def __init__(self, archive: Path, root: Path, session: str, extra: list[str]) -> None:
        argv = [sys.executable, "-I", "-B", str(archive), "serve"]
        argv += ["--root", str(root), "--session", session, "--nonce", NONCE, *extra]
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(argv, stdin=pipe, stdout=pipe, stderr=pipe, bufsize=0)
        self.pid = self.process.pid
        self.seq = 0
        self._held = b""
        assert self.line() == b"HWLOOP1 READY " + NONCE.encode()

    def write(self, data: bytes) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(data)

    def line(self, timeout_s: float = 30.0) -> bytes:
        """The next line of stdout; fails when none comes."""
        assert self.process.stdout is not None
        until = time.monotonic() + timeout_s
        while b"\n" not in self._held:
            ready = select.select([self.process.stdout], [], [], max(until - time.monotonic(), 0))[0]
            assert ready, f"the agent said nothing for {timeout_s} s"
            data = os.read(self.process.stdout.fileno(), 65536)
            if not data:
                raise EOFError
            self._held += data
        line, _, self._held = self._held.partition(b"\n")
        return line

    def receive(self) -> dict[str, Any]:
        """The next message that is neither heartbeat nor log."""
        while True:
            message: dict[str, Any] = json.loads(self.line())
            assert protocol.decode(protocol.canonical_json(message), protocol.AGENT_TYPES)
            if message["type"] not in ("heartbeat", "log"):
                return message

    def send(self, type_: str, body: dict[str, Any], id_: int = 1) -> None:
        self.seq += 1
        self.write(protocol.encode(protocol.Message(id_, self.seq, type_, body)))

    def ask(self, type_: str, body: dict[str, Any], id_: int = 1) -> dict[str, Any]:
        self.send(type_, body, id_)
        return self.receive()

    def hello(self) -> dict[str, Any]:
        return self.ask("hello", {"proto": [1], "nonce": NONCE, "who": "tester", "host": "here"})

    def run(self, spec: dict[str, Any], id_: int = 5, deadline_s: float = 30) -> dict[str, Any]:
        """Run a trial to its end; the last message."""
        body = {"trial_id": protocol.trial_id(spec), "spec": spec, "deadline_s": deadline_s}
        message = self.ask("trial.run", body, id_)
        while message["type"] in ("trial.accepted", "trial.phase"):
            message = self.receive()
        return message

    def wait_for_phase(self, phase: str) -> None:
        while True:
            message = self.receive()
            if message["type"] == "trial.phase" and message["body"]["phase"] == phase:
                return

    def end(self) -> int:
        """End its input; its exit code."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        return self.process.wait(30)

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        for stream in (self.process.stdin, self.process.stdout, self.process.stderr):
            if stream is not None:
                stream.close()

    def stderr(self) -> str:
        assert self.process.stderr is not None
        return self.process.stderr.read().decode()


@pytest.fixture(scope="session")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("agent") / "agent.pyz"
    path.write_bytes(build_zipapp())
    return path


@pytest.fixture
def start_agent(archive: Path, tmp_path: Path, no_leaks: None) -> Iterator[Callable[..., RawAgent]]:
    """Starts agents that share one root; ends them all."""
    started: list[RawAgent] = []

    def start(session: str = "s1", extra: list[str] | None = None) -> RawAgent:
        agent = RawAgent(archive, tmp_path / "root", session, extra or [])
        started.append(agent)
        return agent

    yield start
    for agent in started:
        agent.close()


@pytest.fixture
def agent(start_agent: Callable[..., RawAgent]) -> RawAgent:
    """One agent that holds the device."""
    raw = start_agent()
    assert raw.hello()["type"] == "hello"
    return raw
