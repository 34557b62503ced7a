"""The agent's main process: reads requests, runs one worker at a time, journals what comes of it, answers.

No runtime is ever imported here. When its stdin ends it finishes the running trial, journals it and leaves; how it
waits is `eventloop`'s.
"""

from __future__ import annotations

import os
import sys
import time
from typing import Callable, Dict, List, NamedTuple, Optional, Union

from hwloop_agent import VERSION, protocol
from hwloop_agent.cleaning import clean_up
from hwloop_agent.digest import hex_digest_of
from hwloop_agent.emulation import read_processor
from hwloop_agent.eventloop import EXIT_TERMINATED, EventLoop
from hwloop_agent.installed import installed_versions
from hwloop_agent.jobs import CanaryJob, FactsJob, Machine, TrialJob, label_of
from hwloop_agent.lease import Lease, LeaseHeldError, ask_to_leave, describe_owner, is_predecessor
from hwloop_agent.pacebook import PaceBook
from hwloop_agent.protocol import FrameError, Json, Message, clean_text
from hwloop_agent.runtimes import WITHOUT_ARTIFACT
from hwloop_agent.sensors.board import Sensors
from hwloop_agent.sensors.gate import ThermalBook
from hwloop_agent.sensors.profile import built_in, parse_profile, recognise
from hwloop_agent.sensors.tuning import TuningError, recover
from hwloop_agent.sessionstore import SessionStore
from hwloop_agent.spec import MAX_SPEC_BYTES, SpecError, check_spec
from hwloop_agent.sysfiles import SysFiles, read_text
from hwloop_agent.trialrecord import Start, build_record
from hwloop_agent.workerprocess import CANCELLED, WorkerProcess

MAX_BAD_FRAMES = 64
EXIT_PROTOCOL = 4


class RefusalError(Exception):
    """A request that is answered with `error`; `code` is for programs, the text for people."""

    def __init__(self, code: str, text: str, **more: object) -> None:
        super().__init__(text)
        self.code = code
        self.more = more


class Options(NamedTuple):
    """How the agent was started."""

    archive: str
    root: str
    session: str
    nonce: str
    worker_python: str


def _trial_id_in(body: Json) -> str:
    trial_id = body.get("trial_id")
    if not isinstance(trial_id, str) or not protocol.TRIAL_ID.match(trial_id):
        raise RefusalError("bad_request", "trial_id is 64 hex digits, a colon and an attempt")
    return trial_id


def _count_in(body: Json, key: str, highest: int = 1 << 63) -> int:
    value = body.get(key)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= highest:
        raise RefusalError("bad_request", f"{key} is a whole number from 0 to {highest}")
    return value


class Supervisor(EventLoop):
    """One session of the agent."""

    def __init__(
        self,
        options: Options,
        stdin: int,
        stdout: int,
        files: Optional[SysFiles] = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._options = options
        super().__init__(stdin, stdout, files if files is not None else SysFiles(), clock)
        self._allowed: List[int] = sorted(os.sched_getaffinity(0))
        self._lease: Optional[Lease] = None
        self._store: Optional[SessionStore] = None
        self._bad_frames = 0
        self._last_seq = 0
        self._installed = installed_versions(options.worker_python)
        self._emulated = bool(read_processor(self._files)["emulated"])
        self._boot_id = read_text(self._files.proc("sys/kernel/random/boot_id"))
        book = PaceBook(os.path.join(options.root, "pace.json"), self._boot_id, options.worker_python)
        sensors = Sensors(self._files, recognise(self._files, built_in()))
        thermal = ThermalBook(os.path.join(options.root, "thermal.json"), self._boot_id)
        self._machine = Machine(sensors, self._allowed, self._spawn, book, thermal)
        self._handlers: Dict[str, Callable[[Message], None]] = {
            "hello": self._on_hello,
            "facts": self._on_facts,
            "verify": self._on_verify,
            "trial.run": self._on_trial_run,
            "trial.cancel": self._on_trial_cancel,
            "journal.read": self._on_journal_read,
            "journal.ack": self._on_journal_ack,
            "canary": self._on_canary,
            "ping": lambda _: None,  # that it came is all it says
            "bye": self._on_bye,
        }

    def _release(self) -> None:
        if self._store is not None:
            if self._exit_code == EXIT_TERMINATED:
                self._store.end()  # told to stop: that says nothing about the trial
            self._store.close()
        if self._lease is not None:
            self._lease.release()

    def _on_line(self, line: Union[bytes, FrameError]) -> None:
        message_id = 0
        try:
            if isinstance(line, FrameError):
                raise line
            message = protocol.decode(line, protocol.HOST_TYPES)
            message_id = message.id
            if message.seq <= self._last_seq:
                raise FrameError("envelope", f"seq {message.seq} after {self._last_seq}", message_id)
            self._last_seq = message.seq
            self._handlers[message.type](message)
        except FrameError as error:
            self._bad_frames += 1
            self._out.send("error", {"code": error.code, "message": str(error)[:500]}, error.message_id or message_id)
            if self._bad_frames >= MAX_BAD_FRAMES:
                self._exit_code = EXIT_PROTOCOL
                self._on_end_of_input()
        except RefusalError as refusal:
            body: Json = {"code": refusal.code, "message": str(refusal)[:2000]}
            body.update(refusal.more)
            self._out.send("error", body, message_id)
        except OSError as error:
            self._out.send("error", {"code": "os", "message": str(error)[:2000]}, message_id)

    def _open_store(self) -> SessionStore:
        if self._store is None:
            raise RefusalError("hello_first", "say hello first: this session does not hold the device")
        return self._store

    def _need_idle(self) -> None:
        if self._job is not None:
            raise RefusalError("busy", f"one thing at a time: {self._job.worker.phase}")

    def _on_hello(self, message: Message) -> None:
        body = message.body
        if body.get("nonce") != self._options.nonce:
            raise RefusalError("nonce", "this is not the agent that you started")
        offered = body.get("proto")
        if not isinstance(offered, list) or protocol.PROTOCOL_VERSION not in offered:
            raise RefusalError("proto", f"this agent speaks protocol {protocol.PROTOCOL_VERSION}")
        if body.get("board") is not None:
            try:
                own = Sensors(self._files, parse_profile(body["board"]))
            except ValueError as error:
                raise RefusalError("bad_request", f"the board's {error}") from None
            self._machine = self._machine._replace(sensors=own)
        if self._store is None:
            owner = {name: clean_text(str(body.get(name, "?")), 80) for name in ("who", "host")}
            owner.update(pid=str(os.getpid()), since=label_of(time.time()), session=self._options.session)
            owner["instance"] = clean_text(str(body.get("instance") or ""), 80)
            self._open_session(owner, body.get("fresh") is True)
        store = self._open_store()
        reply = {
            "proto": protocol.PROTOCOL_VERSION,
            "version": VERSION,
            "agent_sha256": self._own_digest(),
            "python": "{}.{}.{}".format(*sys.version_info[:3]),
            "worker_python": self._options.worker_python,
            "pid": os.getpid(),
            "boot_id": self._boot_id,
            "mono_ns": time.monotonic_ns(),
            "session": self._options.session,
            "artifacts": store.artifacts,
            "cpus": self._allowed,
            "interrupted": store.interrupted,
            "installed": self._installed,
            "journal": {"last_seq": store.journal.last_seq, "cut_bytes": store.journal.cut_bytes},
        }
        self._out.send("hello", reply, message.id)

    def _open_session(self, owner: Json, fresh: bool) -> None:
        root = self._options.root
        os.makedirs(root, mode=0o700, exist_ok=True)  # it may be the user's own directory: what exists stays as it is
        try:
            lease = Lease.take(os.path.join(root, "lease"), owner)
        except LeaseHeldError as held:
            is_own = is_predecessor(held.owner, owner)
            if is_own:
                ask_to_leave(held.owner)
            known = {name: held.owner[name] for name in held.owner if name != "instance"}
            raise RefusalError("lease", describe_owner(held.owner), owner=known, leaving=is_own) from None
        try:
            self._store = SessionStore(root, self._options.session)
            if fresh:
                self._store.forget_acknowledged()
        except BaseException:
            lease.release()
            raise
        self._lease = lease
        self._untune()
        clean_up(os.path.join(root, "sessions"), self._options.session, time.time(), self._clock)

    def _untune(self) -> None:
        """Put back a governor that a `tune` which died has left; a person asked for it, so a person is told."""
        try:
            changes = recover(self._options.root, self._files, self._boot_id)
        except (TuningError, OSError) as error:
            self._out.send("log", {"level": "error", "message": clean_text(f"the board is still tuned: {error}", 2000)})
        else:
            for change in changes:
                text = "{file} was left tuned and is {after} again".format(**change)
                self._out.send("log", {"level": "info", "message": text})

    def _own_digest(self) -> str:
        descriptor = os.open(self._options.archive, os.O_RDONLY | os.O_CLOEXEC)
        try:
            return hex_digest_of(descriptor)
        finally:
            os.close(descriptor)

    def _on_verify(self, message: Message) -> None:
        store = self._open_store()
        sha256, suffix = str(message.body.get("sha256")), str(message.body.get("suffix"))
        try:
            name = protocol.artifact_name(sha256, suffix)
        except ValueError as error:
            raise RefusalError("bad_request", str(error)) from None
        patience_s = message.body.get("patience_s")
        if isinstance(patience_s, (int, float)) and 0 < patience_s <= protocol.MAX_PATIENCE_S:
            self._expect_word(patience_s)
        self._out.send("verified", store.verify(name, sha256), message.id)

    def _on_trial_run(self, message: Message) -> None:
        store = self._open_store()
        trial_id = _trial_id_in(message.body)
        spec: Json = message.body["spec"] if isinstance(message.body.get("spec"), dict) else {}
        deadline_s = message.body.get("deadline_s")
        if isinstance(deadline_s, bool) or not isinstance(deadline_s, (int, float)):
            deadline_s = 0.0
        if not 1 <= deadline_s <= protocol.MAX_TRIAL_S:
            raise RefusalError("bad_request", f"deadline_s is between 1 and {protocol.MAX_TRIAL_S:g}")
        if len(protocol.canonical_json(spec)) > MAX_SPEC_BYTES:
            raise RefusalError("bad_request", f"a spec has at most {MAX_SPEC_BYTES} bytes")
        if protocol.spec_digest(spec) != trial_id.split(":")[0]:
            raise RefusalError("bad_request", "trial_id is not the hash of its spec")
        stored = store.finished(trial_id)
        if stored is not None:
            self._out.send("trial.result", {"seq": stored[0], "record": stored[1], "stored": True}, message.id)
            return
        self._need_idle()
        try:
            name = check_spec(spec, sorted(WITHOUT_ARTIFACT))
        except SpecError as error:
            raise RefusalError("bad_request", str(error)) from None
        artifact_path = self._find_artifact(store, name, spec)
        version = self._installed.get(str(spec["runtime"]))
        start = Start(trial_id, spec, label_of(time.time()), self._boot_id, self._emulated, version)
        quiet_s = protocol.MAX_QUIET_S + protocol.HEARTBEAT_S
        self._out.send("trial.accepted", {"trial_id": trial_id, "quiet_s": quiet_s}, message.id)
        self._start_trial(message.id, start, artifact_path, float(deadline_s))

    def _find_artifact(self, store: SessionStore, name: Optional[str], spec: Json) -> Optional[str]:
        if name is None:
            return None
        found = store.verify(name, spec["artifact"]["sha256"], spec["artifact"]["size"])
        if not found["ok"]:
            raise RefusalError("no_artifact", "artifact {}: {}".format(name, found["reason"]))
        return os.path.join(store.artifacts, name)

    def _start_trial(self, message_id: int, start: Start, artifact_path: Optional[str], deadline_s: float) -> None:
        def finish(record: Json) -> None:
            self._finish_trial(message_id, record)

        store = self._open_store()
        store.begin(start.trial_id, start.boot_id)
        try:
            job = TrialJob(self._machine, start, artifact_path, deadline_s, finish)
        except ValueError as error:
            finish(build_record(start, {}, {"status": "unsupported", "reasons": [f"the spec {error}"]}, None))
        except OSError as error:
            store.end()
            body = {"trial_id": start.trial_id, "family": "agent", "reason": f"no worker could be started: {error}"}
            self._out.send("trial.failed", body, message_id)
        else:
            self._begin(job, message_id)

    def _finish_trial(self, message_id: int, record: Json) -> None:
        body: Json = {"seq": 0, "record": record, "stored": False}
        try:
            body["seq"] = self._open_store().store(record)
        except (OSError, ValueError) as error:
            # The host still gets the number; it keeps the record of truth.
            text = f"the record could not be journalled here: {error}"
            self._out.send("log", {"level": "error", "message": clean_text(text, 2000)}, message_id)
        self._open_store().end()
        self._out.send("trial.result", body, message_id)

    def _on_trial_cancel(self, message: Message) -> None:
        trial_id = _trial_id_in(message.body)
        job = self._job
        if not isinstance(job, TrialJob) or job.start.trial_id != trial_id:
            raise RefusalError("no_trial", "that trial is not running")
        job.worker.end(CANCELLED)
        self._out.send("trial.cancelled", {"trial_id": trial_id}, message.id)

    def _on_facts(self, message: Message) -> None:
        self._open_store()
        self._need_idle()
        say = self._answer_to(message)
        self._begin(FactsJob(self._machine, say, self._options.worker_python), message.id)

    def _on_canary(self, message: Message) -> None:
        self._open_store()
        self._need_idle()
        self._begin(CanaryJob(self._machine, self._answer_to(message)), message.id)

    def _answer_to(self, message: Message) -> Callable[[str, Json], None]:
        return lambda type_, body: self._out.send(type_, body, message.id)

    def _spawn(self, request: Json, deadline_s: float) -> WorkerProcess:
        request["supervisor_pid"] = os.getpid()
        os.sched_setaffinity(0, request.pop("supervisor_cpus"))
        argv = [self._options.worker_python, "-I", "-B", self._options.archive, "worker"]
        return WorkerProcess(argv, request, self._open_store().scratch, deadline_s, self._clock)

    def _on_journal_read(self, message: Message) -> None:
        store = self._open_store()
        after_seq, limit = _count_in(message.body, "after_seq"), _count_in(message.body, "limit")
        self._out.send("journal.batch", store.batch(after_seq, limit), message.id)

    def _on_journal_ack(self, message: Message) -> None:
        store = self._open_store()
        seq = _count_in(message.body, "seq", store.journal.last_seq)
        store.acknowledge(seq)
        self._out.send("journal.acked", {"seq": seq}, message.id)

    def _on_bye(self, message: Message) -> None:
        self._out.send("bye", {}, message.id)
        self._on_end_of_input()
