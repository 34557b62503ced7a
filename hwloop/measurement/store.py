"""The record of truth: every finished trial of a study, in one append-only journal, and what happened meanwhile."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hwloop.errors import StudyError
from hwloop_agent.journal import Journal, sync_directory

#: The key that tells an event from the record of a trial.
EVENT = "event"

Json = dict[str, Any]


class TrialStore:
    """Finished trials by id, and events.

    The file is a journal as the agent keeps it too (CRC per line, longest valid prefix on opening, cut bytes set
    aside). A trial is in it once or not at all. Infrastructure failures and what a campaign concluded are *events*:
    records of another kind, told by the key `event`, which never stand for a trial. One process at a time has the
    file open.

    Attributes:
        path: of the file.
        cut_bytes: how many bytes of a damaged tail were set aside when the journal was opened.

    Raises:
        StudyError: another process measures into the same journal.
        OSError: the file cannot be used.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = _lock(path)
        try:
            self._journal = Journal.open(path)
        except BaseException:
            os.close(self._lock)
            raise
        self.cut_bytes = self._journal.cut_bytes
        self._records: dict[str, Json] = {}
        for record in self._journal.records:
            if EVENT not in record:
                self._records.setdefault(record["trial_id"], record)

    def __contains__(self, trial_id: object) -> bool:
        return trial_id in self._records

    def __len__(self) -> int:
        return len(self._records)

    def __getitem__(self, trial_id: str) -> Json:
        return self._records[trial_id]

    @property
    def entries(self) -> Sequence[Json]:
        """Trials and events in the order in which they came."""
        return self._journal.records

    @property
    def events(self) -> list[Json]:
        """The events in the order in which they came."""
        return [entry for entry in self._journal.records if EVENT in entry]

    def add(self, record: Mapping[str, Any]) -> bool:
        """Append a finished trial; False (and nothing written) when it is already there."""
        trial_id = str(record["trial_id"])
        if trial_id in self._records:
            return False
        self._journal.append(dict(record))
        self._records[trial_id] = dict(record)
        return True

    def note(self, event: str, **content: Any) -> None:
        """Append an event of kind `event`."""
        self._journal.append({EVENT: event, **content})

    def close(self) -> None:
        """Close the file; closing twice does nothing."""
        self._journal.close()
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def __enter__(self) -> TrialStore:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def _lock(path: Path) -> int:
    """Open and lock the journal: opening one that another process appends to would cut what it is writing."""
    is_new = not path.exists()
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if is_new:
            sync_directory(path.parent)
    except BlockingIOError:
        os.close(descriptor)
        raise StudyError(f"{path}: another hwloop is measuring into this journal; wait until it has ended") from None
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor
