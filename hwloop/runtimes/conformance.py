"""What every runtime must keep to, as a suite that anybody can run against theirs: `check_runtime`.

A runtime that passes can be measured, compared and searched with: the same layer has the same bytes, its values are
those that torch computes from the same input, they stay in the range of a trained network, its options and threads are
in the record, and what it cannot do it says.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from hwloop.errors import ModelError
from hwloop.layers import OPS, Layer
from hwloop.runtimes.artifact import Artifact
from hwloop.runtimes.reference import fed, kept_outputs, layer_outputs, module_outputs
from hwloop.runtimes.registry import Runtime
from hwloop.runtimes.seeding import Array

if TYPE_CHECKING:
    from torch import nn

Run = Callable[[Artifact, int], Mapping[str, Any]]
"""Runs an artifact with so many threads as a trial with `keep_outputs`, and returns its record."""

Outcome = Literal["passed", "failed", "unsupported"]

TOLERANCE = 1e-4
"""Largest difference from torch, absolute, for values of about unit variance, in float32."""
TOP1 = 0.8
"""Share of inputs on which a runtime that computes in fewer bits must give torch's class."""
INPUTS = 10
"""How many inputs that share is taken over."""
RMS = (1e-2, 1e2)
"""Root mean square of a layer's output: weights and inputs are drawn so that it is about 1."""
SMALLEST_NORMAL = float(np.finfo(np.float32).tiny)

LAYERS = tuple(
    Layer.parse(key)
    for key in (
        "conv 1x3x16x16>1x16x16x16 k3x3 s1x1 p1,1,1,1 d1x1 g1 bias relu float32",
        "conv 1x16x8x8>1x16x8x8 k3x3 s1x1 p1,1,1,1 d1x1 g16 bias relu6 float32",
        "conv 1x16x8x8>1x32x8x8 k3x3 s1x1 p1,1,1,1 d1x1 g4 bias float32",
        "conv 1x16x8x8>1x16x8x8 k3x3 s1x1 p2,2,2,2 d2x2 g1 float32",
        "linear 1x400>1x120 bias relu float32",
        "max_pool 1x16x9x9>1x16x4x4 k3x3 s2x2 p0,0,0,0 d1x1 float32",
        "global_avg_pool 1x16x8x8>1x16x1x1 float32",
        "add 1x16x8x8,1x16x8x8>1x16x8x8 float32",
        'softmax 1x10>1x10 float32 detail="axis=1"',
    )
)
"""The work of common networks, and what runtimes leave out: groups, dilation."""


@dataclass(frozen=True)
class Finding:
    """What one check found.

    Attributes:
        check: which.
        subject: what it was tried with: a layer's key, a network's name.
        outcome: "unsupported" is no failure: the runtime said that it cannot, and why.
        text: the reason of a failure or refusal; else a figure.
    """

    check: str
    subject: str
    outcome: Outcome
    text: str = ""


@dataclass(frozen=True)
class Example:
    """A whole network to try a runtime with: a torch module in evaluation mode, and the shape of its input."""

    name: str
    module: nn.Module
    input_shape: tuple[int, ...]


def check_runtime(
    runtime: Runtime,
    run: Run,
    *,
    layers: Iterable[Layer] = LAYERS,
    networks: Iterable[Example] = (),
    threads: Sequence[int] = (1, 2),
) -> list[Finding]:
    """Try everything that a runtime promises.

    Args:
        runtime: in the variant that is to be tried.
        run: carries trials out, on the device that the runtime is for.
        layers: to be executed; every one passes, or is refused with a reason.
        networks: to be executed.
        threads: numbers of threads to try.

    Returns:
        One finding for each check and subject.
    """
    found = list(_refusals(runtime))
    ran: Artifact | None = None
    for layer in layers:
        findings, artifact = _layer(runtime, run, layer)
        found += findings
        if ran is None and artifact is not None:
            same = runtime.layer(layer).sha256 == artifact.sha256
            found.append(_finding("same bytes", layer.key, same, "two artifacts of one layer and seed differ"))
            ran = artifact
    for network in networks:
        found += _network(runtime, run, network)
    if ran is not None:
        found += _records(run, ran, threads)
    return found


def failures(findings: Iterable[Finding]) -> list[str]:
    """Failed checks as lines of text."""
    return [f"{one.check}: {one.subject}: {one.text}" for one in findings if one.outcome == "failed"]


def _layer(runtime: Runtime, run: Run, layer: Layer) -> tuple[list[Finding], Artifact | None]:
    """The checks on one layer; its artifact where it ran."""
    try:
        artifact = runtime.layer(layer)
    except ModelError as error:
        named = layer.key in str(error)
        text = str(error) if named else f"the refusal does not name the layer: {error}"
        return [Finding("layer", layer.key, "unsupported" if named else "failed", text)], None
    found: list[Finding] = []
    if artifact.runtime != runtime.name or artifact.label != layer.key:
        return [*found, Finding("layer", layer.key, "failed", f"is labelled {artifact.runtime} {artifact.label}")], None
    record = run(keeping(artifact), 1)
    refused = _refused("layer", layer.key, record)
    if refused:
        return [*found, refused], None
    outputs = kept_outputs(record, artifact)
    if len(outputs) != 1:
        return [*found, Finding("layer", layer.key, "failed", f"its record keeps {len(outputs)} outputs, not 1")], None
    (output,) = outputs
    found.append(_realistic(layer, output))
    shapes = (*layer.input_shapes, layer.output_shape)  # the last is a residual's
    inputs = [values.reshape(shape) for values, shape in zip(fed(artifact), shapes, strict=False)]
    expected = layer_outputs(layer, 0, inputs)
    if OPS[layer.op].view and artifact.layout != "NCHW":
        # A view of another layout has the same values in another order; in a network the next layer's weights follow.
        output, expected = np.sort(output, axis=None), np.sort(expected, axis=None)
    found.append(_agrees(runtime, layer.key, output, expected))
    return found, artifact


def _realistic(layer: Layer, output: Array) -> Finding:
    if output.shape != layer.output_shape:
        return Finding("values", layer.key, "failed", f"the output is {output.shape}, not {layer.output_shape}")
    magnitudes = np.abs(output[output != 0])
    if bool((magnitudes < SMALLEST_NORMAL).any()):
        return Finding("values", layer.key, "failed", "subnormal values, which fake a slow-down")
    rms = float(np.sqrt(np.mean(np.square(output, dtype=np.float64))))
    return _finding("values", layer.key, RMS[0] <= rms <= RMS[1], f"root mean square {rms:.3g}")


def _agrees(runtime: Runtime, subject: str, output: Array, expected: Array) -> Finding:
    if output.shape != expected.shape:
        return Finding("agreement", subject, "failed", f"the output is {output.shape}, torch's is {expected.shape}")
    worst = float(np.abs(output.astype(np.float64) - expected).max())
    # In fewer bits single values may differ much; what must stay is the class, which `_network` looks at.
    limit = TOLERANCE if runtime.exact else float(np.abs(expected).max())
    return _finding("agreement", subject, worst <= limit, f"largest difference from torch {worst:.3g}")


def _network(runtime: Runtime, run: Run, example: Example) -> Iterator[Finding]:
    try:
        artifact = runtime.module(example.module, example.input_shape)
    except ModelError as error:
        yield Finding("network", example.name, "unsupported", str(error))
        return
    agreed = 0
    count = 1 if runtime.exact else INPUTS
    for number in range(count):
        inputs = tuple(replace(one, seed=one.seed + number) for one in artifact.inputs)
        tried = replace(artifact, inputs=inputs)
        record = run(keeping(tried), 1)
        refused = _refused("network", example.name, record)
        if refused:
            yield refused
            return
        outputs, expected = kept_outputs(record, tried), module_outputs(example.module, fed(tried))
        if len(outputs) != len(expected):
            yield Finding("network", example.name, "failed", f"{len(outputs)} outputs, torch has {len(expected)}")
            return
        if runtime.exact:
            yield from (_agrees(runtime, example.name, *pair) for pair in zip(outputs, expected, strict=True))
        agreed += int(outputs[0].argmax() == expected[0].argmax())
    text = f"torch's class for {agreed} of {count} inputs"
    yield _finding("class", example.name, agreed >= (1.0 if runtime.exact else TOP1) * count, text)


def _refusals(runtime: Runtime) -> Iterator[Finding]:
    """Layers that nothing can execute are refused before anything is built."""
    for layer, reason in (
        (Layer("unsupported", ((1, 4),), (1, 4), detail="TopK(axis=1): unknown"), "TopK(axis=1)"),
        (Layer("relu", ((1, 4),), (1, 4), dtype="float16"), "float16"),
    ):
        try:
            runtime.layer(layer)
            yield Finding("refusal", layer.key, "failed", "an artifact was made")
        except ModelError as error:
            yield _finding("refusal", layer.key, reason in str(error), str(error))


def _records(run: Run, artifact: Artifact, threads: Sequence[int]) -> Iterator[Finding]:
    """What the record of a trial tells, and what comes of specs that ask for the impossible."""
    for count in threads:
        record = run(artifact, count)
        settings = record["runtime"].get("settings") or {}
        refused = _refused("threads", str(count), record)
        text = f"the record tells threads {settings.get('threads')}"
        yield refused or _finding("threads", str(count), settings.get("threads") == count, text)
        silent = sorted(set(artifact.options) - set(settings))
        if not refused:
            yield _finding("settings", artifact.label, not silent, f"options not in the record: {silent}")
    for what, changed, wanted in (
        ("unknown option", replace(artifact, options={**artifact.options, "flavour": "sweet"}), "unsupported"),
        ("damaged file", replace(artifact, data=artifact.data[: len(artifact.data) // 2]), "invalid"),
    ):
        record = run(changed, 1)
        text = f"status {record['status']}, not {wanted}: {'; '.join(record['reasons'])}"
        yield _finding(what, artifact.label, record["status"] == wanted and bool(record["reasons"]), text)


def keeping(artifact: Artifact) -> Artifact:
    """The artifact as a trial that keeps the values of its outputs."""
    return replace(artifact, extras={**artifact.extras, "keep_outputs": True})


def _refused(check: str, subject: str, record: Mapping[str, Any]) -> Finding | None:
    """What a record without numbers means; None when it has some."""
    if record["status"] in ("ok", "degraded"):
        return None
    text = f"{record['status']}: {'; '.join(record['reasons'])}"
    refused = record["status"] == "unsupported" and bool(record["reasons"])
    return Finding(check, subject, "unsupported" if refused else "failed", text)


def _finding(check: str, subject: str, passed: bool, text: str) -> Finding:
    return Finding(check, subject, "passed" if passed else "failed", text)
