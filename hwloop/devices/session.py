"""A conversation with the agent of one device: open it, run trials, resume, close. Every step has a deadline."""

from __future__ import annotations

import getpass
import posixpath
import secrets
import socket
import time
from collections.abc import Callable, Mapping
from hashlib import sha256 as sha256_of
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from hwloop.devices import answers
from hwloop.devices.agentfile import place_agent
from hwloop.devices.deadline import Deadline
from hwloop.devices.hello import Hello, InFlight
from hwloop.devices.link import Link
from hwloop.devices.transports import Transport
from hwloop.errors import AgentError, AgentMismatchError, DeviceBusyError, ProtocolError
from hwloop_agent import protocol

Json = dict[str, Any]

READY_S = 20.0
REQUEST_S = 10.0
FACTS_S = 300.0
CANARY_S = 30.0
CLOSE_S = 5.0
ABANDON_S = 0.5
LEASE_POLL_S = (0.2, 0.5, 1.0, 2.0)
LEASE_SAY_EVERY_S = 15.0
# Importing a runtime from a cold SD card takes this long at worst; the agent gives up on an import then.
IMPORT_S = 60.0
# A network that is compiled on the device, one kernel after the other, each by a C++ compiler.
COMPILE_S = 480.0
TRIAL_SLACK_S = 15.0
WARMUP_CAP_FACTOR = 4
# Storing a file may take this long, by its size over a bad wireless link: the agent is told to wait for us.
SLOWEST_BYTES_PER_S = 50_000


def trial_deadline_s(spec: Mapping[str, Any]) -> float:
    """Return how long a trial of `spec` may take before the agent ends it.

    Five times the time that its warm-up and its timed part may take, at least 30 s, plus a slow import, plus the time
    to compile it where the device does; at most 600 s.
    """
    timing = spec["timing"]
    expected = WARMUP_CAP_FACTOR * float(timing["warmup_s"]) + 1 + float(timing["max_s"])
    compile_s = COMPILE_S if spec.get("options", {}).get("mode") == "compiled" else 0.0
    return min(max(30.0, 5 * expected) + IMPORT_S + compile_s, protocol.MAX_TRIAL_S)


class AgentSession:
    """An open session; a context manager. One thing at a time: it belongs to one thread.

    After any `TransportError` or `ProtocolError` the session is over. Open a new one with the same `session_id`: the
    agent finishes and journals the trial that was running, and `finished` returns it.

    Attributes:
        hello: what the agent said about itself.
        last_seq: the highest number of a record that this session has seen in the device's journal.
        in_flight: the trial that the agent has begun, until its record is here; a lost session keeps it.
    """

    def __init__(self, transport: Transport, link: Link, hello: Hello) -> None:
        """Use `AgentSession.open`."""
        self.hello = hello
        self.last_seq = 0
        self.in_flight: InFlight | None = None
        self._transport = transport
        self._link = link
        self._present: set[str] = set()

    @classmethod
    def open(
        cls,
        transport: Transport,
        *,
        session_id: str,
        root: Path | str | None = None,
        worker_python: str | None = None,
        wait_s: float = 60,
        on_wait: Callable[[str], None] | None = None,
        instance: str = "",
        board: Mapping[str, Any] | None = None,
        fresh: bool = False,
    ) -> Self:
        """Bring the agent to the device if it is not there, start it, and take the device's lease.

        Args:
            transport: the way to the device; the session closes it, also when it cannot be opened.
            session_id: names the session's directory on the device; the same id resumes it.
            root: the agent's directory on the device; None for the transport's own choice. Text is a path of the device
                and absolute, a `Path` is one of this machine.
            worker_python: the device's interpreter that has the runtimes; None for the one that runs the agent.
            wait_s: how long to wait for somebody else's session to end.
            on_wait: told who holds the device, once and then every 15 s, while this waits.
            instance: a random text of the caller's own. An earlier session of the same id and instance that still holds
                the device, because its connection was lost unnoticed there, is asked to finish its trial and leave, and
                is waited for as long as a trial may take.
            board: the board profile that the agent uses instead of the one it recognises itself by (`profiles`).
            fresh: the caller begins anew: the device forgets what it had measured in this session and what was
                acknowledged; records that nobody has confirmed stay.

        Raises:
            DeviceBusyError: somebody else held the device for all of `wait_s`; the text names them.
            AgentMismatchError: what answers is not the agent that was sent, or speaks another protocol.
            TransportError: the agent cannot be brought or started, or its connection broke.
            ProtocolError: what answers is not the agent that was sent.
            AgentError: the agent cannot use its directory.
        """
        if not protocol.SESSION_ID.match(session_id):
            raise ValueError("a session id is up to 64 of A-Z a-z 0-9 . _ -, a letter or digit first")
        asked = _absolute(root) if root is not None else None
        try:
            hello: Json = {"who": _who(), "host": socket.gethostname(), "instance": instance, "fresh": fresh}
            if board is not None:
                hello["board"] = dict(board)
            return cls._open(transport, session_id, asked, worker_python, wait_s, on_wait, hello)
        except BaseException:
            transport.close()
            raise

    @classmethod
    def _open(
        cls,
        transport: Transport,
        session_id: str,
        root: str | None,
        worker_python: str | None,
        wait_s: float,
        on_wait: Callable[[str], None] | None,
        introduction: Json,
    ) -> Self:
        base = root if root is not None else transport.default_root()
        path, digest = place_agent(transport, base)
        nonce = secrets.token_hex(16)
        argv = [transport.python, "-I", "-B", path, "serve", "--root", base, "--session", session_id, "--nonce", nonce]
        if worker_python is not None:
            argv += ["--worker-python", worker_python]
        link = Link(transport.start(argv), transport.name)
        try:
            link.await_ready(nonce, Deadline(READY_S))
            hello = _say_hello(link, {"nonce": nonce, **introduction}, wait_s, on_wait)
            artifacts = posixpath.join(base, "sessions", session_id, "artifacts")
            if posixpath.normpath(hello.artifacts) != posixpath.normpath(artifacts):
                where = link.text(hello.artifacts)
                raise ProtocolError(f"the agent on {transport.name} wants artifacts in {where}, not in {artifacts}")
            if hello.agent_sha256 != digest:
                raise AgentMismatchError(f"the agent on {transport.name} is not the one that was sent: remove {path}")
        except BaseException:
            link.close(ABANDON_S, kill=True)
            raise
        return cls(transport, link, hello)

    def _ask(self, type_: str, body: Json, answer: str, timeout_s: float = REQUEST_S) -> Json:
        return self._link.request(type_, body, {answer}, Deadline(timeout_s)).body

    def facts(self) -> Json:
        """Return what the device is, and whether each runtime can be imported there (each tried in its own process)."""
        return answers.check_facts(self._ask("facts", {}, "facts", FACTS_S))

    def canary(self) -> Json:
        """Return the canary's `median_ns`, `mad_ns` and `n` on the core that a one-thread trial would have."""
        return answers.need(self._ask("canary", {}, "canary", CANARY_S), answers.CANARY, "canary")

    def put_artifact(self, data: bytes, sha256: str, suffix: str) -> None:
        """Store an artifact on the device unless it is there; the agent checks its hash either way.

        Raises:
            ValueError: `sha256` is not the hash of `data`, or the suffix is not known.
            AgentError: what arrived is not what was sent.
        """
        name = protocol.artifact_name(sha256, suffix)
        if name in self._present:
            return
        if sha256_of(data).hexdigest() != sha256:
            raise ValueError("sha256 is not the hash of data")
        question = {"sha256": sha256, "suffix": suffix}
        patience_s = min(REQUEST_S + len(data) / SLOWEST_BYTES_PER_S, protocol.MAX_PATIENCE_S)
        if not self._is_there({**question, "patience_s": patience_s}, REQUEST_S)["ok"]:
            self._transport.put(data, posixpath.join(self.hello.artifacts, name))
            found = self._is_there(question, REQUEST_S + len(data) / 1e6)
            if not found["ok"]:
                raise AgentError(f"artifact {name} did not arrive whole: {self._link.text(found.get('reason'))}")
        self._present.add(name)

    def _is_there(self, question: Json, timeout_s: float) -> Json:
        return answers.need(self._ask("verify", question, "verified", timeout_s), answers.VERIFIED, "verified")

    def run_trial(
        self,
        trial_id: str,
        spec: Json,
        *,
        on_phase: Callable[[str], None] | None = None,
        deadline_s: float | None = None,
    ) -> Json:
        """Run one trial, or fetch its record when the device has finished it before; return the record.

        A trial that crashes, runs out of memory or times out returns a record with that status.

        Args:
            trial_id: `protocol.trial_id(spec, attempt)`.
            spec: see `device_agents/README.md`.
            on_phase: told when the trial enters a phase.
            deadline_s: when the agent ends the trial; None for `trial_deadline_s(spec)`.

        Raises:
            AgentError: the agent refuses the spec, lacks the artifact, or cannot start a worker.
            TransportError: the connection was lost, or was silent for too long.
            ProtocolError: the answer is not a record of this trial.
        """
        limit = trial_deadline_s(spec) if deadline_s is None else deadline_s
        whole = Deadline(limit + protocol.MAX_QUIET_S + TRIAL_SLACK_S)
        request = {"trial_id": trial_id, "spec": spec, "deadline_s": limit}
        # Until it accepts, the agent may be hashing the artifact.
        silence = REQUEST_S + (spec.get("artifact") or {}).get("size", 0) / 1e6
        answers = {"trial.accepted", "trial.phase", "trial.result", "trial.failed"}
        message_id = self._link.send("trial.run", request, whole.at_most(REQUEST_S))
        while True:
            message = self._link.answer(message_id, answers, whole, silence)
            if message.type == "trial.accepted":
                self.in_flight = InFlight(trial_id, self.hello.boot_id, self.hello.pid)
                silence = protocol.MAX_QUIET_S + protocol.HEARTBEAT_S + TRIAL_SLACK_S
            elif message.type == "trial.phase":
                phase = self._link.text(message.body.get("phase"))
                self.in_flight = InFlight(trial_id, self.hello.boot_id, self.hello.pid, phase)
                if on_phase is not None:
                    on_phase(phase)
            elif message.type == "trial.failed":
                self.in_flight = None
                raise AgentError(f"the trial could not be run: {self._link.text(message.body.get('reason'))}")
            elif message.type == "trial.result":
                return self._record(message.body, trial_id)

    def _record(self, body: Json, trial_id: str) -> Json:
        record = body.get("record")
        if not isinstance(record, dict) or record.get("trial_id") != trial_id:
            raise ProtocolError("the agent answered with the record of another trial")
        if record.get("status") not in protocol.STATUSES:
            raise ProtocolError(f"the agent answered with the status {self._link.text(record.get('status'))}")
        checked = answers.check_record(record)
        self.in_flight = None
        if isinstance(body.get("seq"), int):
            self.last_seq = max(self.last_seq, body["seq"])
        return checked

    def finished(self, after_seq: int = 0) -> list[Json]:
        """Return this session's records in the device's journal after `after_seq`, oldest first; sets `last_seq`."""
        records: list[Json] = []
        position = after_seq
        while True:
            batch = self._ask("journal.read", {"after_seq": position, "limit": 1000}, "journal.batch")
            entries = batch.get("records")
            if not isinstance(entries, list):
                raise ProtocolError("the agent's journal batch has no records")
            for entry in entries:
                if not isinstance(entry, dict) or not isinstance(entry.get("seq"), int) or entry["seq"] <= position:
                    raise ProtocolError("the agent's journal batch is out of order")
                if not isinstance(entry.get("rec"), dict):
                    raise ProtocolError("the agent's journal batch has an entry without a record")
                position = entry["seq"]
            records += [answers.check_record(entry["rec"]) for entry in entries]
            self.last_seq = max(self.last_seq, position)
            if not batch.get("more") or not entries:
                return records

    def acknowledge(self, seq: int) -> None:
        """Tell the device that the records up to `seq` are safe here; it may then forget them."""
        self._ask("journal.ack", {"seq": seq}, "journal.acked")

    def close(self) -> None:
        """End the session in order. An agent that is still busy is left to finish, journal and leave by itself.

        The session owns its transport: this closes that too.
        """
        try:
            idle = self._link.say_goodbye(Deadline(CLOSE_S))
            self._link.close(CLOSE_S, kill=idle)
        finally:
            self._transport.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


def _absolute(root: Path | str) -> str:
    path = str(root.absolute()) if isinstance(root, Path) else root
    if not posixpath.isabs(path):
        raise ValueError(f"the agent's directory {path!r} is not an absolute path")
    return path


def _who() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # no name for this user id: some containers
        return "unknown user"


def _say_hello(link: Link, introduction: Json, wait_s: float, on_wait: Callable[[str], None] | None) -> Hello:
    body: Json = {"proto": [protocol.PROTOCOL_VERSION], **introduction}
    whole = Deadline(wait_s)
    until_gone = Deadline(max(wait_s, protocol.MAX_TRIAL_S))
    pauses = list(LEASE_POLL_S)
    say_again: Deadline | None = None
    while True:
        try:
            return Hello.from_json(link.request("hello", body, {"hello"}, Deadline(REQUEST_S)).body)
        except DeviceBusyError as busy:
            limit = until_gone if busy.leaving else whole
            if limit.expired:
                raise DeviceBusyError(f"{busy}; gave up after {limit.seconds:g} s") from None
            if on_wait is not None and (say_again is None or say_again.expired):
                on_wait(f"{busy}; it finishes its trial and leaves" if busy.leaving else str(busy))
                say_again = Deadline(LEASE_SAY_EVERY_S)
            pause_s = min(pauses[0], limit.remaining)
        time.sleep(pause_s)
        if len(pauses) > 1:
            pauses.pop(0)
