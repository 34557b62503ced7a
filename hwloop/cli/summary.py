"""The table that a study ends with, on the terminal or as JSON."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from hwloop.measurement import Interval
from hwloop.study import NetworkResult, StudyResult

MB = 1e6


COLUMNS = ("network", "acc. %\nlost", "params\nMACs", "predicted ms", "measured ms", "speed-up", "peak MB\nmodel")


def show(result: StudyResult, console: Console) -> None:
    """Print the networks, the predictor's error and the verdict. Intervals stand under their numbers."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for name in COLUMNS:
        table.add_column(name, justify="left" if name == "network" else "right", no_wrap=True)
    for network in (result.base, *result.networks):
        table.add_row(*_row(network, result.base))
    console.print(f"\n[bold]{result.name}[/], measured on {result.conditions['device']}", highlight=False)
    console.print(table)
    processes = max(len(n.measured.process_medians_ms) for n in (result.base, *result.networks))
    console.print(
        "[dim]acc.: of the test images, counted by onnxruntime on the exported file. measured: median of"
        f" {processes} fresh, interleaved processes, below it their envelope. peak: resident set with the runtime,"
        " below it the model's part. ! degraded conditions.[/]",
        soft_wrap=True,
    )
    console.print(predictor_line(result), highlight=False, soft_wrap=True)
    for note in result.notes:
        console.print(f"[yellow]note:[/] {escape(note)}", highlight=False, soft_wrap=True)
    console.print(f"[bold]{escape(result.verdict)}[/]", highlight=False, soft_wrap=True)


def predictor_line(result: StudyResult) -> str:
    """The predictor's error on networks it never saw, with the noise floor beside it."""
    p = result.predictor

    def errors(name: str, digits: int) -> str:
        return f"{100 * p[name]['median']:.{digits}f} / {100 * p[name]['p90']:.{digits}f} %"

    floor = "not known" if p["noise_floor"] is None else f"{100 * p['noise_floor']:.1f} %"
    memory = f"; peak memory {errors('memory', 2)}" if p["memory"] else ""
    return (
        f"predictor on {p['networks']} held-out networks, relative error median / 90th percentile: latency"
        f" {errors('latency', 1)} (raw sum of layers {errors('sum_of_layers', 1)}){memory}; noise floor {floor}"
    )


def as_data(result: StudyResult) -> dict[str, Any]:
    """The result as JSON-able data."""
    return {
        "name": result.name,
        "verdict": result.verdict,
        "networks": [n.row(result.base) for n in (result.base, *result.networks)],
        "predictor": dict(result.predictor),
        "conditions": dict(result.conditions),
        "notes": list(result.notes),
    }


def _row(network: NetworkResult, base: NetworkResult) -> tuple[str, ...]:
    is_base = network is base
    ratio, interval = network.speedup(base)
    digits = 4 if base.measured.latency_ms < 1 else 3 if base.measured.latency_ms < 10 else 2
    flag = "" if network.measured.status == "ok" else "!"
    return (
        network.name,
        f"{100 * network.test_accuracy:.2f}\n[dim]{'' if is_base else f'{network.points_lost(base):+.2f}'}[/]",
        f"{_short(network.parameters)}\n[dim]{_short(network.macs)}[/]",
        f"{network.predicted_ms:.{digits}f}\n[dim]{_span(network.predicted_interval_ms, digits)}[/]",
        f"{flag}{network.measured.latency_ms:.{digits}f}\n[dim]{_span(network.measured.interval_ms, digits)}[/]",
        "1" if is_base else f"{ratio:.2f}x\n[dim]{_span(interval, 2)}[/]",
        f"{network.measured.peak_bytes / MB:.1f}\n[dim]{network.measured.model_bytes / MB:.1f}[/]",
    )


def _span(interval: Interval, digits: int) -> str:
    return f"{interval.low:.{digits}f}–{interval.high:.{digits}f}"


def _short(number: int) -> str:
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if number >= size:
            return f"{number / size:.3g}{unit}"
    return str(number)
