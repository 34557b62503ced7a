"""What there is to schedule: one convolution or one matrix product, with what is fused behind it."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace

Pair = tuple[int, int]


@dataclass(frozen=True)
class Epilogue:
    """What happens to an accumulator before it is stored, in this order.

    Attributes:
        bias: a vector is added, one value per output channel.
        residual: a tensor of the output's shape is added.
        slope: values below zero are multiplied by it (leaky ReLU); None: they are not.
        low: smallest value (0 for ReLU); None: unbounded.
        high: largest value (6 for ReLU6); None: unbounded.
    """

    bias: bool = False
    residual: bool = False
    slope: float | None = None
    low: float | None = None
    high: float | None = None

    @property
    def activated(self) -> bool:
        """Whether an activation is fused; nothing can be fused behind it but a closer bound."""
        return self.slope is not None or self.low is not None or self.high is not None

    @property
    def text(self) -> str:
        """Short form: "bias+add low0 high6"."""
        parts = [name for name, on in (("bias", self.bias), ("add", self.residual)) if on]
        bounds = [f"{name}{value:g}" for name in ("slope", "low", "high") if (value := getattr(self, name)) is not None]
        return " ".join(["+".join(parts), *bounds]).strip()


@dataclass(frozen=True)
class ConvTask:
    """A convolution in NCHW.

    Attributes:
        batch: images.
        channels: of the input.
        size: height and width of the input.
        filters: channels of the output.
        kernel: height, width.
        stride: down, right.
        padding: top, left, bottom, right.
        dilation: down, right.
        groups: of channels.
        epilogue: what is fused.
    """

    batch: int
    channels: int
    size: Pair
    filters: int
    kernel: Pair
    stride: Pair = (1, 1)
    padding: tuple[int, int, int, int] = (0, 0, 0, 0)
    dilation: Pair = (1, 1)
    groups: int = 1
    epilogue: Epilogue = field(default_factory=Epilogue)

    @property
    def output_size(self) -> Pair:
        """Height and width of the output."""
        down, right = (
            (self.size[axis] + self.padding[axis] + self.padding[axis + 2] - self.span[axis]) // self.stride[axis] + 1
            for axis in (0, 1)
        )
        return down, right

    @property
    def span(self) -> Pair:
        """Height and width of what a dilated kernel covers."""
        down, right = (self.dilation[axis] * (self.kernel[axis] - 1) + 1 for axis in (0, 1))
        return down, right

    @property
    def input_shape(self) -> tuple[int, ...]:
        """NCHW."""
        return (self.batch, self.channels, *self.size)

    @property
    def output_shape(self) -> tuple[int, ...]:
        """NCHW."""
        return (self.batch, self.filters, *self.output_size)

    @property
    def weight_shape(self) -> tuple[int, ...]:
        """Out, in / groups, height, width."""
        return (self.filters, self.group_channels, *self.kernel)

    @property
    def group_channels(self) -> int:
        """Input channels of one group."""
        return self.channels // self.groups

    @property
    def group_filters(self) -> int:
        """Output channels of one group."""
        return self.filters // self.groups

    @property
    def depthwise(self) -> bool:
        """Whether every channel is convolved on its own, and gives one."""
        return self.groups == self.channels == self.filters

    @property
    def pointwise(self) -> bool:
        """Whether the kernel is one pixel and nothing is padded."""
        return self.kernel == (1, 1) and not any(self.padding)

    @property
    def macs(self) -> int:
        """Multiply-accumulates."""
        return math.prod(self.output_shape) * math.prod(self.weight_shape[1:])

    @property
    def key(self) -> str:
        """Canonical text: what records are kept under."""
        sizes = " ".join(
            f"{name}{'x'.join(map(str, value))}"
            for name, value in (("k", self.kernel), ("s", self.stride), ("p", self.padding), ("d", self.dilation))
        )
        shapes = f"{'x'.join(map(str, self.input_shape))}>{'x'.join(map(str, self.output_shape))}"
        return f"conv {shapes} {sizes} g{self.groups} {self.epilogue.text}".strip()

    @property
    def plain(self) -> ConvTask:
        """The same work without the epilogue's details: what tile sizes depend on."""
        return replace(self, epilogue=Epilogue())


@dataclass(frozen=True)
class DenseTask:
    """A product of a matrix and constant weights, or of pairs of matrices that are both data.

    Attributes:
        rows: M; with constant weights all axes of the input but the last.
        inner: K.
        columns: N.
        epilogue: what is fused.
        pairs: of data matrices, one below the other; 0: the right-hand side is constant.
    """

    rows: int
    inner: int
    columns: int
    epilogue: Epilogue = field(default_factory=Epilogue)
    pairs: int = 0

    @property
    def matrices(self) -> int:
        """How many products there are."""
        return max(1, self.pairs)

    @property
    def input_shape(self) -> tuple[int, ...]:
        """(matrices x rows, inner)."""
        return (self.matrices * self.rows, self.inner)

    @property
    def output_shape(self) -> tuple[int, ...]:
        """(matrices x rows, columns)."""
        return (self.matrices * self.rows, self.columns)

    @property
    def weight_shape(self) -> tuple[int, ...]:
        """(matrices x inner, columns)."""
        return (self.matrices * self.inner, self.columns)

    @property
    def macs(self) -> int:
        """Multiply-accumulates."""
        return self.matrices * self.rows * self.inner * self.columns

    @property
    def key(self) -> str:
        """Canonical text: what records are kept under."""
        kind, first = ("product", f"{self.pairs}x") if self.pairs else ("dense", "")
        before, after = f"{first}{self.rows}x{self.inner}", f"{first}{self.rows}x{self.columns}"
        return f"{kind} {before}>{after} {self.epilogue.text}".strip()

    @property
    def plain(self) -> DenseTask:
        """The same work without the epilogue's details."""
        return replace(self, epilogue=Epilogue())


Task = ConvTask | DenseTask
