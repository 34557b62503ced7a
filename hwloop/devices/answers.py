"""What the host needs to find in an agent's answers, checked before anything is made of them.

The frames are checked by `hwloop_agent.protocol`; this is about the bodies. A field that the host does not use may be
anything: newer agents add some. What is checked is what a table, a report or the next request is made of.
"""

from __future__ import annotations

import math
from base64 import b64decode
from collections.abc import Callable, Mapping
from typing import Any

from hwloop.errors import ProtocolError
from hwloop_agent import protocol

Json = dict[str, Any]
Check = Callable[[Any], bool]

SHOWN_CHARACTERS = 80
TEXT_CHARACTERS = 4000


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _is_amount(value: Any) -> bool:
    return _is_number(value) and value >= 0


def _is_positive(value: Any) -> bool:
    return _is_number(value) and value > 0


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _is_object(value: Any) -> bool:
    return isinstance(value, dict)


def _list_of(check: Check) -> Check:
    return lambda value: isinstance(value, list) and all(check(one) for one in value)


def _maybe(check: Check) -> Check:
    return lambda value: value is None or check(value)


RECORD: Mapping[str, Check] = {
    "trial_id": lambda value: _is_text(value) and protocol.TRIAL_ID.match(value) is not None,
    "spec": lambda value: _is_object(value) and _is_count(value.get("threads")),
    "status": lambda value: _is_text(value) and value in protocol.STATUSES,
    "reasons": _list_of(_is_text),
    "runtime": _is_object,
    "started_at": _is_text,
    "boot_id": _maybe(_is_text),
}
RUNTIME: Mapping[str, Check] = {"name": _is_text, "version": _maybe(_is_text)}
# Of a trial with a number.
LATENCY: Mapping[str, Check] = {
    "median_ns": _is_positive,
    "low_ns": _is_positive,
    "high_ns": _is_positive,
    "samples_ns": _list_of(_is_amount),
}
MEMORY: Mapping[str, Check] = {
    "method": _is_text,
    "peak_bytes": _maybe(_is_count),
    "model_bytes": _maybe(lambda value: isinstance(value, int)),
}
ENERGY: Mapping[str, Check] = {"joules_per_run": _maybe(_is_amount)}
CONDITIONS: Mapping[str, Check] = {
    "pace_ns": _is_positive,
    "canary_ratio": _is_positive,
    "affinity": _list_of(_is_count),
    "throttle": _is_text,
    "governor": _maybe(_is_text),
    "clock_mhz": _maybe(_is_number),
    "temperature_c": _maybe(_is_number),
}
PROFILE: Mapping[str, Check] = {"method": _is_text, "runs": _is_count, "rows": _list_of(_is_object)}
PROFILE_ROW: Mapping[str, Check] = {
    "name": _is_text,
    "op": _is_text,
    "ns": _is_amount,
    "calls": _is_amount,
}
OUTPUTS: Mapping[str, Check] = {
    "outputs": _list_of(lambda value: _is_object(value) and _list_of(_is_count)(value.get("shape")))
}
CANARY: Mapping[str, Check] = {"median_ns": _is_positive, "mad_ns": _is_amount, "n": _is_count}
FACTS: Mapping[str, Check] = {
    "model": _maybe(_is_text),
    "runtimes": lambda value: _is_object(value) and all(_is_object(found) for found in value.values()),
}
POWER: Mapping[str, Check] = {
    "rails": _list_of(
        lambda rail: (
            _is_object(rail)
            and _is_text(rail.get("label"))
            and (rail.get("milliwatts") is None or _is_number(rail["milliwatts"]))
        )
    ),
    "total_of": _list_of(_is_text),
    "counters": _list_of(_is_text),
    "reason": _maybe(_is_text),
}
VERIFIED: Mapping[str, Check] = {"ok": lambda value: isinstance(value, bool)}


def need(found: Any, fields: Mapping[str, Check], where: str) -> Json:
    """Return `found`, an object in which every one of `fields` passes its check.

    Raises:
        ProtocolError: it is not an object, or a field is missing or not what it should be; the text names the field.
    """
    if not isinstance(found, dict):
        raise ProtocolError(f"the agent's {where} is not an object")
    for name, check in fields.items():
        if name not in found:
            raise ProtocolError(f"the agent's {where} lacks {name}")
        if not check(found[name]):
            shown = protocol.clean_text(repr(found[name])[:SHOWN_CHARACTERS], SHOWN_CHARACTERS)
            raise ProtocolError(f"the agent's {where} has no usable {name}: {shown}")
    return found


def cleaned(value: Any) -> Any:
    """Return a JSON value without control characters in any text or key: no terminal escape passes."""
    if isinstance(value, str):
        return protocol.clean_text(value, TEXT_CHARACTERS)
    if isinstance(value, list):
        return [cleaned(one) for one in value]
    if isinstance(value, dict):
        return {cleaned(key): cleaned(one) for key, one in value.items()}
    return value


def check_record(found: Any) -> Json:
    """Return the record of a trial that can be stored, shown and pooled.

    Raises:
        ProtocolError: it cannot; the text names the field.
    """
    record = need(found, RECORD, "record")
    if protocol.spec_digest(record["spec"]) != record["trial_id"].split(":")[0]:
        raise ProtocolError("the agent's record has a spec that is not its trial's")
    need(record["runtime"], RUNTIME, "record.runtime")
    if record["status"] in ("ok", "degraded"):
        latency = need(record.get("latency"), LATENCY, "record.latency")
        if not latency["low_ns"] <= latency["median_ns"] <= latency["high_ns"]:
            raise ProtocolError("the agent's record.latency has a median outside its own interval")
        need(record.get("memory"), MEMORY, "record.memory")
        if record.get("energy") is not None:
            need(record["energy"], ENERGY, "record.energy")
        need(record.get("conditions"), CONDITIONS, "record.conditions")
    elif record.get("conditions") is not None:
        need(record["conditions"], CONDITIONS, "record.conditions")
    if record.get("profile") is not None:
        profile = need(record["profile"], PROFILE, "record.profile")
        for row in profile["rows"]:
            need(row, PROFILE_ROW, "record.profile.rows")
    # The spec is the host's own, and its hash is its name; the samples are numbers.
    plain = {name: part if name in ("spec", "latency") else cleaned(part) for name, part in record.items()}
    if "keep_outputs" in record["spec"] and record.get("outputs") is not None:
        plain["outputs"] = [_kept(one) for one in need(record, OUTPUTS, "record")["outputs"]]
    return plain


def _kept(output: Json) -> Json:
    """Return an output whose values, if any, are whole: they are longer than texts may be, and shown to nobody."""
    values = output.get("values")
    if values is None:
        return {**cleaned(output), "values": None}
    try:
        data = b64decode(values, validate=True)
    except (ValueError, TypeError) as error:
        raise ProtocolError(f"the agent's record has an output whose values cannot be read: {error}") from error
    if len(data) != 4 * math.prod(output["shape"]):
        raise ProtocolError("the agent's record has an output whose values do not fill its shape")
    return {**cleaned(output), "values": values}


def check_facts(found: Any) -> Json:
    """Return facts that can be stored and shown.

    Raises:
        ProtocolError: they cannot; the text names the field.
    """
    facts: Json = cleaned(need(found, FACTS, "facts"))
    if facts.get("power") is not None:
        need(facts["power"], POWER, "facts.power")
    return facts
