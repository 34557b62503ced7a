"""The table that a study ends with, on the terminal or as JSON."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.table import Table

from hwloop.measurement import Interval
from hwloop.study import NetworkResult, StudyResult

MB = 1e6


def show(result: StudyResult, console: Console) -> None:
    """Print the networks, the predictor's error and the verdict."""
    table = Table(title=f"{result.name}: measured on {result.conditions['device']}", title_justify="left")
    for name in (
        "network",
        "test acc.",
        "lost",
        "params",
        "MACs",
        "predicted ms",
        "measured ms",
        "speed-up",
        "peak MB",
    ):
        table.add_column(name, justify="left" if name == "network" else "right", no_wrap=True)
    for network in (result.base, *result.networks):
        table.add_row(*_row(network, result.base))
    console.print()
    console.print(table)
    console.print(
        "[dim]acc. counted by onnxruntime on the exported file · measured: median of"
        f" {len(result.base.measured.process_medians_ms)} fresh interleaved processes, interval = their envelope"
        " · peak: resident set with the runtime (of which the model)[/]",
        soft_wrap=True,
    )
    console.print(predictor_line(result), highlight=False, soft_wrap=True)
    for note in result.notes:
        console.print(f"[yellow]note:[/] {note}", highlight=False, soft_wrap=True)
    console.print(f"[bold]{result.verdict}[/]", highlight=False, soft_wrap=True)


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
    flag = "" if network.measured.status == "ok" else " !"
    return (
        network.name,
        f"{100 * network.test_accuracy:.2f} %",
        "–" if is_base else f"{network.points_lost(base):+.2f}",
        _short(network.parameters),
        _short(network.macs),
        f"{network.predicted_ms:.4f} [dim]{_span(network.predicted_interval_ms, 4)}[/]",
        f"{network.measured.latency_ms:.4f} [dim]{_span(network.measured.interval_ms, 4)}[/]{flag}",
        "1" if is_base else f"{ratio:.2f}x [dim]{_span(interval, 2)}[/]",
        f"{network.measured.peak_bytes / MB:.1f} [dim]({network.measured.model_bytes / MB:.2f})[/]",
    )


def _span(interval: Interval, digits: int) -> str:
    return f"{interval.low:.{digits}f}–{interval.high:.{digits}f}"


def _short(number: int) -> str:
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if number >= size:
            return f"{number / size:.3g}{unit}"
    return str(number)
