"""`hwloop table plot`: the curves of a table, as a page for a browser."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("plot")(plot)


def plot(
    table: Annotated[Path, typer.Argument(help="A latency table.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The page; needs no network.")],
    key: Annotated[str, typer.Option(help="Only keys that match this shell pattern, such as 'conv *'.")] = "*",
) -> None:
    """Draw latency over width, one figure for each geometry, with intervals."""
    from hwloop.report.table import write_table_page
    from hwloop.tables import LatencyTable

    drawn = write_table_page(LatencyTable.load(table).filter(pattern=key), table.name, output)
    more = f"; {drawn.left_out} with fewer points are left out, choose with --key" if drawn.left_out else ""
    typer.echo(f"{output}: {drawn.figures} geometries{more}")
