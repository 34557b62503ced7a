"""The conditions of a measurement, which are part of the number: read before and after, compared, judged.

Nothing is read inside the timed part. A reading that the machine does not offer is None in the record.
"""

from __future__ import annotations

import os
from typing import Any, Dict, List, NamedTuple, Optional, Sequence, Tuple

from hwloop_agent import pace, statistics, throttle, timing
from hwloop_agent.sysfiles import (
    SysFiles,
    names_in,
    parse_cpu_list,
    read_fields,
    read_kibibytes,
    read_number,
    read_text,
)

# Limits beyond which a trial is `degraded`; below them the median of the clean blocks (see `pace`) holds.
# Kernel threads cost a pinned worker well below 1 % of its time; a quarter means that something else wants the core;
WAIT_RATIO_LIMIT = 0.25
# the same share taken by the hypervisor, once the counter's 10 ms ticks can resolve it;
STEAL_RATIO_LIMIT = 0.25
STEAL_MIN_TICKS = 3
# background page-out moves some hundred kilobytes a second; a model being swapped moves megabytes.
SWAP_GROWTH_LIMIT_BYTES = 4 << 20


class Usage(NamedTuple):
    """Running totals of this process and its CPUs; the difference of two tells what happened between them."""

    wall_ns: int
    cpu_ns: int
    wait_ns: Optional[int]
    steal_ticks: Optional[int]


def read_usage(files: SysFiles, cpus: Sequence[int], wall_ns: int, cpu_ns: int) -> Usage:
    """Read the totals now; the two clocks are read by the caller, closest to what it times."""
    return Usage(wall_ns, cpu_ns, run_queue_wait_ns(files), steal_ticks(files, cpus))


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
    resolve.
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
    }


def _policies(files: SysFiles, cpus: Sequence[int]) -> List[str]:
    folder = files.sys("devices/system/cpu/cpufreq")
    found: List[str] = []
    for name in names_in(folder, "policy"):
        members = parse_cpu_list(read_text(os.path.join(folder, name, "related_cpus")) or "")
        if set(members) & set(cpus):
            found.append(os.path.join(folder, name))
    return found


def governor(files: SysFiles, cpus: Sequence[int]) -> Optional[str]:
    """Return the frequency governor of `cpus`; several are joined by commas, None where there is none to read."""
    names = {read_text(os.path.join(policy, "scaling_governor")) for policy in _policies(files, cpus)}
    return ",".join(sorted(name for name in names if name)) or None


def clock_mhz(files: SysFiles, cpus: Sequence[int]) -> Optional[float]:
    """Return the slowest clock, in MHz, that Linux reports for `cpus`; None where it reports none (most guests)."""
    speeds = [read_number(os.path.join(policy, "scaling_cur_freq")) for policy in _policies(files, cpus)]
    known = [speed for speed in speeds if speed]
    return min(known) / 1000 if known else None


def temperature_c(files: SysFiles) -> Optional[float]:
    """Return the hottest CPU zone in °C (the hottest of all where none is named so); None without sensors."""
    every: List[float] = []
    of_cpu: List[float] = []
    for zone in names_in(files.sys("class/thermal"), "thermal_zone"):
        value = read_number(files.sys("class/thermal", zone, "temp"))
        if value is None or not -40_000 < value < 150_000 or value == 0:
            continue
        kind = (read_text(files.sys("class/thermal", zone, "type")) or "").lower()
        every.append(value / 1000)
        if any(word in kind for word in ("cpu", "soc", "x86_pkg", "core")):
            of_cpu.append(value / 1000)
    return max(of_cpu or every, default=None)


def _pressure(files: SysFiles, resource: str) -> Optional[float]:
    for word in (read_text(files.proc("pressure", resource)) or "").split():
        name, _, value = word.partition("=")
        if name == "avg10":
            try:
                return float(value)
            except ValueError:
                return None
    return None


def read_conditions(files: SysFiles, cpus: Sequence[int]) -> Dict[str, Any]:
    """Return what the machine's state is now, as it goes into a record."""
    memory = read_fields(files.proc("meminfo"), ":")
    swap_total, swap_free = read_kibibytes(memory, "SwapTotal"), read_kibibytes(memory, "SwapFree")
    load = (read_text(files.proc("loadavg")) or "").split()
    return {
        "governor": governor(files, cpus),
        "clock_mhz": clock_mhz(files, cpus),
        "temperature_c": temperature_c(files),
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


def look(files: SysFiles, cpus: Sequence[int]) -> Look:
    """Read everything that is compared over a trial."""
    evidence = throttle.read_evidence(files)
    seen = read_conditions(files, cpus)
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
    ):
        value = conditions[name]
        if value is not None and value > limit:
            reasons.append(f"{100 * value:.1f} % of the timed part {text} (limit {100 * limit:.0f} %)")
    swapped = (conditions["before"]["swap_used_bytes"], conditions["after"]["swap_used_bytes"])
    if None not in swapped and swapped[1] - swapped[0] > SWAP_GROWTH_LIMIT_BYTES:
        reasons.append(f"swap grew by {swapped[1] - swapped[0]} bytes (limit {SWAP_GROWTH_LIMIT_BYTES})")
    if conditions["throttle"] == throttle.SEEN:
        reasons.append("the processor was throttled")
    return reasons
