"""A device's facts as lines that a person reads: what a sensor cannot tell is said, not left out."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

UNKNOWN = "unknown"


def fact_rows(told: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return title and text of each fact; what an agent of another version says more is shown as JSON.

    Args:
        told: as the agent answers `facts`.
    """
    rows: list[tuple[str, str]] = []
    for key, value in told.items():
        title = key.replace("_", " ")
        if key == "runtimes" and isinstance(value, Mapping):
            rows += [(f"runtime {name}", _runtime(probe)) for name, probe in value.items()]
        elif key in WRITERS:
            try:
                rows.append((title, WRITERS[key](value)))
            except (KeyError, TypeError, AttributeError, ValueError):
                rows.append((title, json.dumps(value)))
        elif value not in (None, "", [], {}):
            rows.append((title, value if isinstance(value, str) else json.dumps(value)))
    return rows


def _runtime(probe: Any) -> str:
    if not isinstance(probe, Mapping):
        return json.dumps(probe)
    words = [str(probe[part]) for part in ("version", "import", "reason") if probe.get(part)]
    return " ".join(words)


def _cpus(value: Sequence[Any]) -> str:
    return str(len(value))


def _bytes(value: float | None) -> str:
    return UNKNOWN if value is None else f"{value / 2**20:.0f} MiB"


def _board(value: Mapping[str, Any]) -> str:
    text = f"profile {value['profile']}" + (f" ({value['title']})" if value["title"] else "")
    if value["throttle_c"] is not None:
        text += f"; throttles from {value['throttle_c']:g} °C"
    entries = ", ".join(value["compatible"])
    return text + (f"; device tree: {entries}" if entries else "")


def _cpufreq(value: Sequence[Mapping[str, Any]]) -> str:
    lines = [
        f"CPUs {one['cpus']}: {one['governor'] or UNKNOWN}, {_mhz(one['min_khz'])} to {_mhz(one['max_khz'])}"
        for one in value
    ]
    return "\n".join(lines) or f"{UNKNOWN}: no frequency files"


def _mhz(khz: float | None) -> str:
    return UNKNOWN if khz is None else f"{khz / 1000:.0f} MHz"


def _celsius(value: float | None) -> str:
    return UNKNOWN if value is None else f"{value:.1f} °C"


def _thermal(value: Sequence[Mapping[str, Any]]) -> str:
    zones = [f"{zone['type']} {_celsius(zone['temperature_c'])}{' (CPU)' if zone.get('cpu') else ''}" for zone in value]
    return ", ".join(zones) or f"{UNKNOWN}: no thermometer"


def _throttle(value: Mapping[str, Any]) -> str:
    active = [f"{name} = {state}" for name, state in value["live"].items() if state]
    sources = ", ".join(value.get("sources", [])) or "none"
    text = "can be told" if value["certifies"] and not value["doubts"] else UNKNOWN
    text += f" (evidence: {sources}"
    text += "".join(f"; {doubt}" for doubt in value["doubts"]) + ")"
    return text + (f"; NOW: {', '.join(active)}" if active else "")


def _power(value: Mapping[str, Any]) -> str:
    parts = []
    for rail in value["rails"]:
        power = UNKNOWN if rail["milliwatts"] is None else f"{rail['milliwatts'] / 1000:.2f} W"
        parts.append(f"{rail['label']} {power}" + (" (in the total)" if rail["label"] in value["total_of"] else ""))
    parts += [f"{name} counts joules" for name in value["counters"]]
    missing = [label for label in value["total_of"] if label not in [rail["label"] for rail in value["rails"]]]
    parts += [f"{label} is missing" for label in missing] + ([value["reason"]] if value["reason"] else [])
    return ", ".join(parts) or f"{UNKNOWN}: no power sensor"


WRITERS: dict[str, Callable[[Any], str]] = {
    "cpus": _cpus,
    "memory_bytes": _bytes,
    "swap_bytes": _bytes,
    "board": _board,
    "cpufreq": _cpufreq,
    "temperature_c": _celsius,
    "thermal": _thermal,
    "throttle_evidence": _throttle,
    "power": _power,
}
