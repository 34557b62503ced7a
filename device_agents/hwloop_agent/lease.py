"""One measurement at a time: an exclusive lock on `<root>/lease`, which the kernel drops when its holder dies.

The file's text says who holds it, for people; the lock is what counts. Sessions with different roots do not see each
other.
"""

from __future__ import annotations

import fcntl
import os
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
