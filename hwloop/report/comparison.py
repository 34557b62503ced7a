"""The page of a comparison of search algorithms: hypervolume as evaluations come in, and attainment."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import plotly.graph_objects as go
from numpy.typing import NDArray

from hwloop.files import write_atomic
from hwloop.report.page import plain_figure, render
from hwloop.study.comparing import Comparison

FloatArray = NDArray[np.float64]

COLOURS = ("#1f6fb2", "#d1603d", "#3a8f5c", "#8a5ea8", "#b08d2e", "#4aa3a3", "#a85e6f", "#666666")
DASHES = ("solid", "dash", "dot")
"""The colours come again with the next of these."""

ATTAINED = 50


def write_comparison(comparison: Comparison, path: Path) -> None:
    """Write the page; it needs no network."""
    figures = {"curves": curve_figure(comparison.curves)}
    if len(comparison.objectives) > 1:
        figures["attained"] = attainment_figure(comparison.attained(ATTAINED), comparison.objectives)
    write_atomic(path, render("comparison.html.j2", figures, comparison=comparison, rows=comparison.standings))


def curve_figure(curves: Mapping[str, Mapping[int, FloatArray]]) -> go.Figure:
    """Median hypervolume over evaluations, with the band between its quartiles, of curves by algorithm and seed."""
    figure = plain_figure("evaluations", "hypervolume")
    for (name, runs), line in zip(curves.items(), _lines(len(curves)), strict=True):
        shortest = min(len(curve) for curve in runs.values())
        cut = np.array([curve[:shortest] for curve in runs.values()])
        low, middle, high = np.quantile(cut, (0.25, 0.5, 0.75), axis=0)
        evaluations = np.arange(1, shortest + 1)
        figure.add_trace(go.Scatter(x=evaluations, y=middle, line=line, name=name, legendgroup=name))
        figure.add_trace(
            go.Scatter(
                x=np.concatenate([evaluations, evaluations[::-1]]),
                y=np.concatenate([high, low[::-1]]),
                fill="toself",
                fillcolor=line["color"],
                opacity=0.15,
                line={"width": 0},
                hoverinfo="skip",
                showlegend=False,
                legendgroup=name,
            )
        )
    return figure


def attainment_figure(attained: Mapping[str, FloatArray], objectives: Sequence[str]) -> go.Figure:
    """The line in the first two objectives that each algorithm attained; see `attainment`."""
    figure = plain_figure(objectives[1], objectives[0])
    for (name, points), line in zip(attained.items(), _lines(len(attained)), strict=True):
        figure.add_trace(
            go.Scatter(x=points[:, 1], y=points[:, 0], line=line | {"shape": "vh"}, mode="lines+markers", name=name)
        )
    return figure


def _lines(count: int) -> Sequence[dict[str, str]]:
    """Colours and dashes that tell so many lines apart."""
    styles = itertools.cycle({"color": colour, "dash": dash} for dash in DASHES for colour in COLOURS)
    return list(itertools.islice(styles, count))
