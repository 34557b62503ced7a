"""What a search loses when its parts are killed at random moments.

python -m tests.benchmarks search-faults [--moments 20] [--victims search,worker,scheduler,device] [--seed 0]

A search of LeNet-5's widths on scikit-learn's digits, with a replayed device in the loop, is run once undisturbed and
once for each victim, which is killed again and again (SIGKILL; the device breaks off in the middle of a trial) and, but
for local workers, which the search replaces itself, started again. Moments are drawn by what the journal holds.
"""

from __future__ import annotations

import argparse
import random
import tempfile
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from tests.search.faulting import POPULATION, Stage, prepare

VICTIMS = ("search", "worker", "scheduler", "device")
GENERATIONS = 12
TRIALS = 32


def main(arguments: Sequence[str] = ()) -> None:
    """Print what became of each search."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks search-faults")
    parser.add_argument("--moments", type=int, default=20)
    parser.add_argument("--victims", default=",".join(VICTIMS))
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        scene = prepare(folder, GENERATIONS, TRIALS)
        stage = Stage(scene, folder, random.Random(given.seed))
        evaluations, trials = (len(known) for known in stage.undisturbed.known)
        print(
            f"NSGA-II, population {POPULATION}, {GENERATIONS} generations, error and latency of LeNet-5 on digits,"
            f" judged in one thread: {evaluations} evaluations, {trials} trials of a replayed device, undisturbed",
            flush=True,
        )
        for victim in given.victims.split(","):
            if victim == "scheduler" and find_spec("distributed") is None:
                print("  scheduler: dask is not installed")
                continue
            struck = getattr(stage, victim)(given.moments)
            print(
                f"  {victim} killed {struck.kills} times: {struck.lost} journalled records lost, {struck.repeated} of"
                f" them made again, {struck.astray} evaluations more or fewer; front, values and measurements the same"
                f" to the bit: {struck.same}; in flight and made once more: {struck.in_flight}; {struck.seconds:.0f} s",
                flush=True,
            )
