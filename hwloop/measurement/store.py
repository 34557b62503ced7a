"""The record of truth: every finished trial of a study, in one append-only journal."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hwloop_agent.journal import Journal


class TrialStore:
    """Finished trials by id.

    The file is a journal as the agent keeps it too (CRC per line, longest valid prefix on opening, cut bytes set
    aside). A trial is in it once or not at all.

    Attributes:
        cut_bytes: how many bytes of a damaged tail were set aside when the journal was opened.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._journal = Journal.open(path)
        self.cut_bytes = self._journal.cut_bytes
        self._records: dict[str, dict[str, Any]] = {}
        for record in self._journal.records:
            self._records.setdefault(record["trial_id"], record)

    def __contains__(self, trial_id: object) -> bool:
        return trial_id in self._records

    def __len__(self) -> int:
        return len(self._records)

    def __getitem__(self, trial_id: str) -> dict[str, Any]:
        return self._records[trial_id]

    def add(self, record: Mapping[str, Any]) -> bool:
        """Append a finished trial; False (and nothing written) when it is already there."""
        trial_id = str(record["trial_id"])
        if trial_id in self._records:
            return False
        self._journal.append(dict(record))
        self._records[trial_id] = dict(record)
        return True

    def close(self) -> None:
        """Close the file."""
        self._journal.close()

    def __enter__(self) -> TrialStore:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()
