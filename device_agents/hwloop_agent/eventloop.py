"""The loop under the supervisor: descriptors, signals, time, and the one job that may be running. No threads.

It waits in one `select` and nowhere else: neither for the peer to read, nor for a worker to die. What a line means is
the supervisor's to say. A peer that has not said a word for `protocol.ABSENT_S` is taken to be gone, as is one whose
successor says so with SIGHUP (`lease.ask_to_leave`): a running trial is finished and journalled, nothing else is.
"""

from __future__ import annotations

import os
import select
import selectors
import signal
from typing import Callable, Dict, Optional, Union

from hwloop_agent import protocol
from hwloop_agent.jobs import Job, TrialJob
from hwloop_agent.outbox import Outbox, read_available
from hwloop_agent.protocol import FrameError, LineReader, clean_text
from hwloop_agent.sysfiles import SysFiles, read_text
from hwloop_agent.workerprocess import WorkerProcess

QUIET_PHASES = ("warmup", "measuring")
EXIT_OK, EXIT_TERMINATED = 0, 5


class EventLoop:
    """Carries lines in, messages out, and a job along; ends when its input has ended and the job is done."""

    def __init__(self, stdin: int, stdout: int, files: SysFiles, clock: Callable[[], float]) -> None:
        self._files = files
        self._clock = clock
        self._stdin = stdin
        self._out = Outbox(stdout)
        self._lines = LineReader()
        self._selector = selectors.PollSelector()  # epoll refuses plain files, and `agent < requests` is for debugging
        self._registered: Dict[int, int] = {}
        self._job: Optional[Job] = None
        self._closing = False
        self._exit_code = EXIT_OK
        self._heartbeat_at = 0.0
        self._absent_at = 0.0

    def _on_line(self, line: Union[bytes, FrameError]) -> None:
        """A whole line has arrived, or the news of one that was too long."""
        raise NotImplementedError

    def _release(self) -> None:
        """The loop has ended: let go of what the session holds."""
        raise NotImplementedError

    def _begin(self, job: Job, message_id: int) -> None:
        job.message_id = message_id
        self._job = job
        self._listen_to(job.worker)

    def _listen_to(self, worker: WorkerProcess) -> None:
        self._watch(worker.report)
        self._watch(worker.capture)

    def serve(self) -> int:
        """Serve the session until its stdin has ended and the last trial is journalled; return the exit code."""
        wake_read, wake_write = os.pipe()
        for descriptor in (wake_read, wake_write, self._stdin, self._out.descriptor):
            os.set_blocking(descriptor, False)
        signal.set_wakeup_fd(wake_write, warn_on_full_buffer=False)
        for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, lambda *_: None)
        signal.signal(signal.SIGPIPE, signal.SIG_IGN)
        self._watch(wake_read)
        self._watch(self._stdin)
        self._heartbeat_at = self._clock() + protocol.HEARTBEAT_S
        self._expect_word()
        try:
            while not self._is_over():
                self._turn(wake_read)
        finally:
            self._shut_down()
            signal.set_wakeup_fd(-1)
            os.close(wake_read)
            os.close(wake_write)
        return self._exit_code

    def _turn(self, wake_read: int) -> None:
        self._set_watch(self._out.descriptor, selectors.EVENT_WRITE if self._out.backlog and not self._out.lost else 0)
        timeout = max(self._wakes_at() - self._clock(), 0.0)
        ready = {key.fd for key, _ in self._selector.select(timeout)}
        if wake_read in ready:
            self._on_signals(read_available(wake_read) or b"")
        if self._out.descriptor in ready:
            self._out.flush()
        if self._job is not None:
            self._listen(self._job.worker, ready)
        if self._stdin in ready:
            self._on_input(read_available(self._stdin))
        if self._out.lost:
            self._on_end_of_input()
        self._tick()

    def _wakes_at(self) -> float:
        wakes = self._next_heartbeat()
        if not self._closing:
            wakes = min(wakes, self._absent_at)
        return min(wakes, self._job.worker.wakes_at()) if self._job is not None else wakes

    def _is_over(self) -> bool:
        return self._closing and self._job is None and (self._out.lost or not self._out.backlog)

    def _watch(self, descriptor: int) -> None:
        self._set_watch(descriptor, selectors.EVENT_READ)

    def _set_watch(self, descriptor: int, events: int) -> None:
        now = self._registered.get(descriptor, 0)
        if events == now:
            return
        if now:
            self._selector.unregister(descriptor)
        if events:
            self._selector.register(descriptor, events)
        self._registered[descriptor] = events

    def _on_signals(self, numbers: bytes) -> None:
        if signal.SIGTERM in numbers or signal.SIGINT in numbers:
            self._exit_code = EXIT_TERMINATED
            self._closing = True
            if self._job is not None:
                self._job.worker.kill()
        elif signal.SIGHUP in numbers:
            self._hang_up()

    def _on_input(self, data: Optional[bytes]) -> None:
        if data is None:
            return
        if not data:
            self._on_end_of_input()
            return
        self._expect_word()
        for line in self._lines.feed(data):
            if self._closing:
                return
            self._on_line(line)

    def _expect_word(self, patience_s: float = 0.0) -> None:
        """The peer lives: expect its next word within `ABSENT_S`, later by as much as it has announced."""
        self._absent_at = self._clock() + protocol.ABSENT_S + patience_s

    def _on_end_of_input(self) -> None:
        self._closing = True
        self._set_watch(self._stdin, 0)

    def _hang_up(self) -> None:
        """The peer is gone: finish the trial for the journal's sake, and drop what only the peer wanted."""
        self._out.abandon()
        self._on_end_of_input()
        if self._job is not None and not isinstance(self._job, TrialJob):
            self._job.worker.kill()

    def _listen(self, worker: WorkerProcess, ready: set[int]) -> None:
        if worker.report in ready:
            for event in worker.on_report():
                if event["event"] == "phase":
                    self._on_phase(str(event["phase"]))
            if not _is_open(worker.report):
                self._set_watch(worker.report, 0)
        if worker.capture in ready:
            worker.on_capture()
            if not _is_open(worker.capture):
                self._set_watch(worker.capture, 0)

    def _on_phase(self, phase: str) -> None:
        job = self._job
        if isinstance(job, TrialJob):
            body = {"trial_id": job.start.trial_id, "phase": clean_text(phase, 40)}
            self._out.send("trial.phase", body, job.message_id)

    def _tick(self) -> None:
        job = self._job
        if job is not None:
            job.worker.tick()
            report, capture = job.worker.report, job.worker.capture
            if job.worker.reap():
                self._set_watch(report, 0)
                self._set_watch(capture, 0)
                self._on_worker_ended(job)
        if not self._closing and self._clock() >= self._absent_at:
            self._hang_up()
        if self._clock() >= self._next_heartbeat():
            self._beat()

    def _on_worker_ended(self, job: Job) -> None:
        if self._out.lost and not isinstance(job, TrialJob):
            self._job = None
            return
        try:
            over = job.ended()
        except OSError as error:
            over = True
            self._out.send("error", {"code": "spawn", "message": str(error)}, job.message_id)
        if over:
            self._job = None
        else:
            self._listen_to(job.worker)

    def _next_heartbeat(self) -> float:
        worker = self._job.worker if self._job is not None else None
        if worker is not None and worker.phase in QUIET_PHASES:
            return max(self._heartbeat_at, worker.phase_since + protocol.MAX_QUIET_S)
        return self._heartbeat_at

    def _beat(self) -> None:
        self._heartbeat_at = self._clock() + protocol.HEARTBEAT_S
        # A host that is busy elsewhere does not read for an hour; one unread heartbeat says as much as seven hundred.
        if not self._out.backlog:
            phase = self._job.worker.phase if self._job is not None else "idle"
            statm = (read_text(self._files.proc("self", "statm")) or "").split()
            rss_kb = int(statm[1]) * os.sysconf("SC_PAGE_SIZE") // 1024 if len(statm) > 1 else None
            self._out.send("heartbeat", {"phase": clean_text(phase, 40), "rss_kb": rss_kb})

    def _shut_down(self) -> None:
        if self._job is not None:
            self._job.worker.kill()
        self._selector.close()
        self._release()
        for descriptor in (self._stdin, self._out.descriptor):
            os.set_blocking(descriptor, True)


def _is_open(descriptor: int) -> bool:
    """Say whether a pipe may still deliver something: after the last writer has closed it, polling would spin."""
    poller = select.poll()
    poller.register(descriptor, select.POLLIN)
    events = poller.poll(0)
    return not events or bool(events[0][1] & select.POLLIN)
