"""How many workers this machine has room for. More threads than CPUs cost twenty to forty times the time."""

from __future__ import annotations

import joblib

from hwloop.errors import UserError


def available_cpus() -> int:
    """The CPUs that this process may use: its affinity and its control group's quota count, not the machine's size."""
    return max(1, int(joblib.cpu_count()))


def worker_count(asked: int | None, available: int, threads: int = 1) -> int:
    """The number of local workers.

    Args:
        asked: wanted by the user; None for as many as there is room for.
        available: CPUs that may be used.
        threads: of each worker.

    Raises:
        UserError: workers times threads is more than the CPUs.
    """
    room = max(1, available // threads)
    if asked is None:
        return room
    if asked > room:
        each = "one thread each" if threads == 1 else f"{threads} threads each"
        raise UserError(
            f"{asked} workers of {each} are more than the {available} CPUs that may be used here, which would make all"
            f" of them many times slower; ask for at most {room}"
        )
    return asked
