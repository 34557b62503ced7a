"""A latency table as text: one line per layer, the reasons grouped below."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from rich.console import Console, JustifyMethod
from rich.table import Table

if TYPE_CHECKING:
    from hwloop.tables import LatencyTable, Row

NUMBER = re.compile(r"(?<![\w.])[-+]?\d[\d.,]*(?:e[-+]?\d+)?(?![\w])")


def as_json(table: LatencyTable) -> str:
    """Return the rows as JSON, without what is only in the raw trials; a number that there is not is null."""
    rows: list[dict[str, Any]] = []
    for row in table.rows:
        told = asdict(row)
        if not row.usable:
            told |= dict.fromkeys(("latency_ms", "low_ms", "high_ms"))
        rows.append(told)
    return json.dumps(rows, indent=1)


def print_table(table: LatencyTable, console: Console, *, reasons: bool = False) -> None:
    """Print a table.

    Args:
        table: to print.
        console: where; beyond a terminal its lines are as long as they need to be.
        reasons: list every layer's reasons in full instead of grouping them.
    """
    context = table.context
    if context is not None:
        console.print(context.text, highlight=False, markup=False)
    for one in table.mixed:
        console.print(f"mixed knowingly: {one}", style="yellow", highlight=False, markup=False)
    if any(row.emulated for row in table.rows):
        console.print("EMULATED: these latencies are an emulator's and say nothing about hardware", style="bold red")
    shown = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for name in ("layer", "ms", "interval", "model MB", "status"):
        # A key may take a second line; a number must never lose a digit.
        justify: JustifyMethod = "left" if name in ("layer", "status") else "right"
        shown.add_column(name, justify=justify, overflow="fold", no_wrap=name != "layer")
    for row in table.rows:
        usable = row.usable
        shown.add_row(
            row.key,
            f"{row.latency_ms:.4f}" if usable else "–",
            f"{row.low_ms:.4f}–{row.high_ms:.4f}" if usable else "–",
            f"{row.model_bytes / 1e6:.2f}" if usable else "–",
            row.status,
        )
    console.print(shown)
    for line in _in_full(table.rows) if reasons else footnotes(table.rows):
        console.print(line, highlight=False, markup=False, soft_wrap=True)


def footnotes(rows: Sequence[Row]) -> list[str]:
    """Return one line per status that needs words: how many rows have it, and how often each kind of reason.

    Reasons that differ only in their numbers are one kind. Rows that are ok and have a reason to be named (a span that
    was measured again) come last.
    """
    lines: list[str] = []
    for status in sorted({row.status for row in rows}, key=lambda status: (status == "ok", status)):
        here = [row for row in rows if row.status == status]
        kinds = Counter(kind for row in here for kind in {NUMBER.sub("N", reason) for reason in row.reasons})
        if status == "ok" and not kinds:
            continue
        told = "; ".join(f"{count} × {kind}" for kind, count in kinds.most_common())
        verb = "is" if len(here) == 1 else "are"
        lines.append(f"{len(here)} of {len(rows)} rows {verb} {status}" + (f": {told}" if told else ""))
    if any(row.reasons for row in rows):
        lines.append("every layer's own reasons: hwloop table show --reasons")
    return lines


def _in_full(rows: Iterable[Row]) -> list[str]:
    return [f"{row.key}: {row.status}: {'; '.join(row.reasons)}" for row in rows if row.reasons]
