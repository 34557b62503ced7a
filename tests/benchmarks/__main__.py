"""Prints figures and asserts none: `make benchmarks`, or `python -m tests.benchmarks NAME …`."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable

# As the command line does, and before numpy and torch are imported.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

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
