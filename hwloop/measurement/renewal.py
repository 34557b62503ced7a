"""Which finished trials are not to be reused: another version of the runtime is there now, or somebody wants a retry.

A trial's id does not hold the version of its runtime: what a device has is found out there. So a record is compared
with what lies in the workers' environment now (`Hello.installed`); what differs is measured again, as the next attempt,
and an event in the journal says which records were superseded. A campaign that has a number for everything is left
alone, and does not even connect: its table says with which version it was measured.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeVar

from hwloop.devices.hello import Hello
from hwloop.measurement.evidence import QUARANTINED, SUPERSEDED
from hwloop.measurement.measurement import USABLE
from hwloop.measurement.store import EVENT, TrialStore
from hwloop.measurement.trial import Trial
from hwloop.progress import Progress

Subject = TypeVar("Subject")
Planned = Sequence[tuple[Subject, Trial]]


def renew(
    planned: Planned[Subject],
    store: TrialStore,
    peek: Callable[[], Hello],
    progress: Progress,
    *,
    retry_failed: bool,
) -> list[tuple[Subject, Trial]]:
    """Return the plan with the attempt that each trial begins with; what was superseded is noted in the store.

    Args:
        planned: the campaign's first attempts.
        store: its trials.
        peek: asks the device what it has; only called when something may be out of date.
        progress: told what is measured again, and why.
        retry_failed: also supersede trials without a number.
    """
    current = _from_first_valid(planned, store)
    if retry_failed:
        failed = _records(current, store, lambda record: record["status"] not in USABLE)
        _supersede(store, failed, "failed")
        if failed:
            statuses = Counter(record["status"] for record in failed)
            named = ", ".join(f"{count} {status}" for status, count in sorted(statuses.items()))
            progress.say(f"tried once more: {named}")
        current = _from_first_valid(planned, store)
    known = [trial for _, trial in current if trial.id in store]
    is_settled = len(known) == len(current) and all(
        store[trial.id]["status"] in (*USABLE, QUARANTINED) for trial in known
    )
    if not known or is_settled:
        return current
    installed = peek().installed
    stale = _records(current, store, lambda record: _is_stale(record, installed))
    _supersede(store, stale, "another version")
    for (name, was), count in Counter((r["runtime"]["name"], _version(r)) for r in stale).items():
        trials = "1 trial was" if count == 1 else f"{count} trials were"
        progress.say(
            f"{trials} measured with {name} {was or 'of an unknown version'}, the device now has {installed[name]}:"
            " measured again"
        )
    return _from_first_valid(planned, store)


def _from_first_valid(planned: Planned[Subject], store: TrialStore) -> list[tuple[Subject, Trial]]:
    """Let each trial begin with the attempt after its last superseded one."""
    first: dict[str, int] = {}
    for event in store.events:
        for trial_id in event["trials"] if event[EVENT] == SUPERSEDED else ():
            digest, _, attempt = trial_id.partition(":")
            first[digest] = max(first.get(digest, 1), int(attempt) + 1)
    return [(subject, replace(trial, attempt=first.get(trial.id.partition(":")[0], 1))) for subject, trial in planned]


def _records(
    planned: Planned[Subject], store: TrialStore, is_wanted: Callable[[Mapping[str, Any]], bool]
) -> list[Mapping[str, Any]]:
    """The last attempts in the store of the trials whose last attempt is wanted."""
    found: dict[str, Mapping[str, Any]] = {}
    for _, trial in planned:
        while trial.id in store and (later := replace(trial, attempt=trial.attempt + 1)).id in store:
            trial = later
        if trial.id in store and is_wanted(store[trial.id]):
            found[trial.id] = store[trial.id]
    return list(found.values())


def _supersede(store: TrialStore, records: Sequence[Mapping[str, Any]], why: str) -> None:
    if records:
        store.note(SUPERSEDED, trials=[record["trial_id"] for record in records], why=why)


def _version(record: Mapping[str, Any]) -> str | None:
    runtime = record["runtime"]
    version = runtime.get("installed") or runtime.get("version")
    return None if version is None else str(version)


def _is_stale(record: Mapping[str, Any], installed: Mapping[str, str]) -> bool:
    """Whether a record is of another version than the device has; of an unknown version, only if it failed.

    A version that a runtime says of itself can be spelled differently from its package's; what the package says is in
    the records of agents that knew it, and only equals are compared.
    """
    now = installed.get(str(record["runtime"]["name"]))
    if now is None or record["status"] == QUARANTINED:
        return False
    was = record["runtime"].get("installed")
    if was is not None:
        return bool(was != now)
    return record["runtime"].get("version") is None and record["status"] not in USABLE
