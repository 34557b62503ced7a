"""A program on the device and its three streams, over one channel of the SSH connection.

The two incoming streams share the channel's window, so each has a thread that empties it as it fills: otherwise a
flood on stderr would stop stdout. What is kept is bounded: stdout pushes back when nobody reads, of stderr the end is
kept.
"""

from __future__ import annotations

import contextlib
import re
import threading
from collections.abc import Callable

import paramiko
from paramiko.ssh_exception import SSHException

from hwloop.devices.deadline import Deadline
from hwloop.devices.ssh.connection import Connection
from hwloop.errors import TransportError
from hwloop_agent.protocol import clean_text

READ_BYTES = 1 << 15
INBOX_BYTES = 1 << 20
STDERR_TAIL_BYTES = 8 * 1024
# Before the program starts the login shell may have its say; this much of it is searched for our line.
NOISE_BYTES = 256 * 1024
KILL_S = 5.0
DRAIN_S = 2.0
GRACE_S = 2.0
SAID_CHARACTERS = 300

# One line without single quotes, backslashes or exclamation marks: quoted, it survives any login shell, csh and fish
# too. It tells the process id on stderr, which leads its group: sshd starts each command in a session of its own.
LAUNCHER = 'command -v "$1" >/dev/null || { echo HWLOOP $0 ABSENT >&2; exit 127; }; echo HWLOOP $0 $$ >&2; exec "$@"'


class Inbox:
    """What has arrived on stdout and has not been read yet."""

    def __init__(self, limit: int = INBOX_BYTES) -> None:
        self._limit = limit
        self._data = bytearray()
        self._ended = False
        self._discards = False
        self._changed = threading.Condition()

    def put(self, data: bytes) -> None:
        """Add data; waits while there is too much of it, which in time stops the sender."""
        with self._changed:
            self._changed.wait_for(lambda: len(self._data) < self._limit or self._discards)
            if not self._discards:
                self._data += data
                self._changed.notify_all()

    def end(self) -> None:
        """No more will come."""
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def discard(self) -> None:
        """Nobody reads any more."""
        with self._changed:
            self._discards = True
            self._changed.notify_all()

    def get(self, limit: int, deadline: Deadline) -> bytes:
        """Return what there is, up to `limit` bytes; `b""` at the end. Raises `TimeoutError`."""
        with self._changed:
            if not self._changed.wait_for(lambda: self._data or self._ended, deadline.remaining):
                raise TimeoutError(f"nothing within {deadline.seconds:g} s")
            data = bytes(self._data[:limit])
            del self._data[:limit]
            self._changed.notify_all()
            return data


class Tail:
    """The end of stderr, and the line in it that says that the program has started."""

    def __init__(self, nonce: str) -> None:
        self._line = re.compile(rb"HWLOOP " + nonce.encode() + rb" (ABSENT|[0-9]{1,10})\r?\n")
        self._data = bytearray()
        self._found = ""
        self._ended = False
        self._changed = threading.Condition()

    def put(self, data: bytes) -> None:
        """Add data."""
        with self._changed:
            self._data += data
            if not self._found:
                match = self._line.search(self._data)
                if match is not None:
                    self._found = match.group(1).decode()
                    del self._data[match.start() : match.end()]
                    self._changed.notify_all()
            del self._data[: -STDERR_TAIL_BYTES if self._found else -NOISE_BYTES]

    def end(self) -> None:
        """No more will come."""
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def started(self, deadline: Deadline) -> str:
        """Wait for our line; return the process id, `ABSENT`, or "" when stderr ended or time passed without it."""
        with self._changed:
            self._changed.wait_for(lambda: self._found or self._ended, deadline.remaining)
            return self._found

    @property
    def text(self) -> str:
        """The end of what was printed."""
        with self._changed:
            return self._data[-STDERR_TAIL_BYTES:].decode("utf-8", "replace")


class SshChannel:
    """See `hwloop.devices.transports.base.Channel`."""

    def __init__(self, connection: Connection, channel: paramiko.Channel, nonce: str) -> None:
        self._connection = connection
        self._channel = channel
        self._inbox = Inbox()
        self._tail = Tail(nonce)
        self._pid = ""
        self._code: int | None = None
        self._closed = False
        streams = ((channel.recv, self._inbox), (channel.recv_stderr, self._tail))
        self._threads = [threading.Thread(target=self._drain, args=stream, daemon=True) for stream in streams]
        for thread in self._threads:
            thread.start()

    def _drain(self, receive: Callable[[int], bytes], sink: Inbox | Tail) -> None:
        try:
            while True:
                try:
                    data = receive(READ_BYTES)
                except TimeoutError:  # `write` sets a timeout, and paramiko has one for both directions
                    continue
                if not data:
                    return
                sink.put(data)
        except (SSHException, OSError, EOFError):
            return
        finally:
            sink.end()

    def await_start(self, program: str, deadline: Deadline) -> None:
        """Wait until the program has been started.

        Raises:
            TransportError: it is not there, or the login shell never came to it.
        """
        found = self._tail.started(deadline)
        if found.isdigit():
            self._pid = found
            return
        said = clean_text(self._tail.text.strip()[-SAID_CHARACTERS:], SAID_CHARACTERS).replace("\n", " ")
        said = f"; it said: {said}" if said else ""
        if found:
            raise TransportError(f"{program} cannot be started on {self._connection.name}: there is no such program")
        if not self._connection.alive:
            raise TransportError(f"{self._connection.name}: {self._connection.why_lost()}")
        if deadline.expired:
            why = f"the login shell did not come to it within {deadline.seconds:g} s"
        else:
            why = "the login shell ended before"
        raise TransportError(f"{program} cannot be started on {self._connection.name}: {why}{said}")

    def read(self, limit: int, deadline: Deadline) -> bytes:
        """See `Channel.read`."""
        self._need_open()
        data = self._inbox.get(limit, deadline)
        if not data and not self._channel.eof_received and not self._connection.alive:
            raise TransportError(self._connection.why_lost())
        return data

    def write(self, data: bytes, deadline: Deadline) -> None:
        """See `Channel.write`."""
        self._need_open()
        with self._connection.within(deadline.remaining + GRACE_S, "sending"):
            is_sent = self._send(memoryview(data), deadline)
        if not is_sent:
            raise TimeoutError(f"not taken within {deadline.seconds:g} s")

    def _send(self, view: memoryview, deadline: Deadline) -> bool:
        while view:
            # Zero would mean: do not wait at all.
            self._channel.settimeout(max(deadline.remaining, 0.001))
            try:
                sent = self._channel.send(bytes(view[:READ_BYTES]))
            except TimeoutError:
                return False
            except OSError as error:
                why = "the agent no longer reads" if self._connection.alive else self._connection.why_lost()
                raise TransportError(why) from error
            view = view[sent:]
        return True

    def _need_open(self) -> None:
        if self._closed:
            raise TransportError("the channel is closed")

    def stderr_tail(self) -> str:
        """See `Channel.stderr_tail`."""
        return self._tail.text

    def close(self, wait_s: float, *, kill: bool) -> int | None:
        """See `Channel.close`."""
        if self._closed:
            return self._code
        self._closed = True
        self._inbox.discard()
        deadline = Deadline(wait_s)
        if self._connection.alive:
            with contextlib.suppress(TransportError), self._connection.within(wait_s + GRACE_S, "ending its input"):
                self._channel.shutdown_write()
            self._channel.status_event.wait(deadline.remaining)
            if not self._channel.status_event.is_set() and kill:
                self._kill()
            if self._channel.status_event.is_set():
                self._drained(Deadline(DRAIN_S))
        # -1: it has not left, or was ended by a signal, which paramiko does not tell.
        self._code = self._channel.exit_status if self._channel.exit_status >= 0 else None
        with contextlib.suppress(TransportError), self._connection.within(GRACE_S, "closing a channel"):
            self._channel.close()
        self._drained(Deadline(DRAIN_S))
        return self._code

    def _drained(self, deadline: Deadline) -> None:
        for thread in self._threads:
            thread.join(deadline.remaining)

    def _kill(self) -> None:
        """End the program and its process group, through a second channel: sshd takes no signals for root."""
        if not self._pid:
            return
        command = f"kill -9 -{self._pid} || kill -9 {self._pid}"
        with contextlib.suppress(TransportError), self._connection.within(KILL_S, "ending a program"):
            channel = self._connection.device.open_session(timeout=KILL_S)
            channel.exec_command(f"exec /bin/sh -c '{command}'")
            self._channel.status_event.wait(KILL_S / 2)
            channel.close()
