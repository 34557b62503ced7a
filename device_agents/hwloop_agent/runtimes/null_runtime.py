"""A runtime without a network: it takes a known time per inference, or misbehaves on request.

It shows what the harness itself adds (estimator bias, interval coverage), and it dies in every way that real runtimes
die, so that what the agent makes of such a death is tested with a real one.

Options, all optional:
    `behaviour`: `spin` (default; busy, as inference is) or `sleep`;
    `distribution`: `constant` (default), `uniform`, `exponential`, `lognormal`;
    `median_us`: the median of one inference, default 100; `spread`: width over median (uniform) or sigma (lognormal);
    `seed`: of the drawn durations;
    `fault`: one of `FAULTS`; `fault_phase`: `importing`, `loading` or `running` (default); `fault_after_runs`;
    `signal`: of the fault `signal`; `exit_code`: of the fault `exit`; `bytes`: of `allocate` and the floods;
    `output`: what the outputs look like: `sane` (default), `nan`, `zero`, `huge`.
"""

from __future__ import annotations

import os
import random
import signal
import sys
import time
from math import exp, log
from typing import Any, Callable, Dict, List

from hwloop_agent.runtimes import Output, Runtime, UnsupportedError

DRAWS = 4096
FAULTS = (
    "signal",
    "exit",
    "raise",
    "hang",
    "hang_ignoring_term",
    "allocate",
    "flood_stderr",
    "print_to_stdout",
    "fork",
)
DEFAULTS: Dict[str, Any] = {
    "behaviour": "spin",
    "distribution": "constant",
    "median_us": 100.0,
    "spread": 0.1,
    "seed": 0,
    "fault": "",
    "fault_phase": "running",
    "fault_after_runs": 0,
    "signal": "SIGSEGV",
    "exit_code": 3,
    "bytes": 1 << 20,
    "output": "sane",
}
OUTPUTS = {
    "sane": Output("output", (1, 10), True, 1.0),
    "nan": Output("output", (1, 10), False, 0.0),
    "zero": Output("output", (1, 10), True, 0.0),
    "huge": Output("output", (1, 10), True, 1e9),
}


def durations_ns(options: Dict[str, Any]) -> List[int]:
    """Return the durations of consecutive inferences; they repeat after `DRAWS`.

    Raises:
        UnsupportedError: an unknown distribution.
    """
    median, spread, kind = options["median_us"] * 1e3, options["spread"], options["distribution"]
    draw = random.Random(options["seed"])
    if kind == "constant":
        return [int(median)]
    if kind == "uniform":
        return [int(median * (1 + spread * (draw.random() - 0.5))) for _ in range(DRAWS)]
    if kind == "exponential":
        return [int(draw.expovariate(log(2) / median)) for _ in range(DRAWS)]
    if kind == "lognormal":
        return [int(median * exp(draw.gauss(0.0, spread))) for _ in range(DRAWS)]
    raise UnsupportedError(f"the null runtime has no distribution {kind}")


class NullRuntime(Runtime):
    """See `Runtime` and the module."""

    name = "null"

    def __init__(self) -> None:
        self._options = dict(DEFAULTS)
        self._runs = 0

    def prepare(self, options: Dict[str, Any]) -> None:
        """See `Runtime.prepare`; all options are taken here, so that the import can misbehave too."""
        unknown = sorted(set(options) - set(DEFAULTS))
        if unknown:
            raise UnsupportedError("the null runtime has no option " + ", ".join(unknown))
        self._options.update(options)
        if self._options["fault"] and self._options["fault"] not in FAULTS:
            raise UnsupportedError("the null runtime has no fault {}".format(self._options["fault"]))

    def _misbehave(self, phase: str) -> None:
        if self._options["fault"] and self._options["fault_phase"] == phase:
            commit(self._options["fault"], self._options)

    def import_(self) -> None:
        """See `Runtime.import_`."""
        self._misbehave("importing")

    def version(self) -> str:
        """See `Runtime.version`."""
        return "1"

    def load(self, path: str, inputs: List[Dict[str, Any]], threads: int, options: Dict[str, Any]) -> None:
        """See `Runtime.load`."""
        self._misbehave("loading")
        self._durations = durations_ns(self._options)

    def settings(self) -> Dict[str, Any]:
        """See `Runtime.settings`."""
        return dict(self._options)

    def runner(self) -> Callable[[], object]:
        """See `Runtime.runner`."""
        durations, clock = self._durations, time.perf_counter_ns
        count, period = 0, len(self._durations)

        def spin() -> None:
            nonlocal count
            until = clock() + durations[count % period]
            count += 1
            while clock() < until:
                pass

        def sleep() -> None:
            nonlocal count
            time.sleep(durations[count % period] / 1e9)
            count += 1

        once = sleep if self._options["behaviour"] == "sleep" else spin
        if not self._options["fault"] or self._options["fault_phase"] != "running":
            return once
        left = int(self._options["fault_after_runs"])

        def once_with_fault() -> None:
            nonlocal left
            if left == 0:
                self._misbehave("running")
            left -= 1
            once()

        return once_with_fault

    def outputs(self) -> List[Output]:
        """See `Runtime.outputs`."""
        return [OUTPUTS[self._options["output"]]]


def commit(fault: str, options: Dict[str, Any]) -> None:
    """Do what `fault` says, for real.

    Raises:
        RuntimeError: the fault `raise`.
        MemoryError: the fault `allocate`, where the machine refuses.
    """
    if fault == "signal":
        number = getattr(signal, options["signal"])
        if number != signal.SIGKILL:
            signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)
        time.sleep(60)
    elif fault == "exit":
        os._exit(options["exit_code"])
    elif fault == "raise":
        raise RuntimeError("raised on request")
    elif fault in ("hang", "hang_ignoring_term"):
        if fault == "hang_ignoring_term":
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
        while True:
            time.sleep(60)
    elif fault == "allocate":
        held = bytearray(options["bytes"])
        held[:: os.sysconf("SC_PAGE_SIZE")] = b"x" * len(range(0, len(held), os.sysconf("SC_PAGE_SIZE")))
    elif fault == "flood_stderr":
        block = b"noise \x1b[31m\xff\n" * 512
        for _ in range(0, options["bytes"], len(block)):
            os.write(2, block)
    elif fault == "print_to_stdout":
        print("printed by the runtime")
        sys.stdout.flush()
        os.write(1, b'{"v":1,"id":1,"seq":1,"type":"bye","body":{}}\n')
    elif fault == "fork" and os.fork() == 0:
        while True:  # a straggler that outlives its parent unless the whole group is killed
            time.sleep(60)
