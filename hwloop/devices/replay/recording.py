"""What a replay device answers from."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol

from hwloop.errors import DataError

Json = dict[str, Any]

PARTS = ("latency", "memory", "conditions", "energy", "phases_s", "outputs", "clock_synced", "emulated")
"""Parts of a record that are null where nothing was measured."""


class Recording(Protocol):
    """Trials that were measured once."""

    @property
    def name(self) -> str:
        """Of the file, for people and for the mark in every record."""

    @property
    def facts(self) -> Mapping[str, Any]:
        """What the device was, as its agent told it, as far as that is known."""

    @property
    def installed(self) -> Mapping[str, str]:
        """Versions of the runtimes that were measured, by name."""

    def answer(self, trial_id: str, spec: Json) -> Json:
        """Return the record of a trial, marked as replayed; one that was not recorded is `unsupported`."""


def open_recording(path: Path) -> Recording:
    """Open a latency table (`.parquet`) or a trial journal (anything else); the last few are kept open.

    Raises:
        DataError: there is none, or it cannot be used; the text names it.
    """
    try:
        found = path.stat()
    except OSError as error:
        raise DataError(f"the recording {path} cannot be read: {error.strerror or error}") from error
    return _open(path, found.st_mtime_ns, found.st_size)


@lru_cache(maxsize=4)
def _open(path: Path, _modified_ns: int, _size: int) -> Recording:
    # Imported here: pyarrow takes a tenth of a second, and only replay devices need it.
    if path.suffix == ".parquet":
        from hwloop.devices.replay.tablerows import TableRecording

        return TableRecording.open(path)
    from hwloop.devices.replay.journal import JournalRecording

    return JournalRecording.open(path)


def facts_beside(path: Path) -> Json | None:
    """Return the facts that a campaign has kept beside its journal and table; None where there are none.

    `hwloop table build -o t.parquet` keeps `t.device.json`, a study `device.json` in its folder.

    Raises:
        DataError: the file is damaged.
    """
    stem = path.name.removesuffix(".parquet").removesuffix(".ndjson").removesuffix(".trials")
    for kept in (path.parent / f"{stem}.device.json", path.parent / "device.json"):
        try:
            facts = json.loads(kept.read_bytes())["facts"]
        except FileNotFoundError:
            continue
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise DataError(f"{kept}: is damaged ({error}); remove it, and the replay device knows no facts") from error
        if isinstance(facts, dict):
            return facts
    return None


def facts_of_runtimes(model: str | None, versions: Mapping[str, str]) -> Json:
    """Return what can be said of a device of which only the runtimes are known."""
    runtimes = {name: {"import": "ok", "version": version} for name, version in versions.items()}
    return {"model": model, "runtimes": runtimes}


def not_recorded(trial_id: str, spec: Json, reason: str) -> Json:
    """Return the record of a trial that nobody has recorded."""
    return {
        "trial_id": trial_id,
        "spec": spec,
        "status": "unsupported",
        "reasons": [reason],
        "runtime": {"name": spec["runtime"], "version": None, "installed": None},
        "started_at": "",
        "boot_id": None,
        "signal": None,
        "exit_code": None,
        "stderr_tail": "",
        **dict.fromkeys(PARTS),
    }
