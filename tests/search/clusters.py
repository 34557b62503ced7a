"""A dask cluster in processes of its own, to be killed by parts."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Self


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class LocalCluster:
    """A scheduler and workers of one thread each, under nannies or (they start sooner) without."""

    def __init__(self, workers: int = 2, *, nanny: bool = True) -> None:
        self.address = f"tcp://127.0.0.1:{free_port()}"
        self._count = workers
        self._nanny = () if nanny else ("--no-nanny",)
        self._environment = dict(os.environ, PYTHONPATH=os.pathsep.join(filter(None, sys.path)), OMP_NUM_THREADS="1")
        self.start()

    def start(self) -> None:
        self.scheduler = self._run("distributed.cli.dask_scheduler", "--port", self.address.rpartition(":")[2])
        self.workers = [
            self._run(
                "distributed.cli.dask_worker", self.address, "--nthreads", "1", "--death-timeout", "60", *self._nanny
            )
            for _ in range(self._count)
        ]

    def kill_worker(self) -> None:
        """SIGKILL the process that evaluates; its nanny starts another."""
        for nanny in self.workers:
            lists = Path(f"/proc/{nanny.pid}/task").glob("*/children")  # a thread of the nanny's has started it
            for pid in [pid for listed in lists for pid in listed.read_text().split()]:
                if b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes():
                    os.kill(int(pid), signal.SIGKILL)
                    return
        raise AssertionError("the cluster has no worker")

    def kill_scheduler(self) -> None:
        """SIGKILL the scheduler; its workers leave."""
        self.scheduler.kill()
        self.scheduler.wait()

    def restart(self) -> None:
        """A new scheduler at the same address, with new workers."""
        self.stop()
        self.start()

    def stop(self) -> None:
        for process in (*self.workers, self.scheduler):
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    def _run(self, module: str, *arguments: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", module, *arguments, "--host", "127.0.0.1", "--no-dashboard"]
        return subprocess.Popen(
            command,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )


def wait_for(condition: object, limit_s: float = 60.0) -> None:
    """Wait until a function says so.

    Raises:
        TimeoutError: it does not, for too long.
    """
    deadline = time.monotonic() + limit_s
    while not condition():  # type: ignore[operator]
        if time.monotonic() > deadline:
            raise TimeoutError
        time.sleep(0.05)
