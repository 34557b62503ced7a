"""Several devices at once: each with a thread, a queue and a journal of its own; none waits for or fails with another.

What runs in a thread is waiting, for the most part: the devices do the work.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar

from hwloop.errors import HwloopError

Result = TypeVar("Result")

# Short, so that Ctrl-C is heard while all threads wait.
POLL_S = 0.2


@dataclass(frozen=True)
class Outcome(Generic[Result]):
    """What became of one device's work.

    Attributes:
        device: its name.
        result: None when it failed.
        error: why it failed; None when it did not.
    """

    device: str
    result: Result | None
    error: HwloopError | OSError | None


def run_fleet(work: Mapping[str, Callable[[], Result]]) -> dict[str, Outcome[Result]]:
    """Do each device's work in a thread of its own; return the outcomes, once all have come to an end.

    The threads end with the process: after Ctrl-C, what their journals hold is what was measured, as after a kill.

    Args:
        work: by the device's name; called once, in another thread.

    Raises:
        Exception: what is no `HwloopError` or `OSError` is a bug, and is raised when the others are done.
    """
    outcomes: dict[str, Outcome[Result]] = {}
    bugs: list[BaseException] = []

    def run(device: str, do: Callable[[], Result]) -> None:
        try:
            outcomes[device] = Outcome(device, do(), None)
        except (HwloopError, OSError) as error:
            outcomes[device] = Outcome(device, None, error)
        except BaseException as error:
            bugs.append(error)

    threads = [
        threading.Thread(target=run, args=item, name=f"campaign-{item[0]}", daemon=True) for item in work.items()
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        while thread.is_alive():
            thread.join(POLL_S)
    if bugs:
        raise bugs[0]
    return {device: outcomes[device] for device in work}
