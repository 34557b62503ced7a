"""The page of a search over a graph network: the measured front, what was evaluated, and the conditions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import plotly.graph_objects as go

from hwloop.files import write_atomic
from hwloop.report.page import ACCENT, BASE, FAINT, plain_figure, render


def write_graph_report(result: Mapping[str, Any], title: str, path: Path) -> None:
    """Write the page of a search.

    Args:
        result: what `front.json` holds (see `hwloop.study.graph_search`).
        title: of the page.
        path: of the HTML file; replaced atomically.
    """
    page = render(
        "graphs.html.j2",
        {"front": front_figure(result), "search": search_figure(result)},
        title=title,
        result=result,
        base=next(row for row in result["front"] if row["candidate"] == result["base"]),
    )
    write_atomic(path, page)


def front_figure(result: Mapping[str, Any]) -> go.Figure:
    """Test accuracy against measured latency of the trained networks of the front, with the base."""
    figure = plain_figure("measured latency [ms]", "test accuracy [%]")
    usable = [row for row in result["front"] if row["latency_ms"] is not None]
    is_base = [row["candidate"] == result["base"] for row in usable]
    for wanted, colour, name in ((True, BASE, "base"), (False, ACCENT, "front")):
        rows = [row for row, base in zip(usable, is_base, strict=True) if base is wanted]
        figure.add_trace(
            go.Scatter(
                x=[row["latency_ms"] for row in rows],
                y=[100 * row["test"] for row in rows],
                error_x=_interval(rows),
                mode="markers",
                marker={"color": colour, "size": 10},
                name=name,
                hovertext=[row["candidate"] for row in rows],
            )
        )
    return figure


def search_figure(result: Mapping[str, Any]) -> go.Figure:
    """All evaluated candidates, each at the measured latency of its width and edges."""
    figure = plain_figure("measured latency of the width and the edges [ms]", "error on the validation split [%]")
    candidates = result["candidates"]
    figure.add_trace(
        go.Scatter(
            x=[one["latency_ms"] for one in candidates],
            y=[100 * one["error"] for one in candidates],
            mode="markers",
            marker={"color": FAINT, "size": 6},
            hovertext=[one["candidate"] for one in candidates],
            showlegend=False,
        )
    )
    return figure


def _interval(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    return {
        "type": "data",
        "symmetric": False,
        "array": [row["high_ms"] - row["latency_ms"] for row in rows],
        "arrayminus": [row["latency_ms"] - row["low_ms"] for row in rows],
        "thickness": 1,
    }
