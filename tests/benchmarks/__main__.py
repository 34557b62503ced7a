"""Prints figures and asserts none: `make benchmarks`, or `python -m tests.benchmarks NAME …`."""

from __future__ import annotations

import sys
from collections.abc import Callable

from tests.benchmarks import agent_start, prediction, ssh_connect, surgery

BENCHMARKS: dict[str, Callable[[], None]] = {
    "agent-start": agent_start.main,
    "prediction": prediction.main,
    "ssh-connect": ssh_connect.main,
    "surgery": surgery.main,
}


def main() -> None:
    wanted = sys.argv[1:] or list(BENCHMARKS)
    unknown = [name for name in wanted if name not in BENCHMARKS]
    if unknown:
        sys.exit(f"no benchmark {unknown[0]!r}; known are {', '.join(BENCHMARKS)}")
    for name in wanted:
        print(f"== {name}")
        BENCHMARKS[name]()


main()
