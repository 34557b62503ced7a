"""The full pace of each set of CPUs, learned from trial to trial and forgotten at the next boot."""

from __future__ import annotations

import json
import os
from typing import Dict, Optional, Sequence


class PaceBook:
    """A small file in the agent's directory.

    The pace (`pace.py`) depends on the core and on the interpreter, so both are in its key; a reboot may change clocks
    and firmware, so the book of another boot is not read. It is a help, not a result: what cannot be read or written
    costs the next worker a short search and nothing else.
    """

    def __init__(self, path: str, boot_id: Optional[str], interpreter: str) -> None:
        self._path = path
        self._boot_id = boot_id
        self._interpreter = interpreter
        self._paces: Optional[Dict[str, float]] = None

    def _key(self, cpus: Sequence[int]) -> str:
        return f"{self._interpreter} on {','.join(str(cpu) for cpu in cpus)}"

    def _read(self) -> Dict[str, float]:
        if self._paces is None:
            self._paces = {}
            try:
                with open(self._path, encoding="utf-8") as file:
                    content = json.load(file)
                if self._boot_id is not None and content["boot_id"] == self._boot_id:
                    paces = content["pace_ns"]
                    self._paces = {str(key): float(paces[key]) for key in paces if float(paces[key]) > 0}
            except (OSError, ValueError, KeyError, TypeError, AttributeError):
                pass
        return self._paces

    def get(self, cpus: Sequence[int]) -> Optional[float]:
        """Return the pace of these CPUs in ns per canary, None when it is not known."""
        return self._read().get(self._key(cpus))

    def learn(self, cpus: Sequence[int], pace_ns: float) -> None:
        """Keep a pace that is faster than what is known."""
        known = self.get(cpus)
        if known is not None and known <= pace_ns:
            return
        paces = self._read()
        paces[self._key(cpus)] = pace_ns
        temporary = self._path + ".tmp"
        try:
            with open(temporary, "w", encoding="utf-8") as file:
                json.dump({"boot_id": self._boot_id, "pace_ns": paces}, file)
            os.replace(temporary, self._path)
        except OSError:
            pass
