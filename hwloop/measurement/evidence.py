"""Which trial kills its board? What speaks against one, and when it is enough.

A loss is a trial that ran when the board rebooted, or when the agent's supervisor died, and that left no record. The
device itself tells (the agent notes what runs, and a boot has an id), so a connection that was cut, a network that
went silent or a host that was killed is never a loss: there the agent goes on, and has the record.

Two losses of one subject are enough to set it aside (`quarantined`), *unless boards or agents die in this campaign
anyway*: somebody may be killing them, the power may be bad. So the losses are held against the campaign's own rate: a
subject is guilty when

    rate ** losses < ALARM / trials,   rate = (losses of others + 1) / (their runs + PRIOR_RUNS)

the chance that an innocent subject is hit so often in a row, with Bonferroni's correction for asking about every trial
of the campaign. In a quiet campaign the second loss is enough; where every tenth run is lost, it takes four. Losses
before a subject's last finished run do not count: it can run. Losses of subjects that were found guilty are explained,
and are no part of the rate. A subject that is lost is tried again after all others, when most is known about the rate.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from hwloop.devices.hello import InFlight
from hwloop.measurement.store import EVENT
from hwloop_agent import protocol

Json = dict[str, Any]

LOST, QUARANTINED, SUPERSEDED = "lost", "quarantined", "superseded"
REBOOT, SUPERVISOR = "reboot", "supervisor"
LEAST_LOSSES = 2
ALARM = 0.05
# As much as is believed of a device before anything was measured: one run in twenty is lost by chance.
PRIOR_RUNS = 20


def subject_of(spec: Mapping[str, Any]) -> str:
    """Return what all processes of one subject have in common: a digest of the spec without its replicate."""
    return protocol.spec_digest({name: spec[name] for name in spec if name != "replicate"})


def reason_of_loss(flight: InFlight, boot_now: str | None, *, is_marked: bool) -> str | None:
    """Return why a trial that was under way has no record: `reboot`, `supervisor`, or None: nothing died.

    Args:
        flight: the trial.
        boot_now: the device's boot id now.
        is_marked: the device says that its supervisor died in the trial.
    """
    if flight.boot_id is not None and boot_now is not None and flight.boot_id != boot_now:
        return REBOOT
    return SUPERVISOR if is_marked else None


def is_guilty(losses: int, others_lost: int, others_finished: int, trials: int) -> bool:
    """Say whether a subject that was lost `losses` times in a row is to blame; see the module's text.

    Args:
        losses: of this subject since its last finished run.
        others_lost: losses of all other subjects.
        others_finished: finished runs of all other subjects.
        trials: of the campaign.
    """
    if losses < LEAST_LOSSES:
        return False
    rate = (others_lost + 1) / (others_lost + others_finished + PRIOR_RUNS)
    return rate**losses < ALARM / max(trials, 1)


@dataclass
class _Case:
    """One subject: its losses since its last finished run, all of them, and its finished runs."""

    recent: list[Json] = field(default_factory=list)
    lost: int = 0
    finished: int = 0
    is_convicted: bool = False


def guilty_subjects(
    entries: Iterable[Mapping[str, Any]], owners: Mapping[str, str], trials: int
) -> dict[str, list[Json]]:
    """Return the subjects that are to be set aside, with the losses that speak against them.

    Args:
        entries: of the host's journal, in order.
        owners: the subject of each spec digest of the campaign.
        trials: of the campaign.
    """
    cases: dict[str, _Case] = {}
    for entry in entries:
        if entry.get(EVENT) == SUPERSEDED:  # somebody wants them to be tried again, whatever was held against them
            for trial_id in entry["trials"]:
                cases.pop(owners.get(trial_id.partition(":")[0], ""), None)
        if entry.get(EVENT, LOST) != LOST:
            continue
        subject = owners.get(str(entry["trial_id"]).partition(":")[0])
        if subject is None:
            continue
        case = cases.setdefault(subject, _Case())
        if entry.get(EVENT) == LOST:
            case.recent.append(dict(entry))
            case.lost += 1
        elif entry["status"] == QUARANTINED:
            case.is_convicted = True
        else:
            case.recent.clear()
            case.finished += 1
    finished = sum(case.finished for case in cases.values())
    found = {subject: case.recent for subject, case in cases.items() if case.is_convicted}
    for subject, case in sorted(cases.items(), key=lambda item: -len(item[1].recent)):
        unexplained = sum(other.lost for name, other in cases.items() if name not in found and name != subject)
        if subject not in found and is_guilty(len(case.recent), unexplained, finished - case.finished, trials):
            found[subject] = case.recent
    return found


def in_words(loss: Mapping[str, Any]) -> str:
    """Return what is known about a loss, in one line."""
    phase = f" while {loss['phase']}" if loss.get("phase") else ""
    if loss["reason"] == REBOOT:
        return f"the board rebooted{phase} (boot {_short(loss['boot_before'])}, then {_short(loss['boot_now'])})"
    return f"the agent's supervisor died{phase} (process {loss['pid']}, boot {_short(loss['boot_now'])})"


def _short(boot_id: str | None) -> str:
    return boot_id[:8] if boot_id else "unknown"


def quarantine_record(trial_id: str, spec: Mapping[str, Any], losses: Iterable[Mapping[str, Any]]) -> Json:
    """Return the record of a trial that is not tried any more; the host makes it, no agent does."""
    evidence = list(losses)
    last = evidence[-1] if evidence else {}
    return {
        "trial_id": trial_id,
        "spec": dict(spec),
        "status": QUARANTINED,
        "reasons": [in_words(loss) for loss in evidence] or ["another process of this subject is quarantined"],
        "runtime": {"name": spec["runtime"], "version": None},
        "started_at": str(last.get("at", "")),
        "boot_id": last.get("boot_now"),
        "signal": None,
        "exit_code": None,
        "stderr_tail": "",
        **dict.fromkeys(("latency", "memory", "conditions", "phases_s", "outputs", "clock_synced", "emulated")),
    }
