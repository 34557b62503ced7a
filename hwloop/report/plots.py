"""The figures of the report, as plotly figures."""

from __future__ import annotations

import plotly.graph_objects as go

from hwloop.report.page import ACCENT, BASE, FAINT, WARM, plain_figure
from hwloop.study import StudyResult


def front_figure(result: StudyResult) -> go.Figure:
    """Test accuracy against measured latency of the exported networks, with the base."""
    figure = plain_figure("measured latency [ms]", "test accuracy [%]")
    groups = (((result.base,), BASE, "base", "bottom center"), (result.networks, ACCENT, "front", "top center"))
    for networks, colour, name, place in groups:
        figure.add_trace(
            go.Scatter(
                x=[n.measured.latency_ms for n in networks],
                y=[100 * n.test_accuracy for n in networks],
                error_x={
                    "type": "data",
                    "symmetric": False,
                    "array": [n.measured.interval_ms.high - n.measured.latency_ms for n in networks],
                    "arrayminus": [n.measured.latency_ms - n.measured.interval_ms.low for n in networks],
                    "thickness": 1,
                },
                mode="markers+text",
                text=[n.name for n in networks],
                textposition=place,
                marker={"color": colour, "size": 10},
                name=name,
                hovertext=[n.text for n in networks],
            )
        )
    return figure


def search_figure(result: StudyResult) -> go.Figure:
    """All evaluated candidates, with those of the front that were measured."""
    figure = plain_figure("predicted latency [ms]", "error on the held-out split [%]")
    figure.add_trace(
        go.Scatter(
            x=[c["latency_ms"] for c in result.candidates],
            y=[100 * c["error"] for c in result.candidates],
            mode="markers",
            marker={"color": FAINT, "size": 5},
            name="evaluated",
            hovertext=[c["candidate"] for c in result.candidates],
        )
    )
    figure.add_trace(
        go.Scatter(
            x=[c["predicted_ms"] for c in result.measured_front],
            y=[100 * c["error"] for c in result.measured_front],
            mode="markers",
            marker={"color": WARM, "size": 8},
            name="measured members of the front",
            hovertext=[c["candidate"] for c in result.measured_front],
        )
    )
    return figure


def holdout_figure(result: StudyResult) -> go.Figure:
    """Predicted against measured latency of held-out networks: corrected, and the raw sum of layers."""
    figure = plain_figure("measured latency [ms]", "predicted latency [ms]")
    measured = [h.measured_ms for h in result.holdout]
    figure.add_trace(
        go.Scatter(
            x=measured,
            y=[h.sum_of_layers_ms for h in result.holdout],
            mode="markers",
            marker={"color": FAINT, "size": 6},
            name="sum of isolated layers",
        )
    )
    figure.add_trace(
        go.Scatter(
            x=measured,
            y=[h.predicted_ms for h in result.holdout],
            error_y={
                "type": "data",
                "symmetric": False,
                "array": [h.high_ms - h.predicted_ms for h in result.holdout],
                "arrayminus": [h.predicted_ms - h.low_ms for h in result.holdout],
                "thickness": 0.8,
            },
            mode="markers",
            marker={"color": ACCENT, "size": 7},
            name="corrected, with interval",
        )
    )
    ends = [min(measured), max(measured)]
    figure.add_trace(
        go.Scatter(x=ends, y=ends, mode="lines", line={"color": BASE, "width": 1, "dash": "dot"}, name="equal")
    )
    return figure


def hypervolume_figure(result: StudyResult) -> go.Figure:
    """Hypervolume of the non-dominated candidates after each generation."""
    figure = plain_figure("generation", "hypervolume (normalised)")
    figure.add_trace(
        go.Scatter(
            x=list(range(1, len(result.hypervolume) + 1)),
            y=list(result.hypervolume),
            mode="lines+markers",
            line={"color": ACCENT},
            showlegend=False,
        )
    )
    return figure


def grain_figure(result: StudyResult) -> go.Figure:
    """The staircase: latency of one layer as its output width grows channel by channel."""
    figure = plain_figure("output channels", "latency [ms]")
    sweep = result.grain
    figure.add_trace(
        go.Scatter(
            x=list(sweep.widths),
            y=list(sweep.latencies_ms),
            mode="markers",
            marker={"color": ACCENT, "size": 7},
            showlegend=False,
        )
    )
    if sweep.grain > 1:
        figure.update_xaxes(dtick=sweep.grain, showgrid=True)
    return figure
