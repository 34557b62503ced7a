"""A worker process: gets the function once, then candidates; answers with their errors.

Started by `workers.py` as ``python -m hwloop.search.worker DESCRIPTOR``, where the descriptor is its end of a socket.
Everything that is printed goes to stderr, which the parent keeps. When the parent is gone, so is the worker, whatever
it is doing.
"""

from __future__ import annotations

import os
import pickle
import queue
import sys
import threading
import time
from collections.abc import Sequence
from multiprocessing.connection import Connection
from typing import Any

from hwloop.errors import HwloopError
from hwloop.search.workers import DONE, READY, REFUSED, SHORT, THREADS
from hwloop_agent.heap import keep_freed_memory


def main(argv: Sequence[str]) -> int:
    """Serve until the parent closes its end."""
    keep_freed_memory()
    connection = Connection(int(argv[1]))
    tasks: queue.SimpleQueue[bytes] = queue.SimpleQueue()
    threading.Thread(target=_read, args=(connection, tasks), daemon=True).start()
    try:
        error = pickle.loads(tasks.get())
        _one_thread()
    except Exception as failure:
        connection.send((REFUSED, _described(failure), 0.0))
        return 1
    connection.send((READY, None, 0.0))
    while True:
        candidate = pickle.loads(tasks.get())
        began = time.perf_counter()
        kind: str
        value: Any
        try:
            kind, value = DONE, float(error(candidate))
        except (MemoryError, OSError) as failure:
            kind, value = SHORT, f"{type(failure).__name__}: {failure}"
        except Exception as failure:
            kind, value = REFUSED, _described(failure)
        connection.send((kind, value, time.perf_counter() - began))


def _read(connection: Connection, tasks: queue.SimpleQueue[bytes]) -> None:
    try:
        while True:
            tasks.put(connection.recv_bytes())
    except (EOFError, OSError):
        os._exit(0)  # at once: an evaluation that nobody waits for would keep the CPU


def _one_thread() -> None:
    torch = sys.modules.get("torch")  # only if the function has brought it along
    if torch is not None:
        torch.set_num_threads(int(os.environ.get(THREADS[0], "1")))


def _described(failure: Exception) -> HwloopError | str:
    """The error itself where it is for the user, else its text: other exceptions need not survive the way."""
    if isinstance(failure, HwloopError):
        return failure
    return " ".join(f"{type(failure).__name__}: {failure}".split())


if __name__ == "__main__":
    # Nothing that is printed may look like a message, and nothing reads stdin.
    os.dup2(2, 1)
    sys.exit(main(sys.argv))
