"""Can the numbers be trusted? hwloop beside an independent plain loop, beside itself, beside a hog, beside the truth.

`python -m tests.benchmarks trust [--quick] [--networks 20] [--layers 50] [--json FILE] [--again FILE] [--only PART …]`

- `plain`: every subject is measured by a campaign on this machine, and by `plain_loop.py`, a few lines of onnxruntime
  in a process of its own on the same CPU, right before or right after each trial (drawn). Printed: ratios of hwloop's
  number to readings of the plain loop's samples, see `READINGS`.
- `--again`: ratios to the numbers of an earlier run's `--json` file.
- `hog`: how many trials are flagged with a busy loop on the trials' CPU, with one on another CPU, and with none.
- `null`: a runtime whose median is known: the estimator's bias, and how often the interval contains the truth.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

from hwloop.devices import AgentSession, local_device
from hwloop.measurement import CampaignPlan, Subject, TimingProtocol, TrialStore, noise_floor, run_campaign
from hwloop.progress import Silent
from hwloop_agent import protocol
from tests.benchmarks.subjects import layers, networks

PLAIN_S = 0.5
BAR = (0.98, 1.02)
PARTS = ("plain", "hog", "null")

READINGS = {
    "at full pace": "hwloop's number over the median of the plain loop's blocks between two of its own fixed sums that"
    " ran at the core's full pace: the same question, answered by other code",
    "all blocks": "the median of ALL blocks of both, hwloop's choice of clean blocks switched off: what the harness"
    " itself adds, as far as the core's changes of pace let it be seen",
    "as it comes": "hwloop's number over the median of all plain blocks, the core's slow moments too: how far a plain"
    " loop is off on a shared core; the same thing as the others where nothing is shared",
}
FULL_PACE = 1.06
"""A sum within so much of the fastest ones (their 2 % quantile) ran at full pace."""
FEWEST = 8
"""A median of fewer blocks is none."""


def main(options: Sequence[str] = ()) -> None:
    """Print all figures."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks trust")
    parser.add_argument("--quick", action="store_true", help="few subjects, one process each, for a look")
    parser.add_argument("--networks", type=int, help="how many (20; quick: 2)")
    parser.add_argument("--layers", type=int, help="how many (50; quick: 4)")
    parser.add_argument("--json", type=Path, help="write the numbers there")
    parser.add_argument("--again", type=Path, help="compare with the numbers of an earlier run")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS), help="parts to run")
    given = parser.parse_args(options)
    if "plain" in given.only:
        chosen = networks(given.networks if given.networks is not None else 2 if given.quick else 20)
        chosen += layers(given.layers if given.layers is not None else 4 if given.quick else 50)
        found = beside_a_plain_loop(chosen, processes=1 if given.quick else 2)
        if given.json:
            given.json.write_text(json.dumps(found, indent=1))
        if given.again:
            _compare(found, json.loads(given.again.read_text()))
    if "hog" in given.only:
        beside_a_hog(layers(3 if given.quick else 12), 1 if given.quick else 2)
    if "null" in given.only:
        coverage(16 if given.quick else 200)


@dataclass
class Pairing:
    """An agent session that times each trial's artifact with the plain loop too, right before or right after it.

    Attributes:
        session: the agent's.
        subjects: key and artifact by the artifact's hash.
        folder: where the artifacts' files are.
        found: what the plain loop printed, an item per process, by key.
    """

    session: AgentSession
    subjects: dict[str, Subject]
    folder: Path
    found: dict[str, list[dict[str, list[float]]]]
    draw: Random = field(default_factory=lambda: Random(5))
    cpus: str = ""

    def run_trial(self, trial_id: str, spec: dict[str, Any]) -> dict[str, Any]:
        subject = self.subjects.get((spec["artifact"] or {}).get("sha256"))
        if subject is None:  # the campaign's anchor
            return self.session.run_trial(trial_id, spec)
        first = self.draw.random() < 0.5
        if first and self.cpus:
            self._time(subject, spec["threads"])
        record = self.session.run_trial(trial_id, spec)
        self.cpus = ",".join(map(str, record["conditions"]["affinity"]))
        if not first or len(self.found[subject.key]) == 0:
            self._time(subject, spec["threads"])
        return record

    def _time(self, subject: Subject, threads: int) -> None:
        path = self.folder / f"{subject.artifact.sha256}.onnx"
        if not path.exists():
            path.write_bytes(subject.artifact.data)
        shapes = json.dumps({one.name: one.shape for one in subject.artifact.inputs})
        argv = [sys.executable, str(Path(__file__).with_name("plain_loop.py")), str(path), shapes, str(threads)]
        done = subprocess.run([*argv, self.cpus, str(PLAIN_S)], check=True, capture_output=True)
        self.found[subject.key].append(json.loads(done.stdout))

    def put_artifact(self, data: bytes, sha256: str, suffix: str) -> None:
        self.session.put_artifact(data, sha256, suffix)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.session, name)


@contextmanager
def _bench() -> Iterator[tuple[Path, TrialStore]]:
    with tempfile.TemporaryDirectory() as root, TrialStore(Path(root) / "trials.ndjson") as store:
        yield Path(root), store


def _open(root: Path) -> AgentSession:
    device = local_device()
    return AgentSession.open(device.open_transport(), session_id="trust", root=root, worker_python=device.worker_python)


def beside_a_plain_loop(subjects: Sequence[Subject], processes: int) -> dict[str, Any]:
    """Measure the subjects both ways; print the ratios; return the numbers in ms, by key."""
    began = time.monotonic()
    plain: dict[str, list[dict[str, list[float]]]] = {subject.key: [] for subject in subjects}
    by_hash = {subject.artifact.sha256: subject for subject in subjects}
    with _bench() as (root, store):
        measured = run_campaign(
            subjects,
            CampaignPlan(processes=processes),
            store,
            lambda: Pairing(_open(root), by_hash, root, plain),
            Silent(),
            "trust",
        )
        records = {key: [store[trial_id] for trial_id in one.trial_ids] for key, one in measured.items()}
    numbers: dict[str, Any] = {}
    for key, one in measured.items():
        if not one.usable:
            print(f"  {key}: {one.status} {'; '.join(one.reasons)}")
            continue
        usable = [record for record in records[key] if record["latency"] is not None]
        numbers[key] = {
            "hwloop_ms": one.latency_ms,
            "hwloop_all_ms": statistics.median(record["latency"]["all_median_ns"] for record in usable) / 1e6,
            "hwloop_processes_ms": one.process_medians_ms,
            "status": one.status,
            "clean": sum(record["conditions"]["clean_blocks"] for record in usable)
            / sum(record["conditions"]["blocks"] for record in usable),
            "plain_ms": statistics.median(statistics.median(one["plain"]) for one in plain[key]) / 1e6,
            "plain_processes_ms": [statistics.median(one["plain"]) / 1e6 for one in plain[key]],
            "plain_full_pace_processes_ms": [ns / 1e6 for ns in map(_full_pace_ns, plain[key]) if ns is not None],
        }
    seconds = time.monotonic() - began
    degraded = sum(one["status"] != "ok" for one in numbers.values())
    clean = [one["clean"] for one in numbers.values()]
    print(f"{len(numbers)} subjects, {processes} processes each both ways, {seconds:.0f} s; {degraded} degraded;"
          f" {100 * statistics.mean(clean):.0f} % of hwloop's blocks at full pace")  # fmt: skip
    print(f"ratio hwloop / plain loop (bar: median within {BAR[0]:.2f} to {BAR[1]:.2f})")
    steady = [one for one in numbers.values() if one["plain_full_pace_processes_ms"] and one["status"] == "ok"]
    print(f"  at full pace: {_distribution([_full_pace_ratio(one) for one in steady])} (the other"
          f" {len(numbers) - len(steady)}: degraded, or no {FEWEST} plain blocks at full pace)")  # fmt: skip
    print(f"  all blocks:   {_distribution([one['hwloop_all_ms'] / one['plain_ms'] for one in numbers.values()])}")
    print(f"  as it comes:  {_distribution([one['hwloop_ms'] / one['plain_ms'] for one in numbers.values()])}")
    for name, meaning in READINGS.items():
        print(f"  {name}: {meaning}")
    if processes > 1:
        floor = noise_floor(list(measured.values()))
        print(f"noise floor, two processes of one subject: hwloop {100 * floor:.1f} %, plain loop at full pace"
              f" {_floor([one['plain_full_pace_processes_ms'] for one in numbers.values()])}, all of its blocks"
              f" {_floor([one['plain_processes_ms'] for one in numbers.values()])}")  # fmt: skip
    return numbers


def _full_pace_ratio(one: dict[str, Any]) -> float:
    return float(one["hwloop_ms"] / statistics.median(one["plain_full_pace_processes_ms"]))


def _full_pace_ns(printed: dict[str, list[float]]) -> float | None:
    """The median of the blocks between two sums at full pace; None where there are too few."""
    sums = printed["sums"]
    limit = FULL_PACE * sorted(sums)[len(sums) // 50]
    pairs = zip(printed["watched"], sums, sums[1:], strict=False)
    kept = [block for block, before, behind in pairs if before <= limit and behind <= limit]
    return statistics.median(kept) if len(kept) >= FEWEST else None


def _floor(processes: Sequence[Sequence[float]]) -> str:
    pairs = [one for one in processes if len(one) > 1]
    return f"{100 * statistics.median(map(_pair_difference, pairs)):.1f} %" if pairs else "not known"


def _pair_difference(values: Sequence[float]) -> float:
    return abs(values[0] - values[-1]) / ((values[0] + values[-1]) / 2)


def _distribution(ratios: Sequence[float]) -> str:
    if not ratios:
        return "none"
    ordered = sorted(ratios)
    deciles = statistics.quantiles(ordered, n=10, method="inclusive") if len(ordered) > 1 else [ordered[0]] * 9
    worst = max(ordered, key=lambda ratio: abs(ratio - 1))
    return (
        f"median {statistics.median(ordered):.3f}, 10 % to 90 % {deciles[0]:.3f} to {deciles[-1]:.3f},"
        f" worst {worst:.3f}, n={len(ordered)}"
    )


def _compare(now: dict[str, Any], earlier: dict[str, Any]) -> None:
    both = [key for key in now if key in earlier]
    if not both:
        print("the earlier run has none of these subjects")
        return
    print("ratio of this campaign to the earlier one")
    for name, field_ in (("hwloop", "hwloop_ms"), ("plain loop", "plain_ms")):
        print(f"  {name + ':':15}{_distribution([now[key][field_] / earlier[key][field_] for key in both])}")


@contextmanager
def _hog(cpu: int | None) -> Iterator[None]:
    """A process that is always busy on `cpu`; None: no process."""
    if cpu is None:
        yield
        return
    code = f"import os\nos.sched_setaffinity(0, [{cpu}])\nwhile True:\n    pass"
    process = subprocess.Popen([sys.executable, "-c", code])
    try:
        yield
    finally:
        process.kill()
        process.wait()


def beside_a_hog(subjects: Sequence[Subject], processes: int) -> None:
    """Print how many trials are flagged without a hog, with one on the trials' CPU, with one on another."""
    plan = CampaignPlan(processes=processes, attempts=1)
    usual: dict[str, float] = {}
    trial_cpu = -1
    with _bench() as (root, _):
        for name in ("no hog", "a hog on the trials' CPU", "a hog on another CPU", "no hog again"):
            others = sorted(os.sched_getaffinity(0) - {trial_cpu})
            if name == "a hog on another CPU" and not others:
                print(f"{name}: this machine has one CPU")
                continue
            cpu = {"a hog on the trials' CPU": trial_cpu, "a hog on another CPU": others[0] if others else None}.get(
                name
            )
            with TrialStore(root / f"{name}.ndjson") as store, _hog(cpu):

                def session(name: str = name) -> AgentSession:
                    device = local_device()
                    return AgentSession.open(
                        device.open_transport(),
                        session_id=f"hog-{len(name)}",
                        root=root,
                        worker_python=device.worker_python,
                    )

                measured = run_campaign(subjects, plan, store, session, Silent(), name)
                records = [store[trial_id] for one in measured.values() for trial_id in one.trial_ids]
            trial_cpu = records[0]["conditions"]["affinity"][0]
            usual = usual or {key: one.latency_ms for key, one in measured.items()}
            flagged = [record for record in records if record["status"] != "ok"]
            waited = [r for r in flagged if any("waited" in reason for reason in r["reasons"])]
            print(
                f"{name}: {len(flagged)} of {len(records)} trials flagged degraded, {len(waited)} of them for waiting"
            )
            fine = [key for key, one in measured.items() if one.status == "ok"]
            if fine and name != "no hog":
                ratios = [measured[key].latency_ms / usual[key] for key in fine]
                print(f"  numbers that were not flagged, over those of the first pass: {_distribution(ratios)}")


def coverage(trials: int) -> None:
    """Print the bias and the coverage of the interval on distributions whose median is known."""
    timing = TimingProtocol(
        warmup_s=0.02,
        warmup_runs=5,
        min_s=0.0,
        max_s=0.12,
        min_blocks=40,
        max_blocks=200,
        block_us=1,
        target_relative_interval=0.05,
    )
    kinds: dict[str, dict[str, Any]] = {
        "constant": {"distribution": "constant"},
        "lognormal, sigma 0.1": {"distribution": "lognormal", "spread": 0.1},
        "uniform, width 0.2": {"distribution": "uniform", "spread": 0.2},
        "exponential": {"distribution": "exponential"},
    }
    truth_us = 500.0
    confidence = timing.confidence
    with _bench() as (root, _), _open(root) as session:
        found: dict[str, list[dict[str, float]]] = {name: [] for name in kinds}
        for number in range(trials):
            name = list(kinds)[number % len(kinds)]
            spec = {
                "artifact": None,
                "runtime": "null",
                "options": {"behaviour": "spin", "median_us": truth_us, "seed": number, **kinds[name]},
                "inputs": [],
                "threads": 1,
                "timing": vars(timing),
                "replicate": number,
            }
            found[name].append(session.run_trial(protocol.trial_id(spec), spec)["latency"])
    # What the loop and its clock add to any spin: the other kinds are judged less this.
    overhead_ns = statistics.median(one["median_ns"] for one in found["constant"]) - truth_us * 1e3
    truth = truth_us * 1e3 + overhead_ns
    errors = {name: [one["median_ns"] / truth - 1 for one in some] for name, some in found.items()}
    inside = {name: sum(one["low_ns"] <= truth <= one["high_ns"] for one in some) for name, some in found.items()}
    print(f"null runtime, {trials} trials, true median {truth_us:g} µs, the spin's own overhead {overhead_ns:.0f} ns;"
          f" interval of {100 * confidence:g} %")  # fmt: skip
    for name, some in errors.items():
        print(
            f"  {name}: bias {100 * statistics.median(some):+.3f} % ({100 * min(some):+.2f} to"
            f" {100 * max(some):+.2f}), the truth inside {inside[name]} of {len(some)} intervals"
        )
    drawn = [name for name in kinds if name != "constant"]
    total, hits = sum(len(errors[name]) for name in drawn), sum(inside[name] for name in drawn)
    low, high = _wilson(hits, total)
    print(
        f"  coverage without the constant: {100 * hits / total:.1f} % ({100 * low:.1f} to {100 * high:.1f}, n={total})"
    )


def _wilson(hits: int, total: int, z: float = 1.96) -> tuple[float, float]:
    """The interval of a proportion (Wilson 1927)."""
    centre = (hits + z * z / 2) / (total + z * z)
    half = z * ((hits * (total - hits) / total + z * z / 4) ** 0.5) / (total + z * z)
    return centre - half, centre + half
