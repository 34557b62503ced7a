"""The supervisor's three kinds of work, each a worker process or a few in turn: a trial, the facts, the canary."""

from __future__ import annotations

import sys
import time
from typing import Any, Callable, List, NamedTuple, Optional

from hwloop_agent.pace import pace_of
from hwloop_agent.pacebook import PaceBook
from hwloop_agent.placement import place, read_cpus
from hwloop_agent.protocol import Json
from hwloop_agent.runtimes import RUNTIMES, WITHOUT_ARTIFACT
from hwloop_agent.sensors.board import Sensors
from hwloop_agent.sensors.gate import ThermalBook
from hwloop_agent.sysfiles import SysFiles, read_fields, read_text
from hwloop_agent.trialrecord import Start, build_record, verdict
from hwloop_agent.workerprocess import SHUTDOWN, WorkerProcess

PROBE_LIMIT_S = 60.0
CANARY_LIMIT_S = 20.0
PROBED = sorted(set(RUNTIMES) - WITHOUT_ARTIFACT)

Say = Callable[[str, Json], None]
Spawn = Callable[[Json, float], WorkerProcess]


class Machine(NamedTuple):
    """What jobs need of the machine: sensors, the CPUs that may be used, how a worker is started, what was learned."""

    sensors: Sensors
    allowed: List[int]
    spawn: Spawn
    paces: PaceBook
    thermal: ThermalBook

    @property
    def files(self) -> SysFiles:
        """Where the machine's files are."""
        return self.sensors.files

    def request(self, mode: str, threads: int, deadline_s: float, **more: Any) -> Json:
        """Return the request line of a worker with `threads` CPUs of its own.

        Raises:
            ValueError: there are fewer CPUs than threads.
        """
        cpus, rest = place(read_cpus(self.files, self.allowed), threads)
        request: Json = {
            "mode": mode,
            "cpus": cpus,
            "supervisor_cpus": rest,
            "pace_ns": self.paces.get(cpus),
            "deadline_s": deadline_s,
            "helper_cpus": [cpu for cpu in rest if cpu not in cpus],
            "baseline_c": self.thermal.get(),
            "files": self.files._asdict(),
            "board": self.sensors.profile._asdict(),
        }
        request.update(more)
        return request


def oom_kills(files: SysFiles) -> int:
    """Return how often the kernel has killed for memory since boot; 0 where it does not count (before Linux 4.13)."""
    text = read_fields(files.proc("vmstat")).get("oom_kill", "0")
    return int(text) if text.isdigit() else 0


def label_of(seconds: float) -> str:
    """Return a wall-clock label; it orders nothing, boards without a clock begin in 1970."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))


class Job:
    """Work in progress: the worker that runs now, and what follows when it has ended."""

    message_id = 0
    worker: WorkerProcess

    def ended(self) -> bool:
        """The worker has ended: start the next one and return False, or tell the result and return True."""
        raise NotImplementedError


class TrialJob(Job):
    """One trial."""

    def __init__(
        self,
        machine: Machine,
        start: Start,
        artifact_path: Optional[str],
        deadline_s: float,
        finish: Callable[[Json], None],
    ) -> None:
        """Start the trial's worker.

        Raises:
            ValueError: more threads than CPUs.
            OSError: the worker cannot be started.
        """
        self._files = machine.files
        self.start = start
        self._finish = finish
        request = machine.request(
            "trial", start.spec["threads"], deadline_s, spec=start.spec, artifact_path=artifact_path
        )
        self._paces = machine.paces
        self._thermal = machine.thermal
        self._cpus: List[int] = request["cpus"]
        self._oom_kills = oom_kills(self._files)
        self.worker = machine.spawn(request, deadline_s)

    def ended(self) -> bool:
        """See `Job.ended`; a trial that the supervisor's own end interrupted has no record."""
        worker = self.worker
        if worker.exit is None or worker.exit.asked == SHUTDOWN:
            return True
        latency = worker.parts.get("latency")
        if isinstance(latency, dict) and latency.get("canary_ns"):
            self._paces.learn(self._cpus, pace_of(latency["canary_ns"]))
        conditions = worker.parts.get("conditions")
        if isinstance(conditions, dict):
            self._thermal.learn(conditions)
        killed = oom_kills(self._files) > self._oom_kills
        outcome = verdict(worker.result, worker.exit, worker.phase, worker.faults, killed)
        self._finish(build_record(self.start, worker.parts, outcome, worker.exit, worker.stderr_tail))
        return True


class CanaryJob(Job):
    """The canary, on the core that a one-thread trial would have."""

    def __init__(self, machine: Machine, say: Say) -> None:
        """Start it. Raises `OSError` when the worker cannot be started."""
        self._say = say
        self.worker = machine.spawn(machine.request("canary", 1, CANARY_LIMIT_S), CANARY_LIMIT_S)

    def ended(self) -> bool:
        """See `Job.ended`."""
        if self.worker.result is None:
            text = f"the canary's process ended with {self.worker.exit}"
            self._say("error", {"code": "canary", "message": text})
        else:
            self._say("canary", self.worker.result)
        return True


class FactsJob(Job):
    """The facts: files are read here, each runtime is imported in a process of its own, one after the other."""

    def __init__(self, machine: Machine, say: Say, worker_python: str) -> None:
        """Start with the first runtime. Raises `OSError` when the worker cannot be started."""
        from hwloop_agent.facts import read_facts

        self._machine = machine
        self._say = say
        self._facts = read_facts(machine.sensors, machine.allowed)
        self._facts["worker_python"] = worker_python
        self._facts["supervisor_python"] = sys.executable
        self._facts["boot_id"] = read_text(machine.files.proc("sys/kernel/random/boot_id"))
        self._facts["runtimes"] = {}
        self._left = list(PROBED)
        self._probe()

    def _probe(self) -> None:
        self._name = self._left.pop(0)
        request = self._machine.request("probe", 1, PROBE_LIMIT_S, runtime=self._name)
        self.worker = self._machine.spawn(request, PROBE_LIMIT_S)

    def ended(self) -> bool:
        """See `Job.ended`."""
        worker = self.worker
        found = worker.result
        if found is None and worker.exit is not None:
            how = worker.exit.signal or worker.exit.asked or f"exit code {worker.exit.code}"
            imported = worker.parts.get("import") == "ok"
            step, doing = ("run", "its first run") if imported else ("import", "importing it")
            found = dict(worker.parts)
            found.update({step: how, "reason": f"{doing} ended the process: {how}"})
        self._facts["runtimes"][self._name] = found
        if self._left:
            self._probe()
            return False
        self._say("facts", self._facts)
        return True
