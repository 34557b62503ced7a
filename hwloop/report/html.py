"""`report.html`: one file that needs no network, with every number's unit, interval and origin."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

import jinja2
import plotly.graph_objects as go

from hwloop.files import write_atomic
from hwloop.report import plots
from hwloop.study import StudyResult

MB = 1e6


def write_report(result: StudyResult, path: Path) -> None:
    """Write the report of a study.

    Args:
        result: what the study found.
        path: of the HTML file; replaced atomically.
    """
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)
    template = environment.from_string(resources.files("hwloop.report").joinpath("report.html.j2").read_text())
    figures = {
        "front": plots.front_figure(result),
        "search": plots.search_figure(result),
        "holdout": plots.holdout_figure(result),
        "hypervolume": plots.hypervolume_figure(result),
        "grain": plots.grain_figure(result),
    }
    page = template.render(
        result=result,
        MB=MB,
        # The first figure brings plotly's script along: the page is read offline, on any machine.
        figures={name: _html(figure, script=name == "front") for name, figure in figures.items()},
    )
    write_atomic(path, page)


def _html(figure: go.Figure, *, script: bool) -> str:
    return str(
        figure.to_html(full_html=False, include_plotlyjs=script, config={"displayModeBar": False, "responsive": True})
    )
