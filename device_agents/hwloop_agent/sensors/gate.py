"""The temperature gate: a trial begins when the board is about as cool as the trials before it found it.

The rule is krun's: every trial starts from the same temperature. The baseline is what the board has when it is cool:
the lowest temperature that a trial of this boot began at. A trial waits until the hottest CPU zone is at most 5 °C
above it. After half a minute it runs all the same and says `timeout`, and the temperature it got down to becomes the
baseline, so that a room that got warmer costs one wait and not one for each trial.
"""

from __future__ import annotations

import json
import os
from typing import Any, Callable, Dict, NamedTuple, Optional

Json = Dict[str, Any]

PASSED, TIMEOUT, UNKNOWN, OFF = "passed", "timeout", "unknown", "off"
ABOVE_C = 5.0
TIMEOUT_S = 30.0
POLL_S = 0.5


class Rule(NamedTuple):
    """How much warmer than the baseline is cool enough, and how long to wait for it (0: not at all)."""

    above_c: float = ABOVE_C
    timeout_s: float = TIMEOUT_S


def wait(
    read: Callable[[], Optional[float]],
    baseline_c: Optional[float],
    rule: Rule,
    clock: Callable[[], float],
    sleep: Callable[[float], None],
) -> Json:
    """Wait until it is cool enough; return how that went.

    `gate`: `passed`, `timeout`, `unknown` (no sensor, or it stopped answering) or `off`; `gate_start_c`: the
    temperature at the end of the wait; `gate_baseline_c`; `gate_wait_s`.
    """
    began = clock()
    while True:
        now_c = read()
        waited = clock() - began
        if rule.timeout_s <= 0:
            verdict = OFF
        elif now_c is None:
            verdict = UNKNOWN
        elif baseline_c is None or now_c <= baseline_c + rule.above_c:
            verdict = PASSED
        elif waited >= rule.timeout_s:
            verdict = TIMEOUT
        else:
            sleep(min(POLL_S, rule.timeout_s - waited))
            continue
        return {
            "gate": verdict,
            "gate_start_c": now_c,
            "gate_baseline_c": baseline_c,
            "gate_wait_s": round(waited, 2),
        }


def next_baseline(known_c: Optional[float], told: Json) -> Optional[float]:
    """Return the baseline after a trial that told this."""
    start_c = told.get("gate_start_c")
    if not isinstance(start_c, (int, float)) or told.get("gate") not in (PASSED, TIMEOUT):
        return known_c
    if known_c is None or told["gate"] == TIMEOUT:
        return float(start_c)
    return min(known_c, float(start_c))


class ThermalBook:
    """The baseline of this boot, in a small file of the agent's directory. A help: what fails here costs no trial."""

    def __init__(self, path: str, boot_id: Optional[str]) -> None:
        self._path = path
        self._boot_id = boot_id
        self._baseline_c: Optional[float] = None
        try:
            with open(path, encoding="utf-8") as file:
                content = json.load(file)
            if boot_id is not None and content["boot_id"] == boot_id:
                self._baseline_c = float(content["baseline_c"])
        except (OSError, ValueError, KeyError, TypeError):
            pass

    def get(self) -> Optional[float]:
        """Return the baseline in °C, None while there is none."""
        return self._baseline_c

    def learn(self, told: Json) -> None:
        """Take what a trial's gate told."""
        baseline = next_baseline(self._baseline_c, told)
        if baseline == self._baseline_c:
            return
        self._baseline_c = baseline
        try:
            with open(self._path + ".tmp", "w", encoding="utf-8") as file:
                json.dump({"boot_id": self._boot_id, "baseline_c": baseline}, file)
            os.replace(self._path + ".tmp", self._path)
        except OSError:
            pass
