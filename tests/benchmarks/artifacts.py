"""Building and loading the artifact of a layer, which must cost less than measuring it: 20 ms."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterable
from pathlib import Path
from tempfile import TemporaryDirectory

from hwloop.errors import ModelError, UserError
from hwloop.extraction import network_from_torch
from hwloop.layers import Layer
from hwloop.layers.ops import OPS
from hwloop.models import build_model
from hwloop.runtimes import Artifact, Runtime, get_runtime
from hwloop_agent.runtimes import RUNTIMES

NETWORKS = ("resnet56", "mobilenet_v2", "googlenet")
VARIANTS = ("onnxruntime", "litert", "litert:float16", "litert:int8", "torch")
"""Without TVM, which compiles every layer and searches for its schedule."""


def main(options: Iterable[str] = ()) -> None:
    """Print what the layers of three networks cost in each runtime, in this process, its imports not counted.

    Args:
        options: names of runtimes behind dashes ("--tvm"), instead of `VARIANTS`.
    """
    modules = [build_model(name, num_classes=10, in_channels=3, image_size=32).eval() for name in NETWORKS]
    for name in [option.lstrip("-") for option in options] or VARIANTS:
        runtime = get_runtime(name)
        found = [network_from_torch(module, (3, 32, 32), rules=runtime.fusion).layers for module in modules]
        layers = {one.key: one for one in sum(found, ()) if one.supported and not OPS[one.op].view}
        try:
            _print(runtime, list(layers.values()))
        except (UserError, ImportError) as error:
            print(f"{name}: {error}")


def _print(runtime: Runtime, layers: list[Layer]) -> None:
    agent = RUNTIMES[runtime.name]()
    agent.import_()
    artifacts, build_ms, refused = [], [], 0
    runtime.layer(layers[0])  # imports
    for layer in layers:
        began = time.perf_counter()
        try:
            artifacts.append(runtime.layer(layer))
            build_ms.append(1e3 * (time.perf_counter() - began))
        except ModelError:
            refused += 1
    with TemporaryDirectory(prefix="hwloop-") as folder:
        load_ms = [_load_ms(runtime, one, Path(folder) / f"layer{one.suffix}") for one in artifacts]
    both = [sum(pair) for pair in zip(build_ms, load_ms, strict=True)]
    kilobytes = statistics.median(len(one.data) for one in artifacts) / 1e3
    print(f"{runtime.label}: {len(both)} layers of {kilobytes:.0f} kB (median), {refused} refused")
    for what, times in (("build", build_ms), ("load", load_ms), ("both", both)):
        print(f"  {what}: {_figures(times)}")


def _load_ms(runtime: Runtime, artifact: Artifact, path: Path) -> float:
    path.write_bytes(artifact.data)
    inputs = [one.to_spec() for one in artifact.inputs]
    agent = RUNTIMES[runtime.name]()
    agent.prepare(dict(artifact.options))
    agent.import_()
    began = time.perf_counter()
    agent.load(str(path), inputs, 1, dict(artifact.options))
    return 1e3 * (time.perf_counter() - began)


def _figures(times: list[float]) -> str:
    ninetieth = statistics.quantiles(times, n=10)[-1]
    return f"median {statistics.median(times):.1f} ms, 90 % below {ninetieth:.1f}, largest {max(times):.0f}"
