"""What the benchmarks measure: whole networks and layers of many sizes, the same ones on every machine."""

from __future__ import annotations

import random
from itertools import count

from hwloop.extraction import export_onnx, network_from_torch
from hwloop.layers import ScalableNetwork
from hwloop.measurement import Subject, layer_design
from hwloop.models import build_model
from hwloop.pruning import plan_surgery, pruning_space
from hwloop.runtimes import get_runtime
from hwloop.study.sampling import sample_candidates

#: Small maps and large ones; every second network of each is a pruned one of another size.
SOURCES = (("resnet8", (3, 32, 32)), ("resnet20", (3, 32, 32)), ("lenet5", (1, 28, 28)), ("resnet8", (3, 64, 64)))
GRAIN = 4


def networks(number: int) -> list[Subject]:
    """`number` networks with random widths and blocks, exported as ONNX."""
    runtime = get_runtime("onnxruntime")
    prepared = []
    for name, shape in SOURCES:
        module = build_model(name, num_classes=10, in_channels=shape[0]).eval()
        space = pruning_space(module, shape, grain=GRAIN)
        prepared.append((name, shape, space, plan_surgery(module, space), iter(sample_candidates(space, number, 1))))
    found: dict[str, Subject] = {}
    for turn in count():
        name, shape, space, surgery, candidates = prepared[turn % len(prepared)]
        candidate = next(candidates, None)
        if candidate is not None:
            key = f"{name}-{shape[-1]} {space.text(candidate)}"
            found[key] = Subject(key, runtime.onnx(export_onnx(surgery.apply(candidate), shape, fold=True), key))
        if len(found) == number or turn > 20 * number:
            return list(found.values())
    raise AssertionError


def layers(number: int) -> list[Subject]:
    """`number` layers of pruned ResNets, drawn from the layers that a table of each would hold."""
    runtime = get_runtime("onnxruntime")
    designed = {}
    for name, shape in SOURCES:
        module = build_model(name, num_classes=10, in_channels=shape[0]).eval()
        space = pruning_space(module, shape, grain=GRAIN)
        scalable = ScalableNetwork(network_from_torch(module, shape), [group.roots for group in space.groups])
        for layer in layer_design(scalable, [space.levels(g) for g in range(len(space.groups))], 3):
            designed[layer.key] = layer
    drawn = random.Random(2).sample(sorted(designed), min(number, len(designed)))
    return [Subject(key, runtime.layer(designed[key])) for key in drawn]
