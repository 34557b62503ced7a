"""Prints figures and asserts none: `make benchmarks`, or `python -m tests.benchmarks NAME … [--options]`."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable

# As the command line does, and before numpy and torch are imported.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

from hwloop_agent.heap import keep_freed_memory
from tests.benchmarks import (
    agent_start,
    artifacts,
    boards,
    cost,
    criteria,
    equal_latency,
    equal_macs,
    ga_pruning,
    graph_orders,
    graphs,
    judge,
    pairs,
    predict_speed,
    prediction,
    regret,
    resnet20_errors,
    search_device,
    search_faults,
    search_lenet,
    search_overhead,
    search_scale,
    search_surrogate,
    search_synthetic,
    spaces,
    ssh_connect,
    staircase,
    surgery,
    table_open,
    transfer,
    trust,
    tvm_ratio,
    zoo,
)

BENCHMARKS: dict[str, Callable[..., None]] = {
    "agent-start": agent_start.main,
    "artifacts": artifacts.main,
    "boards": boards.main,
    "cost": cost.main,
    "criteria": criteria.main,
    "equal-latency": equal_latency.main,
    "equal-macs": equal_macs.main,
    "ga-pruning": ga_pruning.main,
    "judge": judge.main,
    "graphs": graphs.main,
    "graphs-cost": graphs.cost,
    "graphs-orders": graph_orders.main,
    "graphs-superpixels": graphs.superpixels,
    "pairs": pairs.main,
    "predict-speed": predict_speed.main,
    "prediction": prediction.main,
    "regret": regret.main,
    "search-lenet": search_lenet.main,
    "search-device": search_device.main,
    "search-faults": search_faults.main,
    "search-overhead": search_overhead.main,
    "search-scale": search_scale.main,
    "search-surrogate": search_surrogate.main,
    "search-surrogate-errors": resnet20_errors.main,
    "search-synthetic": search_synthetic.main,
    "spaces": spaces.main,
    "ssh-connect": ssh_connect.main,
    "staircase": staircase.main,
    "surgery": surgery.main,
    "table-open": table_open.main,
    "transfer": transfer.main,
    "trust": trust.main,
    "tvm-ratio": tvm_ratio.main,
    "zoo": zoo.main,
}
#: Take ten minutes and more of a machine on which nothing else runs: by name only.
LONG = (
    "boards",
    "criteria",
    "equal-latency",
    "equal-macs",
    "ga-pruning",
    "graphs",
    "graphs-orders",
    "graphs-superpixels",
    "judge",
    "pairs",
    "regret",
    "search-lenet",
    "search-surrogate",
    "search-surrogate-errors",
    "search-device",
    "search-faults",
    "search-synthetic",
    "spaces",
    "staircase",
    "transfer",
    "trust",
    "tvm-ratio",
    "zoo",
)


def main() -> None:
    keep_freed_memory()
    words = sys.argv[1:]
    first = next((place for place, word in enumerate(words) if word.startswith("-")), len(words))
    wanted, options = words[:first], words[first:]
    if options and not wanted:
        sys.exit(f"options are a benchmark's: name it before them; known are {', '.join(BENCHMARKS)}")
    unknown = [name for name in wanted if name not in BENCHMARKS]
    if unknown:
        sys.exit(f"no benchmark {unknown[0]!r}; known are {', '.join(BENCHMARKS)}")
    for name in wanted or [name for name in BENCHMARKS if name not in LONG]:
        print(f"== {name}")
        if options and name == wanted[-1]:
            BENCHMARKS[name](options)
        else:
            BENCHMARKS[name]()


main()
