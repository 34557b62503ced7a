"""`hwloop table list`: the latency tables of a folder, and those that ship with hwloop."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

if TYPE_CHECKING:
    from hwloop.tables import Listed


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("list")(list_)


def list_(
    folder: Annotated[Path, typer.Argument(help="Where to look, subfolders too.")] = Path(),
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, and nothing else.")] = False,
) -> None:
    """List the tables in a folder and the tables that ship: what was measured, with what, and how much of it."""
    from hwloop.tables import list_tables, shipped_folder

    shipped = shipped_folder()
    found = {one.path.resolve(): one for one in list_tables(folder)}
    if shipped is not None:
        found |= {one.path.resolve(): one for one in list_tables(shipped) if one.path.resolve() not in found}
    is_shipped = {path: shipped is not None and path.is_relative_to(shipped.resolve()) for path in found}
    if as_json:
        typer.echo(json.dumps([_data(one, is_shipped[path]) for path, one in found.items()], indent=1))
    else:
        _show([(one, is_shipped[path]) for path, one in found.items()], Console())


def _data(one: Listed, is_shipped: bool) -> dict[str, Any]:
    return {**asdict(one), "path": str(one.path), "shipped": is_shipped}


def _show(found: list[tuple[Listed, bool]], console: Console) -> None:
    if not found:
        console.print("there are no latency tables", highlight=False)
    for one, is_shipped in found:
        name = f"{one.path}{' (shipped)' if is_shipped else ''}"
        size = f"{one.size_bytes / 1e3:.0f} kB"
        lines = [f"{name}: {one.rows} rows, {one.usable} with a latency, {size}"]
        if one.error:
            lines = [f"{name}: {size}", f"  cannot be used: {one.error}"]
        if one.context is not None:
            lines.append(f"  {one.context.text}")
        lines += [f"  mixed knowingly: {difference}" for difference in one.mixed]
        for line in lines:
            console.print(line, highlight=False, markup=False, soft_wrap=True)
