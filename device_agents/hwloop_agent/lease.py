"""One measurement at a time: an exclusive lock on `<root>/lease`, which the kernel drops when its holder dies.

The file's text says who holds it; the lock is what counts. Sessions with different roots do not see each other.

A host whose connection broke may know so long before the device does. Its next session names the same `instance` (a
random number of that host's process) and may therefore ask the older supervisor to leave: that one finishes the trial
that runs, journals it and goes, which frees the lock. Nobody takes a lock that is held, so two never measure at once.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
from typing import Optional

from hwloop_agent.protocol import FrameError, Json, canonical_json, clean_text, parse_json

MAX_OWNER_BYTES = 4096


class LeaseHeldError(Exception):
    """Another session holds the device. `owner` is what it said about itself; {} when it said nothing readable."""

    def __init__(self, owner: Json) -> None:
        super().__init__(describe_owner(owner))
        self.owner = owner


def describe_owner(owner: Json) -> str:
    """Return one line that names the holder of a lease."""
    if not owner:
        return "the device is in use by a session that has not said who it is"
    fields = {name: clean_text(str(owner.get(name, "?")), 80) for name in ("who", "host", "pid", "since", "session")}
    return "the device is in use by {who} on {host} (agent process {pid}, session {session}) since {since}".format(
        **fields
    )


def is_predecessor(held: Json, mine: Json) -> bool:
    """Say whether the holder of a lease is an earlier session of the very host process that asks now."""
    if not mine.get("instance"):
        return False
    return all(held.get(name) == mine.get(name) for name in ("session", "who", "host", "instance"))


def ask_to_leave(held: Json, proc_root: str = "/proc") -> None:
    """Tell the supervisor that holds the lease that its host is gone. Does nothing when that is not a supervisor.

    The text of a holder that was killed stays until the next one writes its own, and its number may be another's by
    then: so the process is asked first what it is.
    """
    pid = str(held.get("pid", ""))
    if not pid.isdigit() or int(pid) < 2:
        return
    with contextlib.suppress(OSError):
        with open(os.path.join(proc_root, pid, "cmdline"), "rb") as file:
            words = file.read(1 << 16).split(b"\0")
        if b"serve" in words and str(held.get("session")).encode() in words:
            os.kill(int(pid), signal.SIGHUP)


class Lease:
    """The lock, once taken."""

    def __init__(self, descriptor: int) -> None:
        """Use `Lease.take`."""
        self._descriptor: Optional[int] = descriptor

    @classmethod
    def take(cls, path: str, owner: Json) -> Lease:
        """Take the lock at `path` and write `owner` into it.

        Raises:
            LeaseHeldError: somebody else has it.
            OSError: the file cannot be used.
        """
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            try:
                raise LeaseHeldError(_read_owner(descriptor)) from None
            finally:
                os.close(descriptor)
        except BaseException:
            os.close(descriptor)
            raise
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, canonical_json(owner) + b"\n", 0)
        return cls(descriptor)

    def release(self) -> None:
        """Give it back; twice does nothing."""
        if self._descriptor is not None:
            os.ftruncate(self._descriptor, 0)
            os.close(self._descriptor)
            self._descriptor = None


def _read_owner(descriptor: int) -> Json:
    try:
        owner = parse_json(os.pread(descriptor, MAX_OWNER_BYTES, 0).strip())
    except (OSError, FrameError):
        return {}
    return owner if isinstance(owner, dict) else {}
