"""Evaluation by several processes of this machine.

Each process loads the function once and has its own, few threads. One that dies or takes too long is replaced, and its
candidate tried again; what was evaluated before stands.
"""

from __future__ import annotations

import os
import pickle
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from hwloop.errors import EvaluationError, HwloopError, UserError
from hwloop.pruning import Candidate
from hwloop.search.backlog import Backlog, Limits
from hwloop.search.evaluation import ErrorFunction, ErrorResult

THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS")
"""Environment variables that say how many threads a library uses; read when it is imported."""

READY = "ready"
DONE = "done"
REFUSED = "refused"
"""The candidate or the function is at fault: another attempt is no use."""
SHORT = "short"
"""Memory or another resource ran out: another attempt may do."""

POLL_S = 1.0
"""Deadlines are looked at at least so often."""

TAIL_BYTES = 2000


def pickled(error: ErrorFunction) -> bytes:
    """The function as bytes, for another process.

    Raises:
        UserError: it cannot be sent to another process.
    """
    try:
        return pickle.dumps(error, protocol=pickle.HIGHEST_PROTOCOL)
    except Exception as failure:  # whatever a user's own classes raise
        reason = (str(failure).strip() or type(failure).__name__).splitlines()[0]
        raise UserError(
            f"candidates cannot be evaluated in other processes: {reason}; define the network in a module, or set"
            " search.workers = 1"
        ) from failure


class LocalWorkers:
    """A `BatchEvaluator` with worker processes; a context manager that ends them.

    Args:
        error: candidate to error; goes to every worker as bytes.
        count: of workers.
        threads: of each.
        paths: where the function's own modules are found, before anything else.
        limits: attempts and timeouts.
        clock: seconds, monotonic.
    """

    def __init__(
        self,
        error: ErrorFunction,
        count: int,
        *,
        threads: int = 1,
        paths: Sequence[Path] = (),
        limits: Limits | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._payload = pickled(error)
        self._count = count
        self._environment = os.environ | dict.fromkeys(THREADS, str(threads))
        self._environment["PYTHONPATH"] = os.pathsep.join(filter(None, [*map(str, paths), *sys.path]))
        self._limits = limits or Limits()
        self._clock = clock
        self._workers: list[_Worker] = []
        self._failed_starts = 0

    def evaluate(self, batch: Sequence[Candidate]) -> Iterator[ErrorResult]:
        """See `BatchEvaluator.evaluate`.

        Raises:
            EvaluationError: workers cannot be started, or the function fails for a reason that is not the machine's.
            HwloopError: what the function raised of its own.
        """
        backlog = Backlog(len(batch), self._limits.attempts)
        for worker in self._workers:
            worker.job = None  # of a batch that was given up; its answer is ignored
        while not backlog.is_done:
            self._fill(backlog, batch)
            for worker in self._ready():
                result = self._hear(worker, backlog)
                if result is not None:
                    yield result
            for worker in [each for each in self._workers if self._clock() > each.deadline]:
                result = self._lost(worker, backlog, "took too long")
                if result is not None:
                    yield result

    def close(self) -> None:
        """End all workers."""
        for worker in self._workers:
            worker.end()
        self._workers.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    @property
    def pids(self) -> tuple[int, ...]:
        """Process ids of the workers."""
        return tuple(worker.process.pid for worker in self._workers)

    def _fill(self, backlog: Backlog, batch: Sequence[Candidate]) -> None:
        """Start the workers that are missing, unless none can be started, and give the idle ones something to do."""
        can_start = self._failed_starts < self._limits.attempts
        while len(self._workers) < (min(self._count, len(batch)) if can_start else 1):
            worker = _Worker.start(self._payload, self._environment)
            worker.deadline = self._clock() + self._limits.start_s
            self._workers.append(worker)
        for worker in self._workers:
            if worker.is_ready and not worker.is_busy and (index := backlog.take()) is not None:
                worker.is_busy, worker.job = True, index
                worker.began = self._clock()
                worker.deadline = self._limits.deadline(worker.began)
                with suppress(OSError):  # it has died: its end of the socket says so
                    worker.connection.send_bytes(pickle.dumps(batch[index]))

    def _ready(self) -> list[_Worker]:
        by_connection = {worker.connection: worker for worker in self._workers}
        return [by_connection[found] for found in wait(list(by_connection), POLL_S)]  # type: ignore[index]  # or a handle

    def _hear(self, worker: _Worker, backlog: Backlog) -> ErrorResult | None:
        try:
            kind, value, seconds = worker.connection.recv()
        except (EOFError, OSError):
            return self._lost(worker, backlog, "its worker died", has_died=True)
        index, worker.job = worker.job, None
        worker.is_busy, worker.deadline = False, float("inf")
        if kind == READY:
            self._failed_starts = 0
            worker.is_ready = True
            return None
        if index is None and worker.is_ready:
            return None
        if kind == REFUSED:
            if isinstance(value, HwloopError):
                raise value
            raise EvaluationError(f"candidates cannot be evaluated: {value}")
        assert index is not None
        if kind == SHORT:
            return ErrorResult(index, float("nan"), seconds, value) if backlog.fail(index) else None
        return ErrorResult(index, value, seconds) if backlog.finish(index) else None

    def _lost(self, worker: _Worker, backlog: Backlog, why: str, *, has_died: bool = False) -> ErrorResult | None:
        """Bury a worker; return its candidate's result when the candidate is given up.

        Raises:
            EvaluationError: workers die before they are ready, again and again.
        """
        told = worker.end(has_died=has_died)
        self._workers.remove(worker)
        if not worker.is_ready:
            self._failed_starts += 1
            if self._failed_starts >= self._limits.attempts and not any(each.is_ready for each in self._workers):
                raise EvaluationError(f"workers cannot be started: {told}")
            return None
        if worker.job is None or not backlog.fail(worker.job):
            return None
        attempts = self._limits.attempts
        return ErrorResult(worker.job, float("nan"), self._clock() - worker.began, f"{why}, {attempts} times ({told})")


@dataclass
class _Worker:
    """A process, and what it is doing."""

    process: subprocess.Popen[bytes]
    connection: Connection
    log: IO[bytes]
    is_ready: bool = False
    is_busy: bool = False
    job: int | None = None
    began: float = 0.0
    deadline: float = field(default=float("inf"))

    @classmethod
    def start(cls, payload: bytes, environment: Mapping[str, str]) -> _Worker:
        ours, theirs = socket.socketpair()
        log = tempfile.TemporaryFile()  # noqa: SIM115  # lives as long as the worker
        try:
            process = subprocess.Popen(
                [sys.executable, "-m", "hwloop.search.worker", str(theirs.fileno())],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=log,
                env=environment,
                pass_fds=[theirs.fileno()],
            )
        except OSError as error:
            ours.close()
            log.close()
            raise EvaluationError(f"a worker cannot be started: {error.strerror or error}") from error
        finally:
            theirs.close()
        worker = cls(process, Connection(ours.detach()), log)
        # In a thread: a large function does not fit the socket, and is only read when the worker has loaded modules.
        threading.Thread(target=worker._send, args=(payload,), daemon=True).start()
        return worker

    def _send(self, payload: bytes) -> None:
        with suppress(OSError):  # it has died already, or is no longer wanted
            self.connection.send_bytes(payload)

    def end(self, *, has_died: bool = False) -> str:
        """Kill the process and say how it ended."""
        if has_died:  # it has closed its end, and is about to be gone: how it ended is worth a moment
            with suppress(subprocess.TimeoutExpired):
                self.process.wait(1.0)
        status = self.process.poll()
        self.process.kill()
        self.process.wait()
        self.connection.close()
        size = self.log.seek(0, os.SEEK_END)
        self.log.seek(max(0, size - TAIL_BYTES))
        tail = " ".join(self.log.read().decode(errors="replace").split())
        self.log.close()
        if status is None:
            return "it was ended"
        ended = f"signal {-status}" if status < 0 else f"exit {status}"
        return f"{ended}: {tail}" if tail else ended
