"""The latency tables of a folder, and those that ship with hwloop."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import hwloop
from hwloop.errors import DataError
from hwloop.tables.latency_table import LatencyTable
from hwloop.tables.row import Context

FOLDER = "latency_tables"


@dataclass(frozen=True)
class Listed:
    """One file of a folder.

    Attributes:
        path: of the file.
        size_bytes: of the file.
        rows: of the table; 0 when it cannot be read.
        usable: rows with a latency.
        context: of the table; None when it is empty or cannot be read.
        mixed: what was mixed knowingly.
        error: why it cannot be read; "" when it can.
    """

    path: Path
    size_bytes: int
    rows: int = 0
    usable: int = 0
    context: Context | None = None
    mixed: tuple[str, ...] = ()
    error: str = ""


def shipped_folder() -> Path | None:
    """The folder of the tables that ship: inside the package, or beside it in a checkout; None where there is none."""
    package = Path(hwloop.__file__).parent
    return next((place for place in (package / FOLDER, package.parent / FOLDER) if place.is_dir()), None)


def list_tables(folder: Path) -> list[Listed]:
    """Look at every `.parquet` file in a folder and below it, sorted by path.

    Raises:
        DataError: the folder does not exist.
    """
    if not folder.is_dir():
        raise DataError(f"there is no folder {folder}")
    return [_look(path) for path in sorted(folder.rglob("*.parquet")) if path.is_file()]


def _look(path: Path) -> Listed:
    size = path.stat().st_size
    try:
        table = LatencyTable.load(path)
    except DataError as error:
        return Listed(path, size, error=str(error))
    return Listed(path, size, len(table), table.usable, table.context, table.mixed)
