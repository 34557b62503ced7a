"""A device's health: whether its numbers can be trusted today.

A check sets it, and it is kept until the next one; a person may set `maintenance`, which no check ends, and clear it or
any verdict. Campaigns refuse a device that is `bad` or in `maintenance` (`require_fit`).
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

from hwloop.devices.device import REPLAY, Device
from hwloop.devices.session import AgentSession
from hwloop.errors import AccessError, DeviceBusyError, DeviceError, UserError
from hwloop.files import write_atomic
from hwloop_agent import protocol

UNKNOWN, GOOD, DEGRADED, BAD, MAINTENANCE = "unknown", "good", "degraded", "bad", "maintenance"
SESSION_ID = "health"
# A campaign's artifacts and journal fit into a hundredth of the first; nothing can be stored safely below the second.
LOW_DISK_BYTES, FULL_DISK_BYTES = 500_000_000, 20_000_000
# A quiet core repeats the canary within 1 %.
CANARY_SPREAD_LIMIT = 0.05
CLOCK_LIMIT_S = 60.0
ANCHOR_TIMING = {
    "warmup_s": 0.1,
    "warmup_runs": 3,
    "min_s": 0.2,
    "max_s": 1.0,
    "min_blocks": 5,
    "max_blocks": 500,
    "block_us": 200,
    "target_relative_interval": 0.05,
    "confidence": 0.95,
}


@dataclass(frozen=True)
class Findings:
    """What a check has looked at.

    Attributes:
        canary_spread: MAD over median of the canary.
        trial: the record of the anchor trial, which measures a known pause.
        is_journalled: the device's journal has that record.
        cut_bytes: of a damaged tail of the device's journal.
        free_bytes: that the file system of the agent's directory has left; None: not told.
        clock_off_s: the device's wall clock less ours.
        runtimes: what importing each runtime came to, by name.
        connect_s: from nothing to a session.
    """

    canary_spread: float
    trial: Mapping[str, Any]
    is_journalled: bool
    cut_bytes: int
    free_bytes: int | None
    clock_off_s: float
    runtimes: Mapping[str, str]
    connect_s: float


@dataclass(frozen=True)
class HealthReport:
    """The outcome of a check.

    Attributes:
        health: `good`, `degraded`, `bad`, `maintenance` (a person's word), or `unknown` where there was no check.
        reasons: why it is not good; one line each.
        checked_at: when, in UTC.
        figures: what was found, for people.
    """

    health: str
    reasons: tuple[str, ...] = ()
    checked_at: str = ""
    figures: Mapping[str, Any] = field(default_factory=dict)


def doubt_of_canary(canary: Mapping[str, Any]) -> str | None:
    """Return what is doubtful about an answer of the canary, None where nothing is. Pure."""
    return _doubt_of_spread(canary["mad_ns"] / canary["median_ns"])


def _doubt_of_spread(spread: float) -> str | None:
    if spread <= CANARY_SPREAD_LIMIT:
        return None
    return (
        f"the canary varies by {100 * spread:.1f} % (limit {100 * CANARY_SPREAD_LIMIT:.0f} %):"
        " something else is running there"
    )


def judge(found: Findings) -> tuple[str, tuple[str, ...]]:
    """Return the health that the findings mean, and why it is not good. Pure."""
    bad: list[str] = []
    doubts: list[str] = []
    status = found.trial["status"]
    if status not in ("ok", "degraded"):
        bad.append(f"the anchor trial ended {status}: {'; '.join(found.trial['reasons'])}")
    elif status == "degraded":
        doubts += [f"anchor trial: {reason}" for reason in found.trial["reasons"]]
    if not found.is_journalled:
        bad.append("the device's journal does not keep what was measured: is its disk full or read-only?")
    if found.cut_bytes:
        doubts.append(f"the device's journal had {found.cut_bytes} damaged bytes, which were set aside")
    if found.free_bytes is not None and found.free_bytes < FULL_DISK_BYTES:
        bad.append(f"{found.free_bytes / 1e6:.0f} MB of disk are left (limit {FULL_DISK_BYTES / 1e6:.0f} MB)")
    elif found.free_bytes is not None and found.free_bytes < LOW_DISK_BYTES:
        doubts.append(f"{found.free_bytes / 1e6:.0f} MB of disk are left (limit {LOW_DISK_BYTES / 1e6:.0f} MB)")
    unsteady = _doubt_of_spread(found.canary_spread)
    if unsteady is not None:
        doubts.append(unsteady)
    if abs(found.clock_off_s) > CLOCK_LIMIT_S:
        doubts.append(f"its clock is off by {found.clock_off_s:+.0f} s (limit {CLOCK_LIMIT_S:.0f} s); set up NTP")
    broken = [f"{name} ({how})" for name, how in sorted(found.runtimes.items()) if how not in ("ok", "unsupported")]
    if broken:
        doubts.append(f"cannot be imported there: {', '.join(broken)}")
    if "ok" not in found.runtimes.values():
        doubts.append("it has no runtime that works")
    return (BAD if bad else DEGRADED if doubts else GOOD), (*bad, *doubts)


def check_device(device: Device, on_wait: Callable[[str], None] | None = None) -> HealthReport:
    """Check a device: connect, start its agent, measure a known pause, look at journal, disk and clock.

    A device that cannot be reached, or fails on the way, is bad; that is a result.

    Raises:
        DeviceBusyError: somebody else is measuring there.
        AccessError: it does not prove who it is, or does not let us in.
        UserError: it is a recording, which has no health.
    """
    if device.transport == REPLAY:
        raise UserError(f"{device.name} is a recording: there is nothing on it that could be checked")
    checked_at = datetime.now(UTC).isoformat(timespec="seconds")
    try:
        found = _look(device, on_wait)
    except (DeviceBusyError, AccessError):
        raise
    except DeviceError as error:
        return HealthReport(BAD, (str(error),), checked_at)
    health, reasons = judge(found)
    figures = asdict(found)
    figures["trial"] = {key: found.trial.get(key) for key in ("status", "reasons", "trial_id")}
    return HealthReport(health, reasons, checked_at, figures)


def _look(device: Device, on_wait: Callable[[str], None] | None) -> Findings:
    began = time.monotonic()
    transport = device.open_transport()
    session = AgentSession.open(
        transport,
        session_id=SESSION_ID,
        root=device.root,
        worker_python=device.worker_python,
        on_wait=on_wait,
        board=device.board_profile(),
    )
    with session:
        connect_s = time.monotonic() - began
        canary = session.canary()
        spec: dict[str, Any] = {
            "artifact": None,
            "runtime": "null",
            "options": {},
            "inputs": [],
            "threads": 1,
            "timing": ANCHOR_TIMING,
            "replicate": 0,
        }
        earlier = session.finished()
        trial_id = protocol.trial_id(spec, 1 + len(earlier))
        before = time.time()
        record = session.run_trial(trial_id, spec)
        after = time.time()
        later = session.finished(session.last_seq - 1 if session.last_seq else 0)
        runtimes = session.facts()["runtimes"]
        session.acknowledge(session.last_seq)
        return Findings(
            canary_spread=canary["mad_ns"] / canary["median_ns"],
            trial=record,
            is_journalled=any(one.get("trial_id") == trial_id for one in later),
            cut_bytes=session.hello.cut_bytes,
            free_bytes=transport.free_bytes(session.hello.artifacts),
            clock_off_s=_clock_off(record["started_at"], before, after),
            runtimes={str(name): str(probe.get("import")) for name, probe in runtimes.items()},
            connect_s=connect_s,
        )


def _clock_off(label: str, before: float, after: float) -> float:
    """Seconds from our clock's span to a moment that the device labelled, 0 inside the span."""
    try:
        moment = datetime.fromisoformat(label).timestamp()
    except ValueError:
        return float("inf")
    # The label has whole seconds.
    return min(moment + 1 - before, 0.0) or max(moment - after, 0.0)


def _path(device: Device, environ: Mapping[str, str]) -> Path:
    """Where the health of a device is kept: beside no inventory, it is nothing that a person writes or shares."""
    base = environ.get("XDG_STATE_HOME", "")
    folder = (Path(base) if base.startswith("/") else Path.home() / ".local" / "state") / "hwloop" / "health"
    key = device.ssh.host_key.text if device.ssh is not None and device.ssh.host_key is not None else device.transport
    return folder / f"{device.name}-{sha256(key.encode()).hexdigest()[:12]}.json"


def save_health(device: Device, report: HealthReport, environ: Mapping[str, str] = os.environ) -> None:
    """Keep a report until the next check. Raises `OSError`."""
    path = _path(device, environ)
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    write_atomic(path, json.dumps(asdict(report), indent=1) + "\n")


def load_health(device: Device, environ: Mapping[str, str] = os.environ) -> HealthReport:
    """Return the last report on a device; `unknown` where there is none that can be read."""
    try:
        content = json.loads(_path(device, environ).read_text("utf-8"))
        content["reasons"] = tuple(content["reasons"])
        return HealthReport(**content)
    except (OSError, ValueError, KeyError, TypeError):
        return HealthReport(UNKNOWN)


def begin_maintenance(device: Device, reason: str, environ: Mapping[str, str] = os.environ) -> HealthReport:
    """Set a device to `maintenance` until a person clears it. Raises `OSError`."""
    report = HealthReport(MAINTENANCE, (reason,) if reason else (), datetime.now(UTC).isoformat(timespec="seconds"))
    save_health(device, report, environ)
    return report


def require_fit(device: Device, environ: Mapping[str, str] = os.environ) -> None:
    """Refuse to measure on a device that is known not to be fit.

    Raises:
        UserError: its last check found it bad, or a person has set it to maintenance.
    """
    report = load_health(device, environ)
    why = f": {'; '.join(report.reasons)}" if report.reasons else ""
    if report.health == BAD:
        raise UserError(
            f"device {device.name} is bad since its check of {report.checked_at}{why};"
            f" repair it, then run: hwloop device check {device.name}"
        )
    if report.health == MAINTENANCE:
        raise UserError(
            f"device {device.name} is in maintenance since {report.checked_at}{why};"
            f" end it with: hwloop device mark {device.name} clear"
        )


def forget_health(device: Device, environ: Mapping[str, str] = os.environ) -> None:
    """Forget the last report on a device."""
    _path(device, environ).unlink(missing_ok=True)
