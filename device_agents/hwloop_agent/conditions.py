"""The conditions of a measurement, which are part of the number: read before and after, compared, judged.

Nothing is read inside the timed part. A reading that the machine does not offer is None in the record.
"""

from __future__ import annotations

import os
from typing import Any, Dict, List, NamedTuple, Optional, Sequence, Tuple

from hwloop_agent import pace, statistics, throttle, timing
from hwloop_agent.sensors.board import Sensors
from hwloop_agent.sysfiles import SysFiles, names_in, read_fields, read_kibibytes, read_text

# Limits beyond which a trial is `degraded`; below them the median of the clean blocks (see `pace`) holds.
# Kernel threads cost a pinned worker well below 1 % of its time; a quarter means that something else wants the core;
WAIT_RATIO_LIMIT = 0.25
# the same share taken by the hypervisor, once the counter's 10 ms ticks can resolve it;
STEAL_RATIO_LIMIT = 0.25
STEAL_MIN_TICKS = 3
# background page-out moves some hundred kilobytes a second; a model being swapped moves megabytes;
SWAP_GROWTH_LIMIT_BYTES = 4 << 20
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
# a machine with memory to spare waits for none of it (PSI counts the time in which some task did).
MEMORY_STALL_LIMIT = 0.05


class Usage(NamedTuple):
    """Running totals of this process, its CPUs and the machine's memory; two of them tell what happened between.

    `preemptions`: how often this process was taken off a CPU against its will; `memory_stall_us`: how long some task of
    the machine waited for memory; `swapped_in`: pages that came back from swap.
    """

    wall_ns: int
    cpu_ns: int
    wait_ns: Optional[int]
    steal_ticks: Optional[int]
    preemptions: Optional[int] = None
    memory_stall_us: Optional[int] = None
    swapped_in: Optional[int] = None


def read_usage(files: SysFiles, cpus: Sequence[int], wall_ns: int, cpu_ns: int) -> Usage:
    """Read the totals now; the two clocks are read by the caller, closest to what it times."""
    stall = _pressure(files, "memory", "total")
    pages = read_fields(files.proc("vmstat")).get("pswpin", "")
    return Usage(
        wall_ns,
        cpu_ns,
        run_queue_wait_ns(files),
        steal_ticks(files, cpus),
        preemptions(files),
        None if stall is None else int(stall),
        int(pages) if pages.isdigit() else None,
    )


def preemptions(files: SysFiles) -> Optional[int]:
    """Return how often threads of this process lost their CPU to another one; None when it is not counted."""
    counts = []
    for task in names_in(files.proc("self", "task"), ""):
        text = read_fields(files.proc("self", "task", task, "status"), ":").get("nonvoluntary_ctxt_switches", "")
        if text.isdigit():
            counts.append(int(text))
    return sum(counts) if counts else None


def run_queue_wait_ns(files: SysFiles) -> Optional[int]:
    """Return how long this process's threads were runnable and not running; None when the kernel does not count."""
    total, known = 0, False
    for task in names_in(files.proc("self", "task"), ""):
        words = (read_text(files.proc("self", "task", task, "schedstat")) or "").split()
        if len(words) == 3 and words[1].isdigit() and words[0] != "0":
            total, known = total + int(words[1]), True
    return total if known else None


def steal_ticks(files: SysFiles, cpus: Sequence[int]) -> Optional[int]:
    """Return the ticks (1/100 s) that the hypervisor has taken from `cpus` so far; None when it is not counted."""
    fields = read_fields(files.proc("stat"))
    total = 0
    for cpu in cpus:
        words = fields.get(f"cpu{cpu}", "").split()
        if len(words) < 8 or not words[7].isdigit():
            return None
        total += int(words[7])
    return total


def used_ratios(before: Usage, after: Usage, cpus: Sequence[int]) -> Dict[str, Optional[float]]:
    """Return what the time between two readings went to, as shares of the wall time.

    `wait_ratio`: runnable but not running, over wall, a mean over the CPUs; `cpu_wall_ratio`: processor time over wall
    (above 1 with threads); `steal_ratio`: taken by the hypervisor, over wall of all `cpus`, 0 while it is too little to
    resolve; `memory_stall_ratio`: some task of the machine waited for memory, over wall. Not shares, but counts:
    `preemptions`, and `swapped_in_pages`.
    """
    wall = max(after.wall_ns - before.wall_ns, 1)
    wait = steal = None
    if before.wait_ns is not None and after.wait_ns is not None:
        # A thread that ended took its count with it, so the sum can shrink.
        wait = round(max(after.wait_ns - before.wait_ns, 0) / wall / max(len(cpus), 1), 5)
    if before.steal_ticks is not None and after.steal_ticks is not None and cpus:
        ticks = after.steal_ticks - before.steal_ticks
        steal = round(ticks / 100 * 1e9 / wall / len(cpus), 5) if ticks >= STEAL_MIN_TICKS else 0.0
    return {
        "wait_ratio": wait,
        "steal_ratio": steal,
        "cpu_wall_ratio": round((after.cpu_ns - before.cpu_ns) / wall, 4),
        "memory_stall_ratio": _grown(before.memory_stall_us, after.memory_stall_us, 1000 / wall),
        "preemptions": _grown(before.preemptions, after.preemptions, 1),
        "swapped_in_pages": _grown(before.swapped_in, after.swapped_in, 1),
    }


def _grown(before: Optional[int], after: Optional[int], scale: float) -> Optional[float]:
    return None if before is None or after is None else round(max(after - before, 0) * scale, 5)


def _pressure(files: SysFiles, resource: str, figure: str = "avg10") -> Optional[float]:
    """Return a figure of the line `some` of a pressure file, which is its first."""
    for word in (read_text(files.proc("pressure", resource)) or "").split():
        name, _, value = word.partition("=")
        if name == figure:
            try:
                return float(value)
            except ValueError:
                return None
    return None


def read_conditions(sensors: Sensors, cpus: Sequence[int]) -> Dict[str, Any]:
    """Return what the machine's state is now, as it goes into a record."""
    files = sensors.files
    memory = read_fields(files.proc("meminfo"), ":")
    swap_total, swap_free = read_kibibytes(memory, "SwapTotal"), read_kibibytes(memory, "SwapFree")
    load = (read_text(files.proc("loadavg")) or "").split()
    return {
        "governor": sensors.governor(cpus),
        "clock_mhz": sensors.clock_mhz(cpus),
        "temperature_c": sensors.temperature_c(),
        "throttle_c": sensors.profile.throttle_c,
        "power_mode": sensors.power_mode(),
        "load1": float(load[0]) if load and load[0].replace(".", "", 1).isdigit() else None,
        "swap_used_bytes": swap_total - swap_free if swap_total is not None and swap_free is not None else None,
        "memory_available_bytes": read_kibibytes(memory, "MemAvailable"),
        "pressure_cpu_avg10": _pressure(files, "cpu"),
        "pressure_memory_avg10": _pressure(files, "memory"),
    }


def clock_synced() -> Optional[bool]:
    """Say whether the kernel calls its wall clock synchronized (adjtimex); None when it does not tell.

    Boards without a clock of their own start in the past, so `started_at` is only a label, and this says how good a
    one.
    """
    import ctypes

    time_error, room = 5, 512  # TIME_ERROR in <sys/timex.h>; larger than any struct timex, all zero: a query
    try:
        state = ctypes.CDLL(None).adjtimex(ctypes.create_string_buffer(room))
    except (OSError, AttributeError):
        return None
    return None if state < 0 else state != time_error


Look = Tuple[Dict[str, Any], throttle.Evidence]


def look(sensors: Sensors, cpus: Sequence[int]) -> Look:
    """Read everything that is compared over a trial."""
    evidence = sensors.throttle_evidence()
    seen = read_conditions(sensors, cpus)
    seen["throttle_evidence"] = evidence.to_json()
    return seen, evidence


def compare(before: Look, after: Look, used: Dict[str, Optional[float]], cpus: Sequence[int]) -> Dict[str, Any]:
    """Return the `conditions` of a record from the looks before and after the timed part and what it used."""
    found: Dict[str, Any] = {
        "before": before[0],
        "after": after[0],
        "throttle": throttle.verdict(before[1], after[1]),
        "affinity": list(cpus),
    }
    found.update(used)
    for name in ("governor", "clock_mhz", "temperature_c", "load1", "swap_used_bytes"):
        found[name] = after[0][name]
    return found


def paced(samples: timing.Samples) -> Dict[str, Any]:
    """Return what the canary said: `pace_ns`, its median over it, and how many blocks of how many were clean."""
    return {
        "pace_ns": round(samples.pace_ns, 1),
        "canary_ratio": round(statistics.median(samples.canary_ns) / samples.pace_ns, 4),
        "clean_blocks": sum(samples.clean),
        "blocks": len(samples.clean),
    }


def _too_hot(conditions: Dict[str, Any]) -> List[str]:
    """Where nothing says whether the processor was throttled, the temperature at which it would be says it."""
    limit_c = conditions["after"].get("throttle_c")
    looks = [conditions[when].get("temperature_c") for when in ("before", "after")]
    hottest = max((value for value in looks if value is not None), default=None)
    if limit_c is None or hottest is None or hottest < limit_c:
        return []
    return [f"the processor had {hottest:.0f} °C, it is slowed down from {limit_c:g} °C on"]


def degradations(conditions: Dict[str, Any]) -> List[str]:
    """Return why a measurement under these conditions is `degraded`, one line per limit passed; [] when it is not."""
    reasons: List[str] = []
    clean, blocks = conditions["clean_blocks"], conditions["blocks"]
    if clean < min(pace.MIN_CLEAN, blocks):
        slow = 100 * (conditions["canary_ratio"] - 1)
        reasons.append(
            f"{clean} of {blocks} blocks ran at the core's full pace (at least {min(pace.MIN_CLEAN, blocks)} are"
            f" needed), the canary was {slow:.0f} % slow"
        )
    for name, limit, text in (
        ("wait_ratio", WAIT_RATIO_LIMIT, "waited for a CPU"),
        ("steal_ratio", STEAL_RATIO_LIMIT, "lost to the hypervisor"),
        ("memory_stall_ratio", MEMORY_STALL_LIMIT, "had some task waiting for memory"),
    ):
        value = conditions.get(name)
        if value is not None and value > limit:
            reasons.append(f"{100 * value:.1f} % of the timed part {text} (limit {100 * limit:.0f} %)")
    swapped = (conditions["before"]["swap_used_bytes"], conditions["after"]["swap_used_bytes"])
    if None not in swapped and swapped[1] - swapped[0] > SWAP_GROWTH_LIMIT_BYTES:
        reasons.append(f"swap grew by {swapped[1] - swapped[0]} bytes (limit {SWAP_GROWTH_LIMIT_BYTES})")
    pages = conditions.get("swapped_in_pages")
    if pages is not None and pages * PAGE_BYTES > SWAP_GROWTH_LIMIT_BYTES:
        reasons.append(f"{pages * PAGE_BYTES:.0f} bytes came back from swap (limit {SWAP_GROWTH_LIMIT_BYTES})")
    if conditions["throttle"] == throttle.SEEN:
        reasons.append("the processor was throttled")
    elif conditions["throttle"] == throttle.UNKNOWN:
        reasons += _too_hot(conditions)
    return reasons
