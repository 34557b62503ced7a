"""What each runtime fuses, by measurement (the pair test), beside the rules by which hwloop reads its layers.

python -m tests.benchmarks pairs [--runtimes A,B] [--device NAME] [--state DIR] [--processes N]
"""

from __future__ import annotations

import argparse
import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from rich.console import Console
from torch import nn

from hwloop.cli.display import Display
from hwloop.devices import Inventory
from hwloop.errors import UserError
from hwloop.extraction import network_from_torch
from hwloop.layers import Layer
from hwloop.measurement import Bench, CampaignPlan, Subject, TimingProtocol, TrialStore, noise_floor
from hwloop.profiling import judge_pair
from hwloop.runtimes import Runtime, get_runtime

SHAPE = (16, 64, 64)
"""Many pixels and few channels: an activation that is a pass of its own shows."""
TIMING = TimingProtocol(warmup_s=0.05, min_s=0.1, max_s=0.5, target_relative_interval=0.01)
FLOOR = Layer("relu", ((1, 16),), (1, 16))
RUNTIMES = ("onnxruntime", "litert", "tvm", "torch")


class Residual(nn.Module):
    """Two convolutions, the second with the first one's result added."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = (nn.Conv2d(16, 16, 1) for _ in range(2))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        inner = self.first(images)
        return self.second(inner) + inner


def _activated(activation: Callable[[], nn.Module]) -> nn.Module:
    return nn.Sequential(nn.Conv2d(16, 16, 1), activation())


def _pairs() -> dict[str, tuple[nn.Module, Layer, nn.Module]]:
    """First operation, second alone, both joined."""
    image = (1, *SHAPE)
    activations = {
        "relu": nn.ReLU,
        "relu6": nn.ReLU6,
        "leaky_relu": nn.LeakyReLU,
        "sigmoid": nn.Sigmoid,
        "hard_swish": nn.Hardswish,
        "silu": nn.SiLU,
        "tanh": nn.Tanh,
    }
    torch.manual_seed(0)
    conv = nn.Conv2d(16, 16, 1)
    found = {name: (conv, Layer(name, (image,), image), _activated(kind)) for name, kind in activations.items()}
    two = nn.Sequential(nn.Conv2d(16, 16, 1), nn.Conv2d(16, 16, 1))
    found["add"] = (two, Layer("add", (image, image), image), Residual())
    return found


def main(arguments: Sequence[str] = ()) -> None:
    """Measure the pairs in every runtime and print the verdicts."""
    wanted = _parse(arguments)
    console = Console(width=140)
    folder = Path(wanted.state)
    folder.mkdir(parents=True, exist_ok=True)
    with TrialStore(folder / "trials.ndjson") as store:
        session = "pairs-" + hashlib.sha256(str(folder.resolve()).encode()).hexdigest()[:16]
        plan = CampaignPlan(processes=wanted.processes, timing=TIMING)
        bench = Bench(Inventory.find().get(wanted.device), session, store, plan, Display(console))
        identity = bench.identify(folder / "device.json")
        for name in wanted.runtimes.split(","):
            try:
                _test(get_runtime(name).for_device(identity.facts), bench, console)
            except UserError as error:
                console.print(f"{name}: {error}", markup=False)


def _test(runtime: Runtime, bench: Bench, console: Console) -> None:
    subjects = [Subject("floor", runtime.layer(FLOOR))]
    expected: dict[str, str] = {}
    for name, (first, second, joined) in _pairs().items():
        try:
            artifacts = (
                runtime.module(first.eval(), SHAPE),
                runtime.layer(second),
                runtime.module(joined.eval(), SHAPE),
            )
        except UserError as error:
            console.print(f"{runtime.label} conv, {name}: {error}", markup=False, soft_wrap=True)
            continue
        subjects += [Subject(f"{name} {part}", one) for part, one in zip(PARTS, artifacts, strict=True)]
        before, behind = (len(network_from_torch(one, SHAPE, rules=runtime.fusion).nodes) for one in (first, joined))
        expected[name] = "fused" if before == behind else "apart"
    found = bench.measure(subjects, f"pairs in {runtime.label}")
    floor = noise_floor(list(found.values()))
    console.print(f"{runtime.label}: noise floor {100 * floor:.1f} %, rules {runtime.fusion.name}", highlight=False)
    for name, rule in expected.items():
        parts = [found[f"{name} {part}"] for part in PARTS]
        failed = next((one for one in parts if not one.usable), None)
        if failed is not None:
            console.print(f"  conv, {name}: {failed.status}: {'; '.join(failed.reasons)}", markup=False)
            continue
        first_ms, second_ms, joined_ms = (one.latency_ms for one in parts)
        verdict = judge_pair(first_ms, second_ms, joined_ms, found["floor"].latency_ms, floor)
        agrees = "" if verdict.answer in (rule, "undecided") else "   <- the rules say otherwise"
        console.print(
            f"  conv, {name:10} {verdict.answer:9} (share left {verdict.share:5.2f} ± {verdict.margin:.2f}; "
            f"{first_ms:.4f} + {second_ms:.4f} -> {joined_ms:.4f} ms); rules: {rule}{agrees}",
            highlight=False,
        )


PARTS = ("first", "second", "joined")


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks pairs")
    parser.add_argument("--runtimes", default=",".join(RUNTIMES))
    parser.add_argument("--device", default="local")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--state", default=".hwloop/pairs")
    return parser.parse_args(list(arguments))
