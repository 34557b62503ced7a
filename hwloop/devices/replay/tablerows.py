"""A latency table as a recording: processes are drawn around its rows."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from hwloop.devices.replay.drawing import draw, spread_between
from hwloop.devices.replay.recording import Json, facts_beside, facts_of_runtimes, not_recorded
from hwloop.devices.replay.workload import workload_of
from hwloop.errors import DataError
from hwloop.tablefile import read_table
from hwloop_agent import protocol

USABLE = ("ok", "degraded")
# A canary and a pace that never change: a table does not tell how they went.
PACE_NS = 100_000.0


@dataclass(frozen=True)
class TableRecording:
    """See `Recording`.

    A trial is answered by the row of its workload, whatever its timing, process and attempt; the last usable row where
    there are several.

    Attributes:
        name: of the table.
        facts: of the device, kept beside the table, or what the rows tell.
        installed: versions of the runtimes.
    """

    name: str
    facts: Mapping[str, Any]
    installed: Mapping[str, str]
    _rows: Mapping[str, Json]
    _spread: float

    @classmethod
    def open(cls, path: Path) -> Self:
        """Read a table.

        Raises:
            DataError: it cannot be read, or no row tells its workload: imported tables do not, nor those of hwloop's
                schema versions 1 and 2.
        """
        table, _ = read_table(path)
        rows: dict[str, Json] = {}
        for row in table.filter(table["workload_sha256"].is_valid()).to_pylist():
            if _is_usable(row) or row["workload_sha256"] not in rows:
                rows[row["workload_sha256"]] = row
        if not rows:
            raise DataError(
                f"no row of {path} tells which artifact was measured, so none can be replayed: it was imported, or"
                " built by an older hwloop; build it again, or replay its trial journal"
            )
        first = next(iter(rows.values()))
        name = first["runtime"].partition(":")[0]
        installed = {name: first["runtime_version"]}
        known = [spread for row in rows.values() if (spread := spread_between(row["process_medians_ms"])) is not None]
        facts = facts_beside(path) or facts_of_runtimes(first["cpu"], installed)
        return cls(path.name, facts, installed, rows, statistics.median(known) if known else 0.0)

    def answer(self, trial_id: str, spec: Json) -> Json:
        """See `Recording.answer`."""
        row = self._rows.get(workload_of(spec))
        if row is None:
            reason = f"not in the recording {self.name}: no row of this artifact, runtime, options and threads"
            return not_recorded(trial_id, spec, reason)
        mark = {"recording": self.name, "key": row["key"]}
        status = row["status"] if row["status"] in protocol.STATUSES else "unsupported"
        own = [] if status == row["status"] else [f"{row['status']} when it was recorded"]
        version = row["runtime_version"]
        record = {
            **not_recorded(trial_id, spec, ""),
            "status": status,
            "reasons": [*own, *row["reasons"]],
            "runtime": {"name": spec["runtime"], "version": version, "installed": version},
            "started_at": row["measured_at"],
            "emulated": row["emulated"],
            "replayed": mark,
        }
        if not _is_usable(row):
            if status in USABLE:
                return not_recorded(trial_id, spec, f"the row of {self.name} has no positive, finite latency")
            return record
        return record | self._parts(trial_id, spec, row, mark)

    def _parts(self, trial_id: str, spec: Json, row: Json, mark: Json) -> Json:
        spread = spread_between(row["process_medians_ms"])
        numbers = (row["low_ms"], row["latency_ms"], row["high_ms"])
        drawn = draw(trial_id, *numbers, self._spread if spread is None else spread)
        return {
            "latency": {
                "samples_ns": list(drawn.samples_ns),
                "runs_per_block": 1,
                "median_ns": drawn.median_ns,
                "low_ns": drawn.low_ns,
                "high_ns": drawn.high_ns,
                "n": len(drawn.samples_ns),
            },
            "memory": {
                "method": f"replayed from {self.name}",
                "peak_bytes": row["peak_bytes"] or None,
                "model_bytes": row["model_bytes"] if row["peak_bytes"] else None,
            },
            "conditions": {
                "pace_ns": PACE_NS,
                "canary_ratio": row["canary_ratio"] or 1.0,
                "affinity": list(range(spec["threads"])),
                "throttle": row["throttle"],
                "governor": row["governor"],
                "clock_mhz": row["clock_mhz"],
                "temperature_c": row["temperature_c"],
                "replayed": mark,
            },
        }


def _is_usable(row: Json) -> bool:
    numbers = (row["low_ms"], row["latency_ms"], row["high_ms"])
    is_known = all(number is not None and math.isfinite(number) and number > 0 for number in numbers)
    return row["status"] in USABLE and is_known
