"""Which neighbouring operations a runtime executes as one kernel: rules for onnxruntime's CPU provider and LiteRT.

Those of onnxruntime were read off the optimised graphs that version 1.31 saves at its highest optimisation level (tests
compare against the installed version), in its order: first constants are folded into weights, then activations are
fused, then the residual sums. On x86 most convolutions run in a blocked channel layout ("NCHWc", blocks of 8 channels
with AVX2, 16 with AVX-512), and a convolution in that layout takes a residual only if the other operand has that layout
too.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from hwloop.extraction.unit import Unit, count_uses
from hwloop.layers import ACTIVATIONS, OPS, Layer
from hwloop.layers.widths import reshape_factor

ALIGNMENT = 4
"""onnxruntime reorders a tensor into blocks only if its channels are a multiple of this."""

TAKES_ACTIVATION = frozenset({"add", "sub", "mul", "div", "max_pool", "avg_pool", "batch_norm"})
"""What can have an activation fused behind it besides convolutions and matrix products."""


@dataclass(frozen=True)
class FusionRules:
    """What a runtime fuses.

    Attributes:
        name: for people and provenance.
        block: channels per block of the blocked layout; 1: the machine has none (ARM).
        after_conv: activations fused into a convolution.
        after_linear: activations fused into a matrix product with bias.
        after_residual: activations fused behind a residual, in the blocked layout.
        keep_blocked: operations that can compute on the blocked layout, besides convolutions and pools.
        residuals: whether a convolution or matrix product takes a residual in.
        any_linear: whether any matrix product takes an activation in, not only that of two axes with an addend.
        after_elementwise: activations fused into the operations of `TAKES_ACTIVATION`.
        scaled_products: whether a product of two data tensors takes in a constant factor, before or behind it.
    """

    name: str
    block: int
    after_conv: frozenset[str]
    after_linear: frozenset[str]
    after_residual: frozenset[str]
    keep_blocked: frozenset[str]
    residuals: bool = True
    any_linear: bool = False
    after_elementwise: frozenset[str] = frozenset()
    scaled_products: bool = False


ONNXRUNTIME_X86 = FusionRules(
    name="onnxruntime-x86",
    block=8,
    after_conv=frozenset({"relu", "relu6", "clip", "leaky_relu", "sigmoid", "hard_sigmoid", "tanh"}),
    after_linear=frozenset({"relu", "leaky_relu", "elu", "selu", "sigmoid", "hard_sigmoid", "tanh", "softplus"}),
    after_residual=frozenset({"relu", "sigmoid", "hard_sigmoid", "tanh", "hard_swish"}),
    keep_blocked=frozenset(
        {"relu", "sigmoid", "hard_sigmoid", "tanh", "hard_swish", "silu", "gelu", "batch_norm", "resize"}
    ),
    scaled_products=True,
)
"""onnxruntime on x86. AVX-512 differs only for widths between 8 and 16 and multiples of 8 that are not of 16."""

ONNXRUNTIME_ARM = replace(ONNXRUNTIME_X86, name="onnxruntime-arm", block=1)
"""onnxruntime where it has no blocked layout: every convolution takes its residual."""

LITERT = FusionRules(
    name="litert",
    block=1,
    after_conv=frozenset({"relu", "relu6"}),
    after_linear=frozenset({"relu", "relu6"}),
    after_residual=frozenset(),
    keep_blocked=frozenset(),
    residuals=False,
    any_linear=True,
    after_elementwise=frozenset({"relu", "relu6"}),
)
"""LiteRT, with and without XNNPACK: RELU and RELU6 are fields of the operators before them (`ActivationFunctionType` of
the TFLite schema), a residual is an ADD of its own, and so is every other activation.

Measured with ai-edge-litert 2.3 and XNNPACK on x86, pairs of operators on a 16x16 map of 32 channels: behind a
convolution of 6.7 µs RELU and RELU6 cost nothing, HARD_SWISH 0.7, LOGISTIC 3.0, a residual ADD 1.1 µs; a PAD in front
of it costs nothing."""

TORCH_EAGER = FusionRules(
    name="torch-eager",
    block=1,
    after_conv=frozenset(),
    after_linear=frozenset(),
    after_residual=frozenset(),
    keep_blocked=frozenset(),
    residuals=False,
)
"""torch's eager mode executes every operation by itself; batch normalisations are folded before the export."""

TORCH_COMPILED = FusionRules(
    name="torch-compiled",
    block=1,
    after_conv=frozenset(
        {
            *("relu", "relu6", "clip", "leaky_relu", "sigmoid", "tanh"),
            *("hard_sigmoid", "hard_swish", "silu", "gelu"),
        }
    ),
    after_linear=frozenset(),
    after_residual=frozenset(),
    keep_blocked=frozenset(),
    after_elementwise=frozenset(ACTIVATIONS),
)
"""torch's compiler with frozen weights: activations and residuals go into oneDNN's convolutions, as the code shows that
it generates (torch 2.13, `mkldnn._convolution_pointwise`); of longer chains of elementwise operations, which it joins
into one loop, only an activation behind another operation is told here."""


def fuse(units: Sequence[Unit], outputs: Sequence[str], rules: FusionRules) -> list[Unit]:
    """Fuse units as the runtime does.

    A value may disappear inside a fused unit only if it has exactly one consumer and the network does not return it.

    Args:
        units: in topological order.
        outputs: names of the tensors that the network returns.
        rules: of the runtime.

    Returns:
        The fused units in execution order.
    """
    fused = _absorb_all(units, outputs, _join_views)
    fused = _absorb_all(fused, outputs, _fold_constant)
    fused = _absorb_all(fused, outputs, lambda unit, consumer: _activate(unit, consumer, rules))
    if rules.scaled_products:
        fused = _scale_products(fused, outputs)
    blocked: set[str] = set()
    if rules.block > 1:
        fused, blocked = _fuse_blocked(fused, outputs, rules)
    return _fuse_plain_residuals(fused, outputs, rules, blocked) if rules.residuals else fused


_Absorb = Callable[[Unit, Unit], Unit | None]
"""Joins a unit and its only consumer, or says None."""


def _absorb_all(units: Sequence[Unit], outputs: Sequence[str], absorb: _Absorb) -> list[Unit]:
    """Let every unit absorb its only consumer as long as `absorb` allows it."""
    uses = count_uses(units, outputs)
    result: list[Unit] = []
    position: dict[str, int] = {}
    for unit in units:
        at = position.get(unit.inputs[0]) if len(unit.inputs) == 1 else None
        if at is not None and uses[unit.inputs[0]] == 1 and unit.inputs[0] not in outputs:
            merged = absorb(result[at], unit)
            if merged is not None:
                result[at] = merged
                position[merged.output] = at
                continue
        position[unit.output] = len(result)
        result.append(unit)
    return result


def _join_views(unit: Unit, consumer: Unit) -> Unit | None:
    """Two reshapes that together leave the channels what they are, as of a gate that gets its map's two axes."""
    first, second = unit.layer, consumer.layer
    views = OPS[first.op].view and OPS[second.op].view and first.dtype == second.dtype
    if views and len(first.output_shape) == 3 and reshape_factor(first.input_shapes[0], second.output_shape) == 1:
        return unit.absorb(consumer, op="reshape", output_shape=second.output_shape)
    return None


def _fold_constant(unit: Unit, consumer: Unit) -> Unit | None:
    """Batch normalisation, or a constant per channel, moved into the weights before it."""
    layer, after = unit.layer, consumer.layer
    if layer.op not in ("conv", "linear") or layer.activation or layer.residual:
        return None
    if after.output_shape != layer.output_shape or after.dtype != layer.dtype:
        return None
    if layer.op == "conv":
        if after.op == "batch_norm" or (after.op == "add" and after.detail == "const=channel"):
            return unit.absorb(consumer, bias=True)
        if after.op == "mul" and after.detail in ("const=channel", "const=scalar"):
            return unit.absorb(consumer)
        return None
    if not layer.bias and (
        (after.op == "batch_norm" and len(layer.output_shape) == 2)
        or (after.op == "add" and after.detail == "const=channel")
    ):
        return unit.absorb(consumer, bias=True)
    return None


def _activate(unit: Unit, consumer: Unit, rules: FusionRules) -> Unit | None:
    layer, activation = unit.layer, consumer.layer.op
    if layer.activation:
        return None
    if layer.op == "conv" and activation in rules.after_conv:
        return unit.absorb(consumer, activation=activation)
    matrix_with_addend = len(layer.output_shape) == 2 and (layer.bias or layer.residual)
    if layer.op == "linear" and (matrix_with_addend or rules.any_linear) and activation in rules.after_linear:
        return unit.absorb(consumer, activation=activation)
    if layer.op in TAKES_ACTIVATION and activation in rules.after_elementwise:
        return unit.absorb(consumer, activation=activation)
    return None


def _scale_products(units: Sequence[Unit], outputs: Sequence[str]) -> list[Unit]:
    """Constant factors of attention scores become the factor that a matrix product has anyway."""
    uses = count_uses(units, outputs)
    result: dict[str, Unit] = {}
    for unit in units:
        makers = [result.get(name) for name in unit.inputs]
        if unit.layer.op == "matmul":
            for at, maker in enumerate(makers):
                if maker and _is_factor(maker) and uses[maker.output] == 1:
                    inputs = (*unit.inputs[:at], maker.inputs[0], *unit.inputs[at + 1 :])
                    unit = replace(unit, inputs=inputs, sources=maker.sources + unit.sources)
                    del result[maker.output]
        elif _is_factor(unit) and makers[0] and makers[0].layer.op == "matmul" and uses[makers[0].output] == 1:
            del result[makers[0].output]
            unit = makers[0].absorb(unit)
        result[unit.output] = unit
    return list(result.values())


def _is_factor(unit: Unit) -> bool:
    return unit.layer.op in ("mul", "div") and unit.layer.detail == "const=scalar" and not unit.layer.activation


def _fuse_blocked(units: Sequence[Unit], outputs: Sequence[str], rules: FusionRules) -> tuple[list[Unit], set[str]]:
    """One pass in execution order that knows which tensors are in the blocked layout.

    Returns:
        The units, and the names of the tensors in the blocked layout.
    """
    uses = count_uses(units, outputs)
    blocked: set[str] = set()
    result: dict[str, Unit] = {}  # by output; a fused convolution moves to the place of the sum
    for unit in units:
        layer = unit.layer
        single = [name in result and uses[name] == 1 for name in unit.inputs]
        if layer.op == "add" and not layer.activation and _all_blocked(unit, blocked) and len(unit.inputs) == 2:
            merged = _take_residual(
                unit, [result[name] if ok else None for name, ok in zip(unit.inputs, single, strict=True)]
            )
            if merged:
                del result[next(name for name in unit.inputs if name not in merged.inputs)]
                result[unit.output] = merged
                blocked.add(unit.output)
                continue
        maker = result.get(unit.inputs[0]) if unit.inputs and single[0] else None
        if maker and _finishes(maker, unit, outputs, blocked, rules):
            del result[maker.output]
            result[unit.output] = maker.absorb(unit, activation=layer.op)
            blocked.add(unit.output)
            continue
        result[unit.output] = unit
        if _is_blocked(unit, blocked, rules):
            blocked.add(unit.output)
    return list(result.values()), blocked


def _finishes(maker: Unit, unit: Unit, outputs: Sequence[str], blocked: set[str], rules: FusionRules) -> bool:
    """Whether an activation is fused in the blocked layout: behind a residual, a batch normalisation, or hard-swish."""
    if maker.output not in blocked or maker.layer.activation or unit.layer.op not in rules.after_residual:
        return False
    if unit.layer.op == "hard_swish" and unit.output in outputs:
        return False  # onnxruntime spells out a hard-swish that is the network's result
    return maker.layer.op in ("conv", "batch_norm")


def _take_residual(add: Unit, makers: Sequence[Unit | None]) -> Unit | None:
    """The first operand that is a convolution nobody else reads takes the other one as its residual."""
    for index, maker in enumerate(makers):
        if maker and _can_take_residual(maker.layer, add.layer):
            other = add.inputs[1 - index]
            return replace(maker.absorb(add, residual=True), inputs=(*maker.inputs, other))
    return None


def _can_take_residual(layer: Layer, add: Layer) -> bool:
    same = add.input_shapes[0] == add.input_shapes[1] == layer.output_shape
    return layer.op == "conv" and not layer.activation and not layer.residual and same


def _all_blocked(unit: Unit, blocked: set[str]) -> bool:
    return bool(unit.inputs) and all(name in blocked for name in unit.inputs)


def _is_blocked(unit: Unit, blocked: set[str], rules: FusionRules) -> bool:
    """Whether a unit's result is in the blocked layout."""
    layer, block = unit.layer, rules.block
    if layer.dtype != "float32" or len(layer.output_shape) != 4:
        return False
    if layer.op == "conv":
        return _conv_is_blocked(layer, block)
    if layer.op in ("max_pool", "avg_pool", "global_avg_pool", "global_max_pool"):
        return layer.out_channels % block == 0 and layer.detail != "reduce"
    if not _all_blocked(unit, blocked):
        return False
    if layer.op == "concat":
        return layer.detail == "axis=1" and all(shape[1] % block == 0 for shape in layer.input_shapes)
    if layer.op in ("add", "mul"):
        return len(layer.input_shapes) == 2 and layer.input_shapes[0] == layer.input_shapes[1]
    return layer.op in rules.keep_blocked


def _conv_is_blocked(layer: Layer, block: int) -> bool:
    if layer.groups == 1:
        return layer.in_channels < block or layer.in_channels % ALIGNMENT == 0
    if layer.out_channels % ALIGNMENT:
        return False
    if layer.depthwise and layer.out_channels == layer.groups:
        return True
    return not (layer.in_channels // layer.groups) % block and not (layer.out_channels // layer.groups) % block


def _fuse_plain_residuals(
    units: Sequence[Unit], outputs: Sequence[str], rules: FusionRules, blocked: set[str]
) -> list[Unit]:
    """Residuals of convolutions outside the blocked layout, and of matrix products without bias.

    Here the operand that is executed first takes the other one.
    """
    uses = count_uses(units, outputs)
    order = {unit.output: index for index, unit in enumerate(units)}
    result: dict[str, Unit] = {}
    for unit in units:
        if unit.layer.op == "add" and len(unit.inputs) == 2 and unit.inputs[0] != unit.inputs[1]:
            operands = sorted(unit.inputs, key=lambda name: order.get(name, -1))
            for name in operands:
                maker = result.get(name)
                if not maker or uses[name] != 1 or name in blocked or not _plain_residual(maker.layer, unit.layer):
                    continue
                other = unit.inputs[1 - unit.inputs.index(name)]
                del result[name]
                result[unit.output] = replace(maker.absorb(unit, residual=True), inputs=(*maker.inputs, other))
                break
            else:
                result[unit.output] = unit
            continue
        maker = result.get(unit.inputs[0]) if len(unit.inputs) == 1 else None
        if maker and uses[maker.output] == 1 and maker.layer.residual and maker.output not in blocked:
            merged = _activate(maker, unit, rules)
            if merged:
                del result[maker.output]
                result[unit.output] = merged
                continue
        result[unit.output] = unit
    return list(result.values())


def _plain_residual(layer: Layer, add: Layer) -> bool:
    if layer.op == "linear":
        same = add.input_shapes[0] == add.input_shapes[1]
        return same and len(layer.output_shape) == 2 and not layer.bias and not layer.residual
    return _can_take_residual(layer, add)
