"""The page of a latency table: latency over width, one figure for each geometry, with intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import plotly.graph_objects as go
from plotly.colors import sample_colorscale

from hwloop.errors import DataError
from hwloop.files import write_atomic
from hwloop.report.page import plain_figure, render
from hwloop.tables import LatencyTable, Point

MOST_FIGURES = 40


@dataclass(frozen=True)
class Drawn:
    """What became of a table.

    Attributes:
        figures: geometries that were drawn.
        left_out: geometries that were not: there were more than `MOST_FIGURES`, these have the fewest points.
    """

    figures: int
    left_out: int


def write_table_page(table: LatencyTable, name: str, path: Path) -> Drawn:
    """Write the page of a table.

    Args:
        table: to draw.
        name: of the table, for the title.
        path: of the HTML file; replaced atomically.

    Raises:
        DataError: there is nothing to draw, or the file cannot be written.
    """
    by_size = sorted(table.points().items(), key=lambda item: (-len(item[1]), item[0]))
    if not by_size:
        raise DataError(f"{name} has no row with a latency: there is nothing to draw")
    shown = dict(by_size[:MOST_FIGURES])
    page = render(
        "table.html.j2",
        {geometry: geometry_figure(points) for geometry, points in shown.items()},
        name=name,
        context=table.context,
        mixed=table.mixed,
        grain=table.grain,
        rows=len(table),
        emulated=any(row.emulated for row in table.rows),
        left_out=len(by_size) - len(shown),
        sizes={geometry: len(points) for geometry, points in shown.items()},
    )
    try:
        write_atomic(path, page)
    except OSError as error:
        raise DataError(f"{path} cannot be written: {error.strerror or error}") from error
    return Drawn(len(shown), len(by_size) - len(shown))


def geometry_figure(points: Sequence[Point]) -> go.Figure:
    """Latency over the output width, a line for each input width; over the one width where the two go hand in hand."""
    lines = _lines(points)
    figure = plain_figure("output width" if len(lines) > 1 else "width", "latency [ms]")
    colours = sample_colorscale("Viridis", [0.9 * place / max(len(lines) - 1, 1) for place in range(len(lines))])
    for (title, line), colour in zip(lines.items(), colours, strict=True):
        figure.add_trace(
            go.Scatter(
                x=[point.outputs for point in line],
                y=[point.latency_ms for point in line],
                error_y={
                    "type": "data",
                    "symmetric": False,
                    "array": [point.high_ms - point.latency_ms for point in line],
                    "arrayminus": [point.latency_ms - point.low_ms for point in line],
                    "thickness": 1,
                },
                mode="lines+markers",
                line={"color": colour, "width": 1},
                marker={"symbol": ["circle-open" if point.degraded else "circle" for point in line], "size": 7},
                name=title,
                showlegend=len(lines) > 1,
            )
        )
    figure.update_yaxes(rangemode="tozero")
    return figure


def _lines(points: Sequence[Point]) -> Mapping[str, list[Point]]:
    """The points of one line of the figure, by its title, each in the order of its widths."""
    widths = sorted({point.inputs for point in points})
    if len(widths) == len(points):  # one output width for each input width
        return {"": sorted(points, key=lambda point: point.outputs)}
    return {
        f"{width} in": sorted((p for p in points if p.inputs == width), key=lambda point: point.outputs)
        for width in widths
    }
