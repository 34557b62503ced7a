"""What a session keeps on the device: its journal, its artifacts, a scratch folder. All below one private directory.

Beside the journal lie two small files: `acked`, the number up to which the host has the records, and `running`, the
trial that is being measured. Where a supervisor finds `running` at its start, its predecessor died in that trial, or
the whole board did: that is how a trial that kills boards is told from one whose connection was cut.
"""

from __future__ import annotations

import contextlib
import os
import stat
from typing import Dict, List, Optional, Tuple

from hwloop_agent.digest import hex_digest_of
from hwloop_agent.journal import Journal
from hwloop_agent.protocol import SESSION_ID, TRIAL_ID, FrameError, Json, canonical_json, parse_json

JOURNAL_LIMIT_BYTES = 64 << 20
PRUNE_ABOVE_BYTES = 16 << 20
BATCH_BYTES = 768 << 10
MAX_BATCH = 1000
MAX_NOTE_BYTES = 4096
JOURNAL, ACKED, RUNNING = "journal.ndjson", "acked", "running"


def private_directory(path: str) -> str:
    """Make `path` a directory of mode 0700 and return it; refuses a symbolic link in its place.

    Raises:
        OSError: it cannot be made, or is something else.
    """
    os.makedirs(path, mode=0o700, exist_ok=True)
    if stat.S_ISLNK(os.lstat(path).st_mode):
        raise OSError(f"{path} is a symbolic link")
    os.chmod(path, 0o700)
    return path


def read_note(path: str) -> Optional[Json]:
    """Return the JSON object in a small file, None where there is none that can be read."""
    try:
        with open(path, "rb") as file:
            value = parse_json(file.read(MAX_NOTE_BYTES))
    except (OSError, FrameError):
        return None
    return value if isinstance(value, dict) else None


class SessionStore:
    """The open session directory. Names below it are made from checked ids and hashes, never taken from a message."""

    def __init__(self, root: str, session: str) -> None:
        """Open the session, or make it.

        Raises:
            ValueError: the session id is not a plain name.
            OSError: the directory or its journal cannot be used.
        """
        if not SESSION_ID.match(session):
            raise ValueError("a session id is up to 64 of A-Z a-z 0-9 . _ - and begins with a letter or digit")
        self.folder = private_directory(os.path.join(private_directory(os.path.join(root, "sessions")), session))
        self.artifacts = private_directory(os.path.join(self.folder, "artifacts"))
        self.scratch = private_directory(os.path.join(self.folder, "scratch"))
        self.journal = Journal.open(os.path.join(self.folder, JOURNAL), max_bytes=JOURNAL_LIMIT_BYTES)
        self._finished: Dict[str, Tuple[int, Json]] = {}
        self._verified: Dict[str, Tuple[int, int, int]] = {}
        for seq, record in self.journal.numbered():
            self._index(seq, record)
        self.interrupted = self._read_running()

    def _read_running(self) -> Optional[Json]:
        """Return `trial_id`, `boot_id` and `pid` of a trial that ended with its supervisor; None when none did."""
        found = read_note(os.path.join(self.folder, RUNNING)) or {}
        trial_id = str(found.get("trial_id"))
        if not TRIAL_ID.match(trial_id) or trial_id in self._finished:
            return None
        boot_id, pid = found.get("boot_id"), found.get("pid")
        return {
            "trial_id": trial_id,
            "boot_id": boot_id if isinstance(boot_id, str) else None,
            "pid": pid if isinstance(pid, int) else 0,
        }

    def begin(self, trial_id: str, boot_id: Optional[str]) -> None:
        """Note that a trial runs. Not synced: a kill of processes leaves it, and of a power cut the host knows."""
        note = {"trial_id": trial_id, "boot_id": boot_id, "pid": os.getpid()}
        with contextlib.suppress(OSError):
            self._write(RUNNING, note)

    def end(self) -> None:
        """Note that no trial runs."""
        with contextlib.suppress(OSError):
            os.unlink(os.path.join(self.folder, RUNNING))

    def _write(self, name: str, note: Json) -> None:
        path = os.path.join(self.folder, name)
        descriptor = os.open(path + ".new", os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(canonical_json(note))
        os.replace(path + ".new", path)

    def _index(self, seq: int, record: Json) -> None:
        trial_id = record.get("trial_id")
        if isinstance(trial_id, str):
            self._finished[trial_id] = (seq, record)

    def finished(self, trial_id: str) -> Optional[Tuple[int, Json]]:
        """Return the number and the record of a finished trial; None when it has none here."""
        return self._finished.get(trial_id)

    def store(self, record: Json) -> int:
        """Journal a record; return its number. Raises `OSError` when it could not be stored."""
        seq = self.journal.append(record)
        self._index(seq, self.journal.records[-1])
        return seq

    def batch(self, after_seq: int, limit: int) -> Json:
        """Return the body of a `journal.batch`: records after `after_seq`, as many as fit one message."""
        records: List[Json] = []
        size = 0
        waiting = self.journal.numbered(after_seq)
        for seq, record in waiting[: min(limit, MAX_BATCH)]:
            size += len(canonical_json(record))
            if records and size > BATCH_BYTES:
                break
            records.append({"seq": seq, "rec": record})
        return {
            "records": records,
            "last_seq": self.journal.last_seq,
            "more": len(records) < len(waiting),
            "cut_bytes": self.journal.cut_bytes,
        }

    def acknowledge(self, seq: int) -> None:
        """The host has the records up to `seq`: keep that in mind; forget them once the journal has grown large."""
        with contextlib.suppress(OSError):  # a full disk: then this session is not among those that are cleaned up
            self._write(ACKED, {"seq": seq})
        if os.stat(self.journal.path).st_size < PRUNE_ABOVE_BYTES:
            return
        self.journal.drop_through(seq)
        self._finished.clear()
        for number, record in self.journal.numbered():
            self._index(number, record)

    def forget_acknowledged(self) -> None:
        """The host begins anew and wants nothing back that it had already. Raises `OSError`."""
        acked = (read_note(os.path.join(self.folder, ACKED)) or {}).get("seq")
        if not isinstance(acked, int):
            return
        if acked < self.journal.last_seq:
            self.journal.drop_through(acked)
        else:  # dropping would keep the last record, which the count goes on from
            self.journal.close()
            os.unlink(self.journal.path)
            os.unlink(os.path.join(self.folder, ACKED))
            self.journal = Journal.open(self.journal.path, max_bytes=JOURNAL_LIMIT_BYTES)
        self._finished.clear()
        for number, record in self.journal.numbered():
            self._index(number, record)

    def verify(self, name: str, sha256: str, size: Optional[int] = None) -> Json:
        """Return the body of a `verified` for the artifact `name`: whether its content is what its name says."""
        path = os.path.join(self.artifacts, name)
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
        except OSError as error:
            return {"ok": False, "size": None, "reason": error.strerror or str(error)}
        try:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                return {"ok": False, "size": None, "reason": "not a plain file"}
            if size is not None and status.st_size != size:
                return {"ok": False, "size": status.st_size, "reason": f"has {status.st_size} bytes, not {size}"}
            mark = (status.st_size, status.st_mtime_ns, status.st_ino)
            if self._verified.get(name) != mark:
                if hex_digest_of(descriptor) != sha256:
                    return {"ok": False, "size": status.st_size, "reason": "its content has another hash"}
                self._verified[name] = mark
            return {"ok": True, "size": status.st_size, "reason": ""}
        finally:
            os.close(descriptor)

    def close(self) -> None:
        """Close the journal."""
        self.journal.close()
