"""What old sessions leave on the device is removed, once the host has all of it.

A session may go when every record of its journal was acknowledged and it has not been used for two weeks, or when all
sessions together take more than a GiB: the longest unused first. One with a record that no host has confirmed stays,
whatever its age and size. Whoever calls this holds the lease, so nobody works in another session meanwhile.
"""

from __future__ import annotations

import os
import stat
from typing import Callable, List, NamedTuple

from hwloop_agent.journal import scan
from hwloop_agent.protocol import SESSION_ID
from hwloop_agent.sessionstore import ACKED, JOURNAL, read_note

UNUSED_S = 14 * 86400.0
MAX_BYTES = 1 << 30
# A session's beginning does not wait longer than this for the leavings of others; the next one goes on with them.
LIMIT_S = 2.0


class Leaving(NamedTuple):
    """A session's directory: when its journal or artifacts last changed (wall clock), and what it takes."""

    path: str
    used_at: float
    size_bytes: int


def measure(path: str) -> Leaving:
    """Return what a directory takes and when it was last used; links are not followed. Raises `OSError`."""
    used_at, size = 0.0, 0
    for folder, _, names in os.walk(path):
        for name in [".", *names]:
            status = os.lstat(os.path.join(folder, name))
            used_at = max(used_at, status.st_mtime)
            size += status.st_size if stat.S_ISREG(status.st_mode) else 0
    return Leaving(path, used_at, size)


def is_acknowledged(path: str) -> bool:
    """Say whether the host has confirmed every record of a session. Raises `OSError`."""
    names = os.listdir(path)
    if any(name.startswith(JOURNAL + ".cut-") for name in names):
        return False  # what was set aside there, a person may want to see
    if JOURNAL not in names:
        return True
    with open(os.path.join(path, JOURNAL), "rb") as file:
        data = file.read()
    found = scan(data)
    if found.valid_bytes < len(data):
        return False
    acked = (read_note(os.path.join(path, ACKED)) or {}).get("seq")
    return not found.sequence or (isinstance(acked, int) and acked >= found.sequence[-1])


def clean_up(sessions: str, own: str, now_s: float, clock: Callable[[], float]) -> List[str]:
    """Remove what may go of the sessions beside `own`; return their names. What cannot be removed stays.

    Args:
        sessions: the directory that holds one directory per session.
        own: the name of the session that is open.
        now_s: the wall clock, as files are dated by it.
        clock: for the limit of time.
    """
    until = clock() + LIMIT_S
    found: List[Leaving] = []
    total = 0
    try:
        for name in sorted(os.listdir(sessions)):
            path = os.path.join(sessions, name)
            if not SESSION_ID.match(name) or not stat.S_ISDIR(os.lstat(path).st_mode):
                continue
            leaving = measure(path)
            total += leaving.size_bytes
            if name != own:
                found.append(leaving)
            if clock() > until:
                break
    except OSError:
        return []
    removed: List[str] = []
    for leaving in sorted(found, key=lambda one: one.used_at):
        if clock() > until or (now_s - leaving.used_at < UNUSED_S and total <= MAX_BYTES):
            break
        try:
            if not is_acknowledged(leaving.path):
                continue
        except OSError:
            continue
        import shutil  # rarely needed, and with its compressors a fifteenth of the idle supervisor's memory

        shutil.rmtree(leaving.path, ignore_errors=True)
        if not os.path.lexists(leaving.path):
            removed.append(os.path.basename(leaving.path))
            total -= leaving.size_bytes
    return removed
