"""Peak resident memory of one's own process, phase by phase.

Writing `5` to `/proc/self/clear_refs` resets `VmHWM`, the kernel's own high-water mark, so each phase has an exact peak
that no sampling can miss, at no cost while it runs. `ru_maxrss` is never used: a child inherits its parent's.
Where the kernel does not allow it (no CONFIG_PROC_PAGE_MONITOR), a forked helper reads `statm` every 10 ms instead; it
is asleep while inferences are timed, so its peak then covers import, load and warm-up. The record names the method.
"""

from __future__ import annotations

import os
import select
from typing import Optional, Tuple, Union

from hwloop_agent.sysfiles import SysFiles, read_fields, read_kibibytes, read_text

SAMPLE_S = 0.01


def resident_bytes(files: SysFiles, pid: str = "self") -> Optional[int]:
    """Return the resident set of a process now; None when `/proc` does not tell."""
    words = (read_text(files.proc(pid, "statm")) or "").split()
    if len(words) < 2 or not words[1].isdigit():
        return None
    return int(words[1]) * os.sysconf("SC_PAGE_SIZE")


class HighWaterMeter:
    """Peaks from `VmHWM`, reset at the start of each phase."""

    method = "VmHWM"

    def __init__(self, files: SysFiles) -> None:
        self._files = files

    def start(self) -> bool:
        """Begin a phase: the peak is what is resident now. False when the kernel does not allow it."""
        try:
            with open(self._files.proc("self", "clear_refs"), "w") as file:
                file.write("5")
        except OSError:
            return False
        return self.peak() is not None

    def peak(self) -> Optional[int]:
        """Return the peak, in bytes, since `start`."""
        return read_kibibytes(read_fields(self._files.proc("self", "status"), ":"), "VmHWM")

    def pause(self) -> None:
        """Nothing runs between `start` and `peak`."""

    def close(self) -> None:
        """Nothing to close."""


class SamplingMeter:
    """Peaks from a forked helper that reads this process's `statm` every 10 ms while it is asked to.

    A process, not a thread: the worker has no threads of its own, and the helper cannot hold its interpreter lock.
    """

    method = "statm every 10 ms, not while timing"

    def __init__(self, files: SysFiles) -> None:
        self._files = files
        ours, theirs = _pipe_pair()
        self._read, self._write = ours
        parent = str(os.getpid())
        self._child = os.fork()
        if self._child == 0:
            try:
                os.close(self._read)
                os.close(self._write)
                _sample(files, parent, theirs[0], theirs[1])
            finally:
                os._exit(0)
        os.close(theirs[0])
        os.close(theirs[1])

    def start(self) -> bool:
        """Begin a phase; the helper samples until `pause` or `peak`."""
        os.write(self._write, b"s")
        return True

    def pause(self) -> None:
        """Let the helper sleep, so that it wakes no core; the peak so far is kept."""
        os.write(self._write, b"p")

    def peak(self) -> Optional[int]:
        """Return the largest sample, in bytes, since `start`."""
        os.write(self._write, b"r")
        answer = b""
        while not answer.endswith(b"\n"):
            piece = os.read(self._read, 64)
            if not piece:
                return None
            answer += piece
        return int(answer) or None

    def close(self) -> None:
        """End the helper."""
        os.close(self._write)
        os.close(self._read)
        os.waitpid(self._child, 0)


Meter = Union[HighWaterMeter, SamplingMeter]


def _pipe_pair() -> Tuple[Tuple[int, int], Tuple[int, int]]:
    answer_read, answer_write = os.pipe()
    order_read, order_write = os.pipe()
    return (answer_read, order_write), (order_read, answer_write)


def _sample(files: SysFiles, pid: str, orders: int, answers: int) -> None:
    peak, active = 0, False
    while True:
        if select.select([orders], [], [], SAMPLE_S if active else None)[0]:
            order = os.read(orders, 1)
            if not order:
                return
            if order == b"s":
                peak, active = 0, True
            elif order == b"p":
                active = False
            elif order == b"r":
                peak = max(peak, resident_bytes(files, pid) or 0) if active else peak
                os.write(answers, b"%d\n" % peak)
        if active:
            peak = max(peak, resident_bytes(files, pid) or 0)


def open_meter(files: SysFiles) -> Meter:
    """Return the exact meter where the kernel allows it, else the sampling one; call it before any import."""
    exact = HighWaterMeter(files)
    return exact if exact.start() else SamplingMeter(files)
