"""Where a table of somebody else comes from, and a row of it: what the file does not tell is unknown, and says so."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from hwloop.layers import Layer
from hwloop.tables.row import Context, Row

UNKNOWN = "unknown"


@dataclass(frozen=True)
class Source:
    """What the person who imports a file knows about it; none of the formats tells.

    Attributes:
        device: what to call the device that was measured.
        cpu: its processor or accelerator.
        runtime: that it was measured with.
        runtime_version: of the runtime.
        threads: of the runtime; 0 when unknown.
    """

    device: str
    cpu: str = UNKNOWN
    runtime: str = UNKNOWN
    runtime_version: str = UNKNOWN
    threads: int = 0

    @property
    def context(self) -> Context:
        """Of all rows."""
        return Context(self.device, self.cpu, self.runtime, self.runtime_version, self.threads)


def foreign_row(
    layer: Layer,
    latency_ms: float,
    source: Source,
    reasons: Sequence[str],
    interval_ms: tuple[float, float] | None = None,
) -> Row:
    """Return a row of a foreign table.

    It is `degraded`: there are no raw samples, no processes and no conditions behind it, so it is used only where
    hwloop has not measured, and its reasons say what it is.

    Args:
        layer: that was measured.
        latency_ms: as the file has it.
        source: of the file.
        reasons: what the file is, what its number is, and what it does not tell.
        interval_ms: of the latency; None when the file has none (the row's interval then has no width).

    Raises:
        UserError: the latency is not positive and finite.
    """
    low, high = interval_ms or (latency_ms, latency_ms)
    unknown = () if interval_ms is not None else ("its interval is unknown",)
    return Row(
        key=layer.key,
        latency_ms=latency_ms,
        low_ms=low,
        high_ms=high,
        process_medians_ms=(),
        peak_bytes=0,
        model_bytes=0,
        status="degraded",
        reasons=(*reasons, *unknown, "its conditions and raw samples are unknown"),
        context=source.context,
    )


def opaque_layer(name: str, inputs: Sequence[tuple[int, ...]], output: tuple[int, ...]) -> Layer:
    """Return a unit that hwloop cannot execute, under its name: a block of several layers, or another operation."""
    return Layer("unsupported", tuple(inputs), output, detail=name)
