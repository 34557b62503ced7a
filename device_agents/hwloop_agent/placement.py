"""Which CPUs a worker is pinned to, and which are left to the supervisor. A pure choice over what `/sys` says."""

from __future__ import annotations

from typing import List, NamedTuple, Sequence, Tuple

from hwloop_agent.sysfiles import SysFiles, parse_cpu_list, read_number, read_text


class Cpu(NamedTuple):
    """One CPU that this process may use; `speed` compares CPUs of one machine, `sibling` is its rank in its core."""

    number: int
    speed: int
    sibling: int


def read_cpus(files: SysFiles, allowed: Sequence[int]) -> List[Cpu]:
    """Return the allowed CPUs with their capacity (or highest clock) and their place among a core's threads."""
    found = []
    for number in sorted(allowed):
        folder = f"devices/system/cpu/cpu{number}/"
        speed = read_number(files.sys(folder + "cpu_capacity"))
        if speed is None:
            speed = read_number(files.sys(folder + "cpufreq/cpuinfo_max_freq")) or 0
        siblings = parse_cpu_list(read_text(files.sys(folder + "topology/thread_siblings_list")) or "")
        sibling = siblings.index(number) if number in siblings else 0
        found.append(Cpu(number, speed, sibling))
    return found


def place(cpus: Sequence[Cpu], threads: int) -> Tuple[List[int], List[int]]:
    """Return the CPUs of a worker with `threads` threads, and those of the supervisor.

    The fastest cores first (big.LITTLE), one thread per core before a second one, and among equals the highest numbers:
    CPU 0 is where most boards handle interrupts. The supervisor gets what is left, or everything when nothing is.

    Raises:
        ValueError: there are fewer CPUs than threads.
    """
    if threads > len(cpus):
        raise ValueError(f"asks for {threads} threads, and {len(cpus)} CPUs may be used")
    order = sorted(cpus, key=lambda cpu: (-cpu.speed, cpu.sibling, -cpu.number))
    chosen = sorted(cpu.number for cpu in order[:threads])
    rest = sorted(cpu.number for cpu in order[threads:])
    return chosen, rest or chosen
