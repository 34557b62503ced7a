"""`hwloop table merge|filter`: new tables from old ones; the old ones stay as they are."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hwloop.errors import UserError

Output = Annotated[Path, typer.Option("--output", "-o", help="The new table; replaced whole, or not at all.")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command("merge")(merge)
    app.command("filter")(filter_)


def merge(
    tables: Annotated[list[Path], typer.Argument(help="Two tables or more, of one device, runtime and version.")],
    output: Output,
    mix: Annotated[
        list[str] | None,
        typer.Option(help="governor or clock: may differ all the same, and the new table says so; again for both."),
    ] = None,
) -> None:
    """Put the rows of several tables into one; what must not be mixed is refused by name."""
    from hwloop.tables import LatencyTable

    if len(tables) < 2:
        raise UserError("merging takes two tables or more")
    merged = LatencyTable.load(tables[0])
    for path in tables[1:]:
        try:
            merged = merged.merge(LatencyTable.load(path), mix or ())
        except UserError as error:
            raise UserError(f"{path}: {error}") from error
    merged.save(output)
    typer.echo(f"{output}: {len(merged)} rows of {len(tables)} tables")
    for one in merged.mixed:
        typer.echo(f"mixed knowingly: {one}")


def filter_(
    table: Annotated[Path, typer.Argument(help="A latency table.")],
    output: Output,
    op: Annotated[list[str] | None, typer.Option(help="Keep this operation, such as conv; again for more.")] = None,
    status: Annotated[list[str] | None, typer.Option(help="Keep this status, such as ok; again for more.")] = None,
    key: Annotated[str, typer.Option(help="Keep keys that match this shell pattern, such as 'conv * k3x3 *'.")] = "*",
) -> None:
    """Keep some rows of a table."""
    from hwloop.layers import OPS
    from hwloop.tables import LatencyTable

    for name in op or ():
        if name not in OPS:
            raise UserError(f"--op {name}: there is no such operation; known are {', '.join(OPS)}")
    before = LatencyTable.load(table)
    kept = before.filter(ops=op or (), statuses=status or (), pattern=key)
    if not len(kept):
        raise UserError(f"none of the {len(before)} rows of {table} is left; nothing was written")
    kept.save(output)
    typer.echo(f"{output}: {len(kept)} of {len(before)} rows")
