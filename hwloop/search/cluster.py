"""Evaluation by a `dask.distributed` cluster, found by its scheduler's address.

Every worker of the cluster loads the function once, also one that joins later. A worker that is lost costs an attempt
of what it was doing. When the scheduler is lost, a new one at the same address is waited for, and what was not finished
is asked for again; what was evaluated before stands.

The cluster's workers need hwloop and whatever the network is made of. Start them with one thread each
(``dask worker ADDRESS --nworkers auto --nthreads 1``): more threads than CPUs make all of them many times slower.
"""

from __future__ import annotations

import hashlib
import logging
import pickle
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from hwloop.errors import EvaluationError, HwloopError, UserError
from hwloop.pruning import Candidate
from hwloop.search.backlog import Backlog, Limits
from hwloop.search.evaluation import ErrorFunction, ErrorResult
from hwloop.search.workers import pickled
from hwloop_agent.heap import keep_freed_memory

try:
    from distributed import Client, Future, KilledWorker, WorkerPlugin, get_worker
except ImportError as missing:
    raise UserError(
        "evaluating on a cluster needs dask: install it with `pip install 'hwloop[dask]'`, or leave search.dask out"
    ) from missing

POLL_S = 0.5

PAUSE_S = 1.0
"""Between two tries to reach the scheduler."""

REACH_S = 10.0
"""One try to reach it takes at most so long."""


class _Function(WorkerPlugin):  # type: ignore[misc]  # distributed has no types
    """Keeps the function on each worker."""

    def __init__(self, name: str, payload: bytes, paths: Sequence[str]) -> None:
        self.name = name
        self.payload = payload
        self.paths = paths
        self.error: ErrorFunction | None = None

    def setup(self, worker: Any) -> None:
        """Called once on each worker, also on one that joins later."""
        sys.path[:0] = [path for path in self.paths if path not in sys.path]
        keep_freed_memory()  # dask's nanny has it given back at once: an evaluation took twice the CPU's time
        self.error = pickle.loads(self.payload)
        torch = sys.modules.get("torch")
        if torch is not None:
            torch.set_num_threads(1)


def _evaluate(name: str, candidate: Candidate) -> tuple[float, float]:
    error = get_worker().plugins[name].error
    began = time.perf_counter()
    return float(error(candidate)), time.perf_counter() - began


class DaskCluster:
    """A `BatchEvaluator` on a cluster; a context manager that leaves it.

    Args:
        error: candidate to error; goes to every worker as bytes.
        address: of the scheduler, as dask takes it (``tcp://host:8786``).
        paths: where the function's own modules are found, on a worker that has them there.
        limits: attempts and timeouts; `start_s` is how long a scheduler or its workers are waited for.
        clock: seconds, monotonic.
        sleep: waits between two tries to reach the scheduler.

    Raises:
        UserError: the function cannot be sent to another process.
    """

    def __init__(
        self,
        error: ErrorFunction,
        address: str,
        *,
        paths: Sequence[Path] = (),
        limits: Limits | None = None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.address = address
        self._payload = pickled(error)
        self._paths = tuple(map(str, paths))
        self._name = f"hwloop-{hashlib.sha256(self._payload).hexdigest()[:16]}"
        self._limits = limits or Limits()
        self._clock = clock
        self._sleep = sleep
        self._client: Client | None = None
        self._seen: float | None = None  # since when there has been no worker
        self._tasks = 0
        self._changed = threading.Event()

    def evaluate(self, batch: Sequence[Candidate]) -> Iterator[ErrorResult]:
        """See `BatchEvaluator.evaluate`.

        Raises:
            EvaluationError: the scheduler or all workers are gone and do not come back in time.
            HwloopError: what the function raised of its own.
        """
        backlog = Backlog(len(batch), self._limits.attempts)
        running: dict[Future, _Running] = {}
        try:
            while not backlog.is_done:
                self._fill(backlog, batch, running)
                self._changed.wait(POLL_S)
                self._changed.clear()
                for future in [each for each in running if each.done()]:
                    result = self._result(future, running.pop(future), backlog)
                    if result is not None:
                        yield result
                now = self._clock()
                for future in [each for each, one in running.items() if now > self._limits.deadline(one.began)]:
                    self._interrupt(future)
                    result = self._failed(running.pop(future), backlog, "took too long")
                    if result is not None:
                        yield result
        finally:
            for future in running:
                with suppress(Exception):  # of a batch that is given up, perhaps because the cluster is gone
                    future.cancel()

    def close(self) -> None:
        """Leave the cluster; it goes on without us."""
        client, self._client = self._client, None
        if client is not None:
            with suppress(Exception):  # whatever is left of a connection that may be broken
                client.close(timeout=2)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _fill(self, backlog: Backlog, batch: Sequence[Candidate], running: dict[Future, _Running]) -> None:
        """Keep as many tasks in the cluster as it has threads, so that no time is counted that a task only waits."""
        client, room = self._connected(bool(running))
        while len(running) < room and (index := backlog.take()) is not None:
            self._tasks += 1
            # A key of its own and impure: a task that was asked for before is not answered from the cluster's memory.
            key = f"{self._name}-{id(self)}-{time.time_ns()}-{self._tasks}"
            future = client.submit(_evaluate, self._name, batch[index], key=key, pure=False)
            future.add_done_callback(lambda _: self._changed.set())
            running[future] = _Running(index, self._clock())

    def _result(self, future: Future, one: _Running, backlog: Backlog) -> ErrorResult | None:
        if future.status in ("cancelled", "lost"):  # the scheduler is gone: nobody is to blame
            backlog.put_back(one.index)
            return None
        if future.status == "finished":
            try:
                error, seconds = future.result(timeout=self._limits.start_s)
            except (OSError, TimeoutError, CancelledError):  # gone before it could be fetched
                backlog.put_back(one.index)
                return None
            return ErrorResult(one.index, error, seconds) if backlog.finish(one.index) else None
        failure = future.exception()
        if isinstance(failure, KilledWorker | MemoryError | OSError):
            return self._failed(one, backlog, " ".join(f"{type(failure).__name__}: {failure}".split()))
        if isinstance(failure, HwloopError):
            raise failure
        raise EvaluationError(f"candidates cannot be evaluated: {type(failure).__name__}: {failure}")

    def _failed(self, one: _Running, backlog: Backlog, why: str) -> ErrorResult | None:
        if not backlog.fail(one.index):
            return None
        failure = f"{why}, {self._limits.attempts} times"
        return ErrorResult(one.index, float("nan"), self._clock() - one.began, failure)

    def _interrupt(self, future: Future) -> None:
        """End what takes too long: a running task hears nothing, so its worker is started anew, if it has a nanny."""
        client = self._client
        assert client is not None
        with suppress(Exception):  # at worst the worker stays busy; the task is tried elsewhere all the same
            busy = [address for address, keys in client.processing().items() if future.key in keys]
            future.cancel()
            client.restart_workers(busy, timeout=self._limits.start_s, raise_for_error=False)

    def _connected(self, is_busy: bool) -> tuple[Client, int]:
        """A client whose scheduler answers, and how many tasks the cluster can run at once.

        Raises:
            EvaluationError: no scheduler, or no worker, for too long.
        """
        while True:
            try:
                if self._client is None or self._client.status != "running":
                    self._reach()
                assert self._client is not None
                room = sum(self._client.nthreads().values())
                reason = "it has no workers"
                if room:
                    self._seen = None
                elif self._seen is None:
                    self._seen = self._clock()
                if room or (is_busy and self._is_patient()):
                    return self._client, room
            except (OSError, TimeoutError, CancelledError) as error:
                reason = " ".join(str(error).split()) or type(error).__name__
                self.close()
                self._seen = self._clock() if self._seen is None else self._seen
            if not self._is_patient():
                raise EvaluationError(
                    f"the cluster at {self.address} does not evaluate ({reason}); everything evaluated is kept: start"
                    " its scheduler and workers, and run the same command again to go on"
                )
            self._sleep(PAUSE_S)

    def _is_patient(self) -> bool:
        return self._seen is None or self._clock() <= self._seen + self._limits.start_s

    def _reach(self) -> None:
        self.close()
        # What it logs when the connection breaks is a page of traceback; the outcome is told by our own errors.
        logging.getLogger("distributed.client").setLevel(logging.CRITICAL)
        self._client = Client(self.address, timeout=REACH_S, set_as_default=False)
        self._client.register_plugin(_Function(self._name, self._payload, self._paths), name=self._name)


@dataclass(frozen=True)
class _Running:
    """A candidate that the cluster has."""

    index: int
    began: float
