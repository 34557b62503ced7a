"""The full pace of each set of CPUs, learned from trial to trial and forgotten at the next boot."""

from __future__ import annotations

import json
import math
import os
from typing import Dict, Optional, Sequence

# The pace is a low quantile of the trials' own, not the fastest of them: a clock that follows its neighbours' load was
# 10 % faster for a moment than it mostly was, and beside that moment every later trial looked slow.
QUANTILE = 0.1
# Paces are counted in steps of half a percent.
STEP = math.log(1.005)


class PaceBook:
    """A small file in the agent's directory: for each set of CPUs, how many trials ran at which pace.

    The pace (`pace.py`) depends on the core and on the interpreter, so both are in its key; a reboot may change clocks
    and firmware, so the book of another boot is not read. It is a help, not a result: what cannot be read or written
    costs the next worker a short search and nothing else.
    """

    def __init__(self, path: str, boot_id: Optional[str], interpreter: str) -> None:
        self._path = path
        self._boot_id = boot_id
        self._interpreter = interpreter
        self._counts: Optional[Dict[str, Dict[int, int]]] = None

    def _key(self, cpus: Sequence[int]) -> str:
        return f"{self._interpreter} on {','.join(str(cpu) for cpu in cpus)}"

    def _read(self) -> Dict[str, Dict[int, int]]:
        if self._counts is None:
            self._counts = {}
            try:
                with open(self._path, encoding="utf-8") as file:
                    content = json.load(file)
                if self._boot_id is not None and content["boot_id"] == self._boot_id:
                    self._counts = {
                        str(key): {int(step): int(count) for step, count in counts.items() if int(count) > 0}
                        for key, counts in content["trials"].items()
                    }
            except (OSError, ValueError, KeyError, TypeError, AttributeError):
                self._counts = {}
        return self._counts

    def get(self, cpus: Sequence[int]) -> Optional[float]:
        """Return the pace of these CPUs in ns per canary, None when it is not known."""
        counts = self._read().get(self._key(cpus)) or {}
        below = QUANTILE * (sum(counts.values()) - 1)
        for step in sorted(counts):
            below -= counts[step]
            if below < 0:
                return math.exp(step * STEP)
        return None

    def learn(self, cpus: Sequence[int], pace_ns: float) -> None:
        """Count the pace that a trial saw."""
        if not pace_ns > 0:
            return
        counts = self._read().setdefault(self._key(cpus), {})
        step = round(math.log(pace_ns) / STEP)
        counts[step] = counts.get(step, 0) + 1
        temporary = self._path + ".tmp"
        try:
            with open(temporary, "w", encoding="utf-8") as file:
                json.dump({"boot_id": self._boot_id, "trials": self._counts}, file)
            os.replace(temporary, self._path)
        except OSError:
            pass
