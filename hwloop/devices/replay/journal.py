"""A trial journal as a recording: every process that was measured answers as it did."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from hwloop.devices.replay.recording import Json, facts_beside, facts_of_runtimes, not_recorded
from hwloop.devices.replay.workload import FIRST_ANCHOR, workload_of
from hwloop.errors import DataError
from hwloop_agent import protocol
from hwloop_agent.journal import read_records

Attempts = dict[int, Json]


@dataclass(frozen=True)
class JournalRecording:
    """See `Recording`.

    A trial that is in the journal gets its own record. One that asks for the same workload under another timing
    protocol gets the recorded process of the same number, and an anchor one of them by turns; a process or an attempt
    beyond the recorded ones is not made up.

    Attributes:
        name: of the journal.
        facts: of the device, kept beside the journal.
        installed: versions of the runtimes.
    """

    name: str
    facts: Mapping[str, Any]
    installed: Mapping[str, str]
    _records: Mapping[str, Json]
    _workloads: Mapping[str, Mapping[int, Attempts]]

    @classmethod
    def open(cls, path: Path) -> Self:
        """Read a journal; a damaged tail is left out, as a campaign would, and nothing is changed.

        Raises:
            DataError: there is none, or there is no trial in it.
        """
        if not path.is_file():
            raise DataError(f"there is no trial journal at {path}")
        try:
            entries, _ = read_records(path)
        except OSError as error:
            raise DataError(f"trial journal {path} cannot be read: {error.strerror or error}") from error
        trials = [entry for entry in entries if "trial_id" in entry and "spec" in entry and "event" not in entry]
        if not trials:
            raise DataError(f"{path} has no trial that could be replayed: is it a trial journal (*.trials.ndjson)?")
        installed = _installed(trials)
        facts = facts_beside(path) or facts_of_runtimes(None, installed)
        return cls(path.name, facts, installed, {trial["trial_id"]: trial for trial in trials}, _by_workload(trials))

    def answer(self, trial_id: str, spec: Json) -> Json:
        """See `Recording.answer`."""
        found: Json | str = self._records.get(trial_id) or self._similar(trial_id, spec)
        if isinstance(found, str):
            return not_recorded(trial_id, spec, f"not in the recording {self.name}: {found}")
        conditions = found.get("conditions")
        mark = {"recording": self.name, "trial_id": found["trial_id"]}
        record = {**found, "trial_id": trial_id, "spec": spec, "replayed": mark}
        if isinstance(conditions, dict):
            record["conditions"] = {**conditions, "replayed": mark}
        if record["status"] not in protocol.STATUSES:  # the host's own verdict: no agent answers with it
            reasons = [f"{found['status']} when it was recorded", *found["reasons"]]
            record |= {"status": "unsupported", "reasons": reasons}
        return record

    def _similar(self, trial_id: str, spec: Json) -> Json | str:
        """Return the record that stands for a trial of another protocol, or why there is none."""
        processes = self._workloads.get(workload_of(spec))
        if not processes:
            return "nothing of this artifact, runtime, options and threads was measured"
        numbers = sorted(processes)
        replicate, attempt = spec["replicate"], int(trial_id.partition(":")[2])
        if replicate >= FIRST_ANCHOR:
            attempts = processes[numbers[replicate % len(numbers)]]
            return attempts[min(attempts)]
        own = [number for number in numbers if number < FIRST_ANCHOR]
        if replicate >= len(own):
            return f"{len(own)} processes of it were measured, this is number {replicate + 1}"
        attempts = processes[own[replicate]]
        if attempt > len(attempts):
            return f"{len(attempts)} attempts of this process were made, this is number {attempt}"
        return attempts[sorted(attempts)[attempt - 1]]


def _by_workload(trials: Iterable[Json]) -> dict[str, dict[int, Attempts]]:
    found: dict[str, dict[int, Attempts]] = {}
    for trial in trials:
        attempt = int(trial["trial_id"].partition(":")[2])
        processes = found.setdefault(workload_of(trial["spec"]), {})
        processes.setdefault(trial["spec"]["replicate"], {}).setdefault(attempt, trial)
    return found


def _installed(trials: Iterable[Json]) -> dict[str, str]:
    """The last version of each runtime that a trial tells."""
    found = {}
    for trial in trials:
        version = trial["runtime"].get("installed") or trial["runtime"].get("version")
        if version is not None:
            found[str(trial["runtime"]["name"])] = str(version)
    return found
