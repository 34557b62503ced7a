"""A latency table as CSV, and back without loss: for spreadsheets, diffs and other tools.

The first line is a comment, ``# hwloop.latency_table`` and the header as JSON; the second names the columns, those of
`hwloop.tablefile.SCHEMA` (``pandas.read_csv(path, skiprows=1)`` reads it). Lists are JSON in one cell. An empty cell is
a number that there is not, or a text that nobody knows; a text that is known and empty, or that begins with a quotation
mark, is written as JSON. Numbers have as many digits as they need to come back the same.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa

from hwloop.errors import DataError, ModelError, UserError
from hwloop.files import write_atomic
from hwloop.tablefile import SCHEMA, Header, refuse_newer
from hwloop.tables.latency_table import LatencyTable
from hwloop.tables.records import to_row

MARK = "# hwloop.latency_table "


def write_csv(table: LatencyTable, path: Path) -> None:
    """Write a table as CSV, whole or not at all.

    Raises:
        DataError: the file cannot be written; an old one is untouched.
    """
    text = io.StringIO(newline="")
    text.write(MARK + table.header.to_json() + "\r\n")
    writer = csv.writer(text)
    writer.writerow(SCHEMA.names)
    for record in table.records():
        writer.writerow([_cell(SCHEMA.field(name), record[name]) for name in SCHEMA.names])
    try:
        write_atomic(path, text.getvalue())
    except OSError as error:
        raise DataError(f"{path} cannot be written: {error.strerror or error}") from error


def read_csv(path: Path) -> LatencyTable:
    """Read a table that `write_csv` has written, or that somebody has edited since.

    What follows from the key (`geometry`, `op`, `inputs`, `outputs`, `processes`) is not read but made again.

    Raises:
        DataError: it cannot be read, is none, lacks a column, or a line says what cannot be; the text names it.
    """
    try:
        text = path.read_bytes().decode()
    except FileNotFoundError:
        raise DataError(f"there is no file {path}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read: {error}") from error
    first, _, rest = text.partition("\n")
    if not first.startswith(MARK):
        raise DataError(f"{path} is not a latency table as CSV: its first line does not begin with {MARK!r}")
    try:
        header, version = Header.parse(first.removeprefix(MARK))
    except ValueError as error:
        raise DataError(f"{path} has a {error}") from error
    refuse_newer(path, version)
    reader = csv.DictReader(io.StringIO(rest, newline=""), restkey="", strict=True)
    try:
        missing = [name for name in SCHEMA.names if name not in (reader.fieldnames or ())]
        if missing:
            raise DataError(f"{path} lacks the columns {', '.join(missing)}")
        return LatencyTable((to_row(_record(cells)) for cells in reader), header.grain, header.mixed)
    except (csv.Error, ValueError, TypeError, UserError) as error:
        if isinstance(error, DataError):
            raise
        where = "" if isinstance(error, ModelError) else f" before line {reader.line_num + 2}"
        raise DataError(f"{path}{where}: {error}") from error


def _record(cells: Mapping[str, str | None]) -> dict[str, Any]:
    if "" in cells:
        raise ValueError("more cells than columns")
    record = {}
    for name in SCHEMA.names:
        cell = cells[name]
        if cell is None:
            raise ValueError("fewer cells than columns")
        try:
            record[name] = _value(SCHEMA.field(name), cell)
        except ValueError as error:
            raise ValueError(f"{name} is {cell!r}: {error}") from None
    return record


def _cell(field: Any, value: Any) -> str:
    if value is None:
        return ""
    if pa.types.is_list(field.type):
        return json.dumps(value, ensure_ascii=False)
    if pa.types.is_boolean(field.type):
        return "true" if value else "false"
    if pa.types.is_string(field.type) and field.nullable and (not value or value.startswith('"')):
        return json.dumps(value, ensure_ascii=False)
    return str(value)


def _value(field: Any, cell: str) -> Any:
    if pa.types.is_list(field.type):
        kind: Any = float if pa.types.is_floating(field.type.value_type) else str
        found = json.loads(cell)
        if not isinstance(found, list) or (kind is str and not all(isinstance(one, str) for one in found)):
            raise ValueError("not a JSON list")
        return [kind(one) for one in found]
    if not cell and field.nullable:
        return None
    if pa.types.is_boolean(field.type):
        if cell not in ("true", "false"):
            raise ValueError("not true or false")
        return cell == "true"
    if pa.types.is_integer(field.type):
        return int(cell)
    if pa.types.is_floating(field.type):
        return float(cell)
    if field.nullable and cell.startswith('"'):
        return json.loads(cell)
    return cell
