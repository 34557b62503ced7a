"""The record of a trial, put together from what its worker reported and how it ended. Pure."""

from __future__ import annotations

from typing import Any, Dict, List, NamedTuple, Optional

from hwloop_agent.protocol import MAX_LINE_BYTES, STATUSES, Json, canonical_json, clean_text, parse_json
from hwloop_agent.workerprocess import CANCELLED, TIMEOUT, Exit

STDERR_TAIL_CHARACTERS = 2048
# One line of the protocol, less the envelope around a record.
MAX_RECORD_BYTES = MAX_LINE_BYTES - 4096
PARTS = ("runtime", "latency", "memory", "conditions", "energy", "phases_s", "outputs", "clock_synced")
# Only in the record of a trial that asked for it.
ASKED_PARTS = ("profile",)


class Start(NamedTuple):
    """What is known when a trial begins."""

    trial_id: str
    spec: Json
    started_at: str
    boot_id: Optional[str]
    emulated: bool = False
    installed: Optional[str] = None


def verdict(result: Optional[Json], exit_: Exit, phase: str, faults: List[str], oom_killed: bool) -> Dict[str, Any]:
    """Return `status` and `reasons` of a trial.

    What the worker itself concluded holds, even when it then died on its way out. Otherwise: asked to end, killed by
    the kernel for memory, died by a signal, or left without a word, in this order.
    """
    if result is not None and result.get("status") in STATUSES and isinstance(result.get("reasons"), list):
        return {"status": result["status"], "reasons": result["reasons"]}
    if exit_.asked == CANCELLED:
        return {"status": "cancelled", "reasons": [f"cancelled while {phase}"]}
    if exit_.asked == TIMEOUT:
        return {"status": "timeout", "reasons": list(faults)}
    if exit_.signal == "SIGKILL" and oom_killed:
        return {"status": "oom", "reasons": [f"killed by the kernel for want of memory while {phase}"]}
    if exit_.signal is not None:
        return {"status": "crashed", "reasons": [f"died by {exit_.signal} while {phase}", *faults]}
    return {"status": "crashed", "reasons": [f"exited with code {exit_.code} while {phase}", *faults]}


def build_record(
    start: Start,
    parts: Json,
    outcome: Json,
    exit_: Optional[Exit],
    output: str = "",
) -> Json:
    """Return the record that is journalled and sent; parts that the worker never reached are None."""
    record: Json = {
        "trial_id": start.trial_id,
        "spec": start.spec,
        "status": outcome["status"],
        "reasons": outcome["reasons"],
        "started_at": start.started_at,
        "boot_id": start.boot_id,
        "emulated": start.emulated,
        "signal": exit_.signal if exit_ else None,
        "exit_code": exit_.code if exit_ else None,
        "stderr_tail": clean_text(output, STDERR_TAIL_CHARACTERS),
    }
    for name in PARTS:
        record[name] = parts.get(name)
    for name in ASKED_PARTS:
        if name in start.spec:
            record[name] = parts.get(name)
    if record["runtime"] is None:
        record["runtime"] = {"name": start.spec["runtime"], "version": None}
    if isinstance(record["runtime"], dict):
        record["runtime"]["installed"] = start.installed
    fault = _unfit(record)
    if fault:
        # A network with a hundred thousand outputs, or a runtime that wrote into the report.
        record.update(dict.fromkeys(name for name in (*PARTS, *ASKED_PARTS) if name in record))
        record["runtime"] = {"name": start.spec["runtime"], "version": None, "installed": start.installed}
        record.update(status="invalid", reasons=[f"its record cannot be sent: {fault}"])
    return record


def _unfit(record: Json) -> str:
    """Return why a record cannot be journalled and sent, "" when it can."""
    try:
        line = canonical_json(record)
        if len(line) > MAX_RECORD_BYTES:
            return f"it takes {len(line)} bytes (limit {MAX_RECORD_BYTES})"
        parse_json(b"[[[[" + line + b"]]]]")  # the journal's and the message's own nesting
    except ValueError as error:
        return str(error)
    return ""
