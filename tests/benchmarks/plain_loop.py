"""What anybody would write to time an ONNX file: `plain_loop.py MODEL INPUTS THREADS CPUS SECONDS`.

Knows nothing of hwloop. INPUTS: JSON, name to shape. CPUS: comma-separated. Warms up for 0.2 s, times blocks of at
least 1.5 ms for SECONDS, then again with a fixed sum between the blocks, which tells the pace of the core.

Prints JSON: `plain`, the nanoseconds per inference of each block of the first part; `watched`, those of the second;
`sums`, the nanoseconds of each sum (one more than there are watched blocks).
"""

import gc
import json
import os
import sys
import time


def main(model: str, inputs: str, threads: str, cpus: str, seconds: str) -> None:
    """Time it."""
    os.environ["OMP_NUM_THREADS"] = threads
    os.sched_setaffinity(0, {int(cpu) for cpu in cpus.split(",")})
    import numpy as np
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = int(threads)
    options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    rng = np.random.default_rng(0)
    feed = {name: rng.standard_normal(shape, dtype=np.float32) for name, shape in json.loads(inputs).items()}
    clock = time.perf_counter_ns
    until, count, began = clock() + 200_000_000, 0, clock()
    while clock() < until:
        session.run(None, feed)
        count += 1
    runs = max(1, int(1.5e6 / ((clock() - began) / count)) + 1)
    gc.disable()

    def block() -> float:
        began = clock()
        for _ in range(runs):
            session.run(None, feed)
        return (clock() - began) / runs

    def fixed_sum() -> int:
        began = clock()
        sum(range(4000))
        return clock() - began

    plain, watched, sums = [], [], [fixed_sum()]
    until = clock() + int(float(seconds) * 1e9)
    while clock() < until or len(plain) < 5:
        plain.append(block())
    until = clock() + int(float(seconds) * 1e9)
    while clock() < until or len(watched) < 5:
        watched.append(block())
        sums.append(fixed_sum())
    print(json.dumps({"plain": plain, "watched": watched, "sums": sums}))


main(*sys.argv[1:])
