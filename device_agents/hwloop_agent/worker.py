"""One trial in one disposable process: confine oneself, pin, import the runtime, load, warm up, time, report.

The supervisor starts it with one JSON line on stdin and a private pipe for the report; stdout and stderr go to the
supervisor's bounded capture. Every fact is reported as soon as it is known, so whatever kills this process, the
supervisor has all that came before.
"""

from __future__ import annotations

import gc
import os
import resource
import signal
import sys
import time
from typing import Any, Callable, Dict, List, NoReturn, Optional

from hwloop_agent import conditions, memory, pace, statistics, timing
from hwloop_agent.protocol import Json, canonical_json, parse_json
from hwloop_agent.runtimes import RUNTIMES, InvalidArtifactError, Runtime, UnsupportedError, output_faults
from hwloop_agent.sensors import admission, energy, gate
from hwloop_agent.sensors.board import Sensors
from hwloop_agent.sensors.profile import parse_profile
from hwloop_agent.spec import check_gate, check_timing
from hwloop_agent.sysfiles import SysFiles

MAX_OPEN_FILES = 1024
MAX_FILE_BYTES = 256 << 20
# A record fits one line of the protocol.
MAX_PROFILE_ROWS = 4000
MAX_KEPT_OUTPUTS = 4
PR_SET_PDEATHSIG = 1
OUT_OF_MEMORY_TEXTS = ("bad_alloc", "bad allocation", "failed to allocate", "out of memory", "cannot allocate memory")

Emit = Callable[[Json], None]


def confine(request: Json) -> None:
    """Make this process the first to die, unable to outlive its supervisor, and pinned; before any import."""
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != request["supervisor_pid"]:
        os._exit(1)  # it died before the line above
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    cpu_seconds = int(request["deadline_s"] * max(len(request["cpus"]), 1)) + 60
    for name, limit in (
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_NOFILE, MAX_OPEN_FILES),
        (resource.RLIMIT_FSIZE, MAX_FILE_BYTES),
        # A backstop only: the supervisor's deadline comes first.
        (resource.RLIMIT_CPU, cpu_seconds),
    ):
        hard = resource.getrlimit(name)[1]
        wanted = limit if hard == resource.RLIM_INFINITY else min(limit, hard)
        resource.setrlimit(name, (wanted, wanted))
    try:
        with open("/proc/self/oom_score_adj", "w") as file:
            file.write("1000")
    except OSError:
        pass  # some containers refuse; the kernel then chooses by size, which is mostly this process anyway
    if request["cpus"]:
        os.sched_setaffinity(0, request["cpus"])


class Trial:
    """Runs one trial and reports it part by part through `emit`."""

    def __init__(self, request: Json, emit: Emit, sensors: Sensors) -> None:
        self._spec: Json = request["spec"]
        self._artifact: Optional[str] = request["artifact_path"]
        self._cpus: List[int] = request["cpus"]
        self._known_pace_ns: Optional[float] = request["pace_ns"]
        self._emit = emit
        self._sensors = sensors
        self._files = sensors.files
        self._helper_cpus: List[int] = request["helper_cpus"]
        self._baseline_c: Optional[float] = request["baseline_c"]
        # The host's deadline knows nothing of the wait: it must leave most of it to the trial.
        self._longest_wait_s: float = request["deadline_s"] / 3
        self._phases: Dict[str, float] = {}
        self._memory: Json = {}

    def _part(self, **part: Any) -> None:
        self._emit({"event": "part", "part": part})

    def _phase(self, name: str) -> float:
        self._emit({"event": "phase", "phase": name})
        return time.perf_counter()

    def _ended(self, name: str, began: float) -> None:
        self._phases[name] = round(time.perf_counter() - began, 6)
        self._part(phases_s=self._phases)

    def run(self) -> Json:
        """Do the trial; return its `status` and `reasons`. Any exception is the runtime's, and the caller's to name."""
        spec = self._spec
        if spec["runtime"] not in RUNTIMES:
            raise UnsupportedError("this agent has no runtime {}".format(spec["runtime"]))
        runtime = RUNTIMES[spec["runtime"]]()
        runtime.prepare(spec["options"])
        meter = memory.open_meter(self._files)
        self._part(clock_synced=conditions.clock_synced())
        gated = self._wait_until_cool()
        power = energy.open_meter(self._files, self._sensors.profile, self._helper_cpus)

        began = self._phase("importing")
        meter.start()
        runtime.import_()
        self._memory.update(method=meter.method, import_peak_bytes=meter.peak())
        self._part(runtime={"name": runtime.name, "version": runtime.version()}, memory=self._memory)
        self._ended("import", began)

        began = self._phase("loading")
        meter.start()
        self._memory["base_bytes"] = memory.resident_bytes(self._files)
        if "profile" in spec:
            runtime.start_profile(os.getcwd())
        self._load(runtime)
        self._memory["load_peak_bytes"] = meter.peak()
        about = {"name": runtime.name, "version": runtime.version(), "settings": runtime.settings()}
        self._part(runtime=about, memory=self._memory)
        self._ended("load", began)
        return self._time(runtime, meter, power, gated)

    def _wait_until_cool(self) -> Json:
        """Refuse what does not fit into memory, then wait for a cool board; return how the wait went."""
        began = self._phase("gating")
        refusal = admission.refusal(self._files, self._spec)
        if refusal is not None:
            raise UnsupportedError(refusal)
        rule = check_gate(self._spec["gate"]) if "gate" in self._spec else gate.Rule()
        rule = rule._replace(timeout_s=min(rule.timeout_s, self._longest_wait_s))
        told = gate.wait(self._sensors.temperature_c, self._baseline_c, rule, time.monotonic, time.sleep)
        self._ended("gate", began)
        return told

    def _load(self, runtime: Runtime) -> None:
        spec = self._spec
        runtime.load(self._artifact or "", spec["inputs"], spec["threads"], spec["options"])
        if self._artifact is not None:
            self._memory["artifact_bytes"] = os.path.getsize(self._artifact)

    def _time(self, runtime: Runtime, meter: memory.Meter, power: energy.Meter, gated: Json) -> Json:
        rules = check_timing(self._spec["timing"])
        run, clock = runtime.runner(), time.perf_counter_ns

        began = self._phase("warmup")
        meter.start()
        run()
        gc.collect()
        gc.disable()
        warm = timing.warm_up(run, rules, clock)
        outputs = runtime.outputs()
        meter.pause()
        kept = MAX_KEPT_OUTPUTS if "keep_outputs" in self._spec else 0
        self._part(outputs=[output.to_json(index < kept) for index, output in enumerate(outputs)])
        self._ended("warmup", began)

        began = self._phase("measuring")
        known = self._known_pace_ns
        if known is None:
            known = pace.pace_of(pace.search(clock))
        before = conditions.look(self._sensors, self._cpus)
        power.start()
        timing.time_block(run, warm.runs_per_block, clock)  # the look has cooled the caches
        used_before = conditions.read_usage(self._files, self._cpus, clock(), time.process_time_ns())
        samples = timing.measure(run, warm.runs_per_block, rules, clock, known)
        used_after = conditions.read_usage(self._files, self._cpus, clock(), time.process_time_ns())
        runs = len(samples.samples_ns) * samples.runs_per_block
        used_energy = power.stop(runs, sum(samples.samples_ns) * samples.runs_per_block / 1e9)
        power.close()
        after = conditions.look(self._sensors, self._cpus)
        self._ended("measure", began)

        self._finish_memory(runtime, meter)
        found = conditions.compare(
            before, after, conditions.used_ratios(used_before, used_after, self._cpus), self._cpus
        )
        found.update(conditions.paced(samples))
        found.update(gated)
        self._part(energy=used_energy)
        self._part(latency=_latency(samples, warm, rules.confidence), conditions=found, memory=self._memory)
        if "profile" in self._spec:
            self._part(profile=self._profile(runtime))
        faults = output_faults(outputs)
        if faults:
            return {"status": "invalid", "reasons": faults}
        reasons = conditions.degradations(found)
        return {"status": "degraded" if reasons else "ok", "reasons": reasons}

    def _profile(self, runtime: Runtime) -> Json:
        began = self._phase("profiling")
        found = runtime.profile()
        rows = found["rows"]
        found["rows"], found["rows_left_out"] = rows[:MAX_PROFILE_ROWS], max(len(rows) - MAX_PROFILE_ROWS, 0)
        self._ended("profile", began)
        return found

    def _finish_memory(self, runtime: Runtime, meter: memory.Meter) -> None:
        figures = self._memory
        figures["run_peak_bytes"] = meter.peak()
        meter.close()
        peaks = [figures[name] for name in ("load_peak_bytes", "run_peak_bytes") if figures[name] is not None]
        figures["peak_bytes"] = max(peaks) if peaks else None
        known = peaks and figures["base_bytes"] is not None
        figures["model_bytes"] = figures["peak_bytes"] - figures["base_bytes"] if known else None
        figures.setdefault("artifact_bytes", 0)
        own = runtime.memory_stats()
        if own:
            figures["runtime"] = own


def _latency(samples: timing.Samples, warm: timing.WarmUp, confidence: float) -> Json:
    summary = statistics.summarize(samples.used_ns, confidence)
    return {
        "samples_ns": samples.samples_ns,
        "canary_ns": samples.canary_ns,
        "runs_per_block": samples.runs_per_block,
        "warmup_runs": warm.runs,
        "warmup_steady": warm.steady,
        "stopped_by": samples.stopped_by,
        "median_ns": round(summary.median, 1),
        "low_ns": round(summary.low, 1),
        "high_ns": round(summary.high, 1),
        "mad_ns": round(summary.mad, 1),
        "min_ns": round(summary.minimum, 1),
        "p90_ns": None if summary.p90 is None else round(summary.p90, 1),
        "n": summary.n,
        "all_median_ns": round(statistics.median(samples.samples_ns), 1),
    }


def _said(error: BaseException) -> str:
    return "{}: {}".format(type(error).__name__, str(error).strip().split("\n", 1)[0][:300])


def verdict_on(error: Exception, phase: str, runtime: str) -> Json:
    """Return the status and reasons of a trial that ended with a Python exception in `phase`.

    A runtime that is not installed is `unsupported`; one that is installed and fails to import (a missing symbol, the
    wrong numpy) has `crashed`, and its text says why.
    """
    text = _said(error).lower()
    if isinstance(error, MemoryError) or any(words in text for words in OUT_OF_MEMORY_TEXTS):
        return {"status": "oom", "reasons": [f"{_said(error)} while {phase}"]}
    if isinstance(error, UnsupportedError):
        return {"status": "unsupported", "reasons": [str(error)]}
    if isinstance(error, InvalidArtifactError):
        return {"status": "invalid", "reasons": [str(error)]}
    if isinstance(error, ModuleNotFoundError) and phase == "importing":
        text = f"{runtime} needs {error.name}, which is not installed in {sys.executable}"
        return {"status": "unsupported", "reasons": [text]}
    return {"status": "crashed", "reasons": [f"{_said(error)} while {phase}"]}


def probe(runtime_name: str, emit: Emit) -> Json:
    """Import one runtime and run a tiny network in it, as `facts` asks; return what came of it.

    `import` and `run` are `ok`, or how the step ended; no `run` where the runtime has no network to try. What was
    reached is reported before the step that may kill this process.
    """
    found: Json = {}
    step, doing = "import", "importing"
    try:
        runtime = RUNTIMES[runtime_name]()
        runtime.import_()
        found.update({"import": "ok", "version": runtime.version()})
        found.update(runtime.about())
        emit({"event": "part", "part": found})
        step, doing = "run", "running a tiny network"
        if runtime.try_out():
            found["run"] = "ok"
    except Exception as error:
        found.update({step: verdict_on(error, doing, runtime_name)["status"], "reason": _said(error)})
    return found


def serve_request(request: Json, emit: Emit) -> None:
    """Do what one request asks and report it: a trial, the probe of a runtime, or the canary."""
    if request["mode"] == "canary":
        emit({"event": "done", "result": pace.summary(pace.search(time.perf_counter_ns))})
        return
    if request["mode"] == "probe":
        emit({"event": "done", "result": probe(request["runtime"], emit)})
        return
    phase = "starting"

    def note_phase(event: Json) -> None:
        nonlocal phase
        phase = event.get("phase", phase)
        emit(event)

    try:
        sensors = Sensors(SysFiles(**request["files"]), parse_profile(request["board"]))
        result = Trial(request, note_phase, sensors).run()
    except Exception as error:
        result = verdict_on(error, phase, request["spec"]["runtime"])
    emit({"event": "done", "result": result})


def main(report: int) -> NoReturn:
    """Read the request from stdin, serve it, and leave without the runtimes' own clean-up, which may hang or crash."""
    os.set_inheritable(report, False)
    request = parse_json(sys.stdin.buffer.readline())
    empty = os.open(os.devnull, os.O_RDONLY)
    os.dup2(empty, 0)
    os.close(empty)
    confine(request)

    def emit(event: Json) -> None:
        line = memoryview(canonical_json(event) + b"\n")
        while line:
            line = line[os.write(report, line) :]

    serve_request(request, emit)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)
