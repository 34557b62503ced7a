"""This machine as a device: the agent is a child process, spoken to over pipes exactly as over SSH."""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import IO

from hwloop.devices.deadline import Deadline
from hwloop.errors import TransportError

STDERR_TAIL_BYTES = 8 * 1024
READ_BYTES = 1 << 16


def _pipe(stream: IO[bytes] | None) -> IO[bytes]:
    if stream is None:
        raise ValueError("the process needs three pipes")
    return stream


class LocalChannel:
    """The pipes of a child process. See `Channel`."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self.process = process
        self._stdin, self._stdout, self._stderr = _pipe(process.stdin), _pipe(process.stdout), _pipe(process.stderr)
        self._tail = bytearray()
        self._closed = False
        self._stderr_open = True
        for stream in (self._stdin, self._stdout, self._stderr):
            os.set_blocking(stream.fileno(), False)

    def _wait(self, descriptor: int, event: int, deadline: Deadline) -> None:
        """Wait until `descriptor` is ready, emptying stderr meanwhile so that its writer never blocks."""
        with selectors.PollSelector() as selector:
            selector.register(descriptor, event)
            if self._stderr_open:
                selector.register(self._stderr.fileno(), selectors.EVENT_READ)
            while True:
                ready = {key.fd for key, _ in selector.select(deadline.remaining)}
                if self._stderr.fileno() in ready and not self._take_stderr():
                    selector.unregister(self._stderr.fileno())
                if descriptor in ready:
                    return
                if deadline.expired:
                    raise TimeoutError(f"nothing within {deadline.seconds:g} s")

    def _take_stderr(self) -> bool:
        """Take what is waiting on stderr; return whether more may come."""
        try:
            data = os.read(self._stderr.fileno(), READ_BYTES)
        except BlockingIOError:
            return True
        self._stderr_open = bool(data)
        self._tail += data
        del self._tail[:-STDERR_TAIL_BYTES]
        return self._stderr_open

    def read(self, limit: int, deadline: Deadline) -> bytes:
        """See `Channel.read`."""
        self._need_open()
        self._wait(self._stdout.fileno(), selectors.EVENT_READ, deadline)
        try:
            return os.read(self._stdout.fileno(), limit)
        except OSError as error:
            raise TransportError(f"reading from the agent failed: {error}") from error

    def write(self, data: bytes, deadline: Deadline) -> None:
        """See `Channel.write`."""
        self._need_open()
        view = memoryview(data)
        while view:
            self._wait(self._stdin.fileno(), selectors.EVENT_WRITE, deadline)
            try:
                view = view[os.write(self._stdin.fileno(), view[:READ_BYTES]) :]
            except BlockingIOError:
                continue
            except OSError as error:
                raise TransportError(f"the agent no longer reads: {error.strerror}") from error

    def _need_open(self) -> None:
        if self._closed:
            raise TransportError("the channel is closed")

    def stderr_tail(self) -> str:
        """See `Channel.stderr_tail`."""
        if not self._closed:
            for _ in range(16):
                if self._stderr_open:
                    self._take_stderr()
        return self._tail.decode("utf-8", "replace")

    def close(self, wait_s: float, *, kill: bool) -> int | None:
        """See `Channel.close`."""
        if self._closed:
            return self.process.returncode
        with contextlib.suppress(OSError):
            self._stdin.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(wait_s)
        if self.process.returncode is None and kill:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
        self.stderr_tail()
        self._closed = True
        self._stdout.close()
        self._stderr.close()
        return self.process.returncode


class LocalTransport:
    """This machine. See `Transport`.

    Args:
        python: the interpreter that runs the agent; this one by default.
    """

    name = "local"

    def __init__(self, python: str | None = None) -> None:
        self.python = python if python is not None else sys.executable

    def start(self, argv: Sequence[str]) -> LocalChannel:
        """See `Transport.start`; in its own process group, so that Ctrl-C in a terminal is hwloop's to handle."""
        try:
            process = subprocess.Popen(
                list(argv),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                bufsize=0,
                start_new_session=True,
            )
        except OSError as error:
            raise TransportError(f"{argv[0]} cannot be started: {error.strerror}") from error
        return LocalChannel(process)

    def put(self, data: bytes, remote_path: str) -> None:
        """See `Transport.put`."""
        target = Path(remote_path)
        try:
            target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            descriptor, name = tempfile.mkstemp(dir=target.parent, prefix=".put-")
            try:
                with os.fdopen(descriptor, "wb") as file:
                    file.write(data)
                Path(name).replace(target)
            except BaseException:
                Path(name).unlink(missing_ok=True)
                raise
        except OSError as error:
            raise TransportError(f"{remote_path} cannot be stored: {error.strerror}") from error

    def size(self, remote_path: str) -> int | None:
        """See `Transport.size`."""
        path = Path(remote_path)
        try:
            return path.stat().st_size if path.is_file() else None
        except OSError as error:
            raise TransportError(f"{remote_path} cannot be looked at: {error.strerror}") from error

    def free_bytes(self, remote_path: str) -> int | None:
        """See `Transport.free_bytes`."""
        try:
            found = os.statvfs(remote_path)
        except OSError:
            return None
        return found.f_frsize * found.f_bavail

    def close(self) -> None:
        """See `Transport.close`; there is no connection."""

    def default_root(self) -> str:
        """See `Transport.default_root`: `hwloop` in the user's cache directory (XDG_CACHE_HOME, else ~/.cache)."""
        cache = os.environ.get("XDG_CACHE_HOME", "")
        return str((Path(cache) if cache.startswith("/") else Path.home() / ".cache") / "hwloop")
