"""One worker process, seen from the supervisor: start it, listen to it, end it when it must end. Never blocks."""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import subprocess
from typing import Any, Callable, List, NamedTuple, Optional, Sequence

from hwloop_agent.protocol import FrameError, Json, LineReader, canonical_json, parse_json

Clock = Callable[[], float]

KILL_GRACE_S = 2.0
IMPORT_LIMIT_S = 60.0
READ_BYTES = 1 << 16
TAIL_BYTES = 4096
# A runtime shares its process with the report: what it scribbles there must not grow here, nor pass for a report.
MAX_FAULTS = 8
MAX_REPORT_BYTES = 8 << 20
TIMEOUT, CANCELLED, SHUTDOWN = "timeout", "cancelled", "shutdown"

THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "BLIS_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "TVM_NUM_THREADS",
)
# Variables with these beginnings change what runtimes and allocators do, so none of them reaches a worker unseen.
HIDDEN_SETTINGS = (
    "OMP_",
    "GOMP_",
    "KMP_",
    "MKL_",
    "OPENBLAS_",
    "BLIS_",
    "NUMEXPR_",
    "TVM_",
    "ORT_",
    "TORCH",
    "ATEN_",
    "DNNL_",
    "ONEDNN_",
    "MALLOC_",
    "PYTHON",
)


def worker_environment(environment: os._Environ[str], threads: int) -> dict[str, str]:
    """Return the worker's environment: the session's, less hidden settings, with the thread count in every dialect."""
    kept = {name: value for name, value in environment.items() if not name.startswith(HIDDEN_SETTINGS)}
    kept.update({name: str(threads) for name in THREAD_VARIABLES})
    return kept


class Exit(NamedTuple):
    """How a worker ended: by a signal or with a code, and whether the supervisor had asked for it (and why)."""

    signal: Optional[str]
    code: Optional[int]
    asked: str


def signal_name(number: int) -> str:
    """Return the name of a signal, `SIG34` for the nameless ones."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"SIG{number}"


class WorkerProcess:
    """A running worker, its report so far, and the deadline it is under.

    Attributes:
        parts: the facts it has reported, merged.
        result: what it said at its end; None until then.
        phase: where it is, and since when on the supervisor's clock (`phase_since`).
        exit: how it ended; None while it runs.
    """

    def __init__(self, argv: Sequence[str], request: Json, folder: str, deadline_s: float, clock: Clock) -> None:
        """Start the worker with `request` on its stdin, inside `folder`.

        Raises:
            OSError: it cannot be started.
        """
        self.parts: Json = {}
        self.result: Optional[Json] = None
        self.phase = "starting"
        self.exit: Optional[Exit] = None
        self.faults: List[str] = []
        self.output_bytes = 0
        self.report_bytes = 0
        self._clock = clock
        self.phase_since = clock()
        self.deadline_s = deadline_s
        self._deadline = clock() + deadline_s
        self._kill_at: Optional[float] = None
        self._asked = ""
        self._lines = LineReader()
        self._tail = bytearray()
        self.report, report_write = os.pipe()
        self.capture, capture_write = os.pipe()
        try:
            stdin = _request_file(os.path.join(folder, "request.json"), request)
            try:
                self._process = subprocess.Popen(
                    [*argv, str(report_write)],
                    stdin=stdin,
                    stdout=capture_write,
                    stderr=capture_write,
                    pass_fds=(report_write,),
                    start_new_session=True,
                    cwd=folder,
                    env=worker_environment(os.environ, max(len(request["cpus"]), 1)),
                )
            finally:
                os.close(stdin)
        except BaseException:
            os.close(self.report)
            os.close(self.capture)
            raise
        finally:
            os.close(report_write)
            os.close(capture_write)
        os.set_blocking(self.report, False)
        os.set_blocking(self.capture, False)

    @property
    def pid(self) -> int:
        """The worker's process id, which is its process group's too."""
        return self._process.pid

    @property
    def stderr_tail(self) -> str:
        """The end of what it printed, on stdout or stderr."""
        return self._tail.decode("utf-8", "replace")

    def on_report(self) -> List[Json]:
        """Take what is waiting in the report pipe; return the events in it, already merged."""
        data = _read_some(self.report) or b""
        self.report_bytes += len(data)
        events: List[Json] = []
        for line in self._lines.feed(data if self.report_bytes <= MAX_REPORT_BYTES else b""):
            try:
                if isinstance(line, FrameError):
                    raise line
                event = parse_json(line)
                self._merge(event)
                events.append(event)
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                if len(self.faults) < MAX_FAULTS:
                    self.faults.append(f"the worker's report has a line that cannot be read: {str(error)[:200]}")
        return events

    def _merge(self, event: Json) -> None:
        if event["event"] == "phase":
            self.phase, self.phase_since = str(event["phase"]), self._clock()
        elif event["event"] == "part":
            self.parts.update(event["part"])
        elif event["event"] == "done":
            self.result = dict(event["result"])

    def on_capture(self) -> None:
        """Take what is waiting of its output; keep the end of it."""
        data = _read_some(self.capture) or b""
        self.output_bytes += len(data)
        self._tail += data
        del self._tail[:-TAIL_BYTES]

    def end(self, why: str) -> None:
        """Ask the whole process group to end; what does not within `KILL_GRACE_S` is killed."""
        if self._asked or self.exit is not None:
            return
        self._asked = why
        self._signal(signal.SIGTERM)
        self._kill_at = self._clock() + KILL_GRACE_S

    def kill(self) -> None:
        """Kill the whole process group now."""
        self._asked = self._asked or SHUTDOWN
        self._signal(signal.SIGKILL)

    def _signal(self, number: int) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):  # it is just ending by itself
            os.killpg(self.pid, number)

    def wakes_at(self) -> float:
        """Return when `tick` has something to do next, on the supervisor's clock."""
        if self._kill_at is not None:
            return self._kill_at
        if self.phase == "importing":
            return min(self._deadline, self.phase_since + IMPORT_LIMIT_S)
        return self._deadline

    def limit(self) -> str:
        """Return which limit it runs under in its present phase, in words."""
        if self.phase == "importing" and self.phase_since + IMPORT_LIMIT_S < self._deadline:
            return f"importing took more than {IMPORT_LIMIT_S:g} s"
        return f"the deadline of {self.deadline_s:g} s passed while {self.phase}"

    def tick(self) -> None:
        """Enforce the deadline."""
        now = self._clock()
        if self.exit is not None or now < self.wakes_at():
            return
        if self._kill_at is None:
            self.faults.append(self.limit())
            self.end(TIMEOUT)
        else:
            self._kill_at = float("inf")
            self._signal(signal.SIGKILL)

    def reap(self) -> bool:
        """Notice its end: kill stragglers of its group, read what is left, close. True once, when it has ended."""
        if self.exit is not None:
            return False
        # The group is signalled while the dead leader still holds its number, so it cannot be somebody else's.
        if os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
            return False
        self._signal(signal.SIGKILL)
        code = self._process.wait()
        self.exit = Exit(signal_name(-code) if code < 0 else None, code if code >= 0 else None, self._asked)
        while _has_data(self.report):
            self.on_report()
        drained = 0
        while _has_data(self.capture) and drained < 1 << 20:
            self.on_capture()
            drained += READ_BYTES
        os.close(self.report)
        os.close(self.capture)
        return True


def _request_file(path: str, request: Json) -> int:
    # A file, not a pipe: however long the request is, writing it never waits for the worker.
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    line = canonical_json(request) + b"\n"
    try:
        if os.write(descriptor, line) != len(line):
            raise OSError(errno.ENOSPC, "the request did not fit", path)
    except BaseException:
        os.close(descriptor)
        raise
    os.lseek(descriptor, 0, os.SEEK_SET)
    return descriptor


def _read_some(descriptor: int) -> Optional[bytes]:
    """Return what can be read now: None when nothing is there yet, b"" at the end."""
    try:
        return os.read(descriptor, READ_BYTES)
    except BlockingIOError:
        return None


def _has_data(descriptor: int) -> bool:
    import select

    poller = select.poll()
    poller.register(descriptor, select.POLLIN)
    events: Any = poller.poll(0)
    return bool(events and events[0][1] & select.POLLIN)
