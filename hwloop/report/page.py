"""What all pages and figures have in common: colours, axes, and that a page needs no network."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import resources
from typing import Any

import jinja2
import plotly.graph_objects as go

BASE = "#444444"
ACCENT = "#1f6fb2"
FAINT = "#b8c4ce"
WARM = "#d1603d"


def plain_figure(x: str, y: str) -> go.Figure:
    """Return an empty figure with titles on its axes."""
    figure = go.Figure()
    figure.update_layout(
        template="simple_white",
        xaxis_title=x,
        yaxis_title=y,
        height=420,
        margin={"l": 60, "r": 20, "t": 20, "b": 50},
        legend={"orientation": "h", "yanchor": "bottom", "y": 1.02},
        font={"family": "system-ui, sans-serif", "size": 13},
    )
    return figure


def render(template: str, figures: Mapping[str, go.Figure], **values: Any) -> str:
    """Return a page.

    Args:
        template: a file of this package; finds the figures' HTML in `figures`.
        figures: by name; the first one brings plotly's script along, so that the page is read offline, on any machine.
        values: for the template; escaped.
    """
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)
    page = environment.from_string(resources.files("hwloop.report").joinpath(template).read_text())
    drawn = {name: _html(figure, script=index == 0) for index, (name, figure) in enumerate(figures.items())}
    return page.render(figures=drawn, **values)


def _html(figure: go.Figure, *, script: bool) -> str:
    return str(
        figure.to_html(full_html=False, include_plotlyjs=script, config={"displayModeBar": False, "responsive": True})
    )
