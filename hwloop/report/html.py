"""`report.html`: one file that needs no network, with every number's unit, interval and origin."""

from __future__ import annotations

from pathlib import Path

from hwloop.files import write_atomic
from hwloop.report import plots
from hwloop.report.page import render
from hwloop.study import StudyResult

MB = 1e6


def write_report(result: StudyResult, path: Path) -> None:
    """Write the report of a study.

    Args:
        result: what the study found.
        path: of the HTML file; replaced atomically.
    """
    figures = {
        "front": plots.front_figure(result),
        "search": plots.search_figure(result),
        "holdout": plots.holdout_figure(result),
        "hypervolume": plots.hypervolume_figure(result),
        "grain": plots.grain_figure(result),
    }
    write_atomic(path, render("report.html.j2", figures, result=result, MB=MB))
