"""The file form of a latency table: Parquet, with the schema version in its metadata.

Version 2 columns are those of `SCHEMA`; `geometry`, `op`, `inputs` and `outputs` are derived from `key` and
stored so that a large table answers its first lookup without parsing every key. Version 1 had no `emulated`.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from hwloop.errors import DataError
from hwloop.files import write_atomic
from hwloop.measurement import USABLE

SCHEMA_VERSION = 2

METADATA_KEY = b"hwloop.latency_table"

SCHEMA = pa.schema(
    [
        pa.field("key", pa.string(), nullable=False),
        pa.field("geometry", pa.string(), nullable=False),
        pa.field("op", pa.string(), nullable=False),
        pa.field("inputs", pa.int64(), nullable=False),
        pa.field("outputs", pa.int64(), nullable=False),
        pa.field("latency_ms", pa.float64()),
        pa.field("low_ms", pa.float64()),
        pa.field("high_ms", pa.float64()),
        pa.field("process_medians_ms", pa.list_(pa.float64()), nullable=False),
        pa.field("processes", pa.int64(), nullable=False),
        pa.field("peak_bytes", pa.int64(), nullable=False),
        pa.field("model_bytes", pa.int64(), nullable=False),
        pa.field("status", pa.string(), nullable=False),
        pa.field("reasons", pa.list_(pa.string()), nullable=False),
        pa.field("device", pa.string(), nullable=False),
        pa.field("cpu", pa.string(), nullable=False),
        pa.field("runtime", pa.string(), nullable=False),
        pa.field("runtime_version", pa.string(), nullable=False),
        pa.field("threads", pa.int64(), nullable=False),
        pa.field("governor", pa.string()),
        pa.field("clock_mhz", pa.float64()),
        pa.field("temperature_c", pa.float64()),
        pa.field("throttle", pa.string(), nullable=False),
        pa.field("canary_ratio", pa.float64()),
        pa.field("samples_sha256", pa.string(), nullable=False),
        pa.field("trial_ids", pa.list_(pa.string()), nullable=False),
        pa.field("agent_sha256", pa.string(), nullable=False),
        pa.field("measured_at", pa.string(), nullable=False),
        pa.field("emulated", pa.bool_()),
        pa.field("fusion", pa.string()),
    ]
)
"""Columns of version 2. Latencies are null in rows whose status is not usable."""

#: Columns that later versions added, with the version; read as null from older tables.
ADDED = {"emulated": 2, "fusion": 2}

CONTEXT_COLUMNS = ("device", "cpu", "runtime", "runtime_version", "threads")


def write_table(path: Path, table: Any, grain: int) -> None:
    """Write a table of `SCHEMA`, whole or not at all.

    Args:
        path: of the file; its folder exists.
        table: a `pyarrow.Table` of `SCHEMA`.
        grain: of the table.

    Raises:
        DataError: the file cannot be written; an old one is untouched.
    """
    header = {"version": SCHEMA_VERSION, "grain": grain}
    sink = pa.BufferOutputStream()
    metadata = {METADATA_KEY: json.dumps(header, sort_keys=True).encode()}
    pq.write_table(table.replace_schema_metadata(metadata), sink, compression="zstd")
    try:
        write_atomic(path, sink.getvalue().to_pybytes())
    except OSError as error:
        raise DataError(f"latency table {path} cannot be written: {error.strerror or error}") from error


def read_table(path: Path) -> tuple[Any, int]:
    """Read and check a table.

    Returns:
        The `pyarrow.Table` of `SCHEMA` and the grain.

    Raises:
        DataError: there is no such file, it is not a latency table, it is damaged, it is of a newer version,
            or a row that claims to be usable has no number.
    """
    try:
        # Read whole and parsed from memory: a file that is replaced meanwhile cannot be seen half old, half
        # new.
        reader = pq.ParquetFile(pa.BufferReader(path.read_bytes()))
        header = (reader.schema_arrow.metadata or {}).get(METADATA_KEY)
    except FileNotFoundError:
        raise DataError(f"there is no latency table at {path}") from None
    except OSError as error:
        raise DataError(f"latency table {path} cannot be read: {error.strerror or error}") from error
    except pa.ArrowException as error:
        raise DataError(
            f"{path} is not a latency table, or is damaged: it is not readable Parquet ({_line(error)})"
        ) from error
    if header is None:
        raise DataError(f"{path} is Parquet, but not a latency table of hwloop")
    try:
        fields = json.loads(header)
        version, grain = int(fields["version"]), int(fields.get("grain", 1))
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"latency table {path} has a damaged header: {header[:80]!r}") from error
    if version > SCHEMA_VERSION:
        raise DataError(
            f"latency table {path} has schema version {version}, this hwloop reads up to {SCHEMA_VERSION};"
            " read it with a newer hwloop"
        )
    try:
        there = reader.schema_arrow.names
        missing = [name for name in SCHEMA.names if name not in there and ADDED.get(name, 0) <= version]
        if missing:
            raise DataError(f"latency table {path} lacks the columns {', '.join(missing)}")
        table = reader.read(columns=[name for name in SCHEMA.names if name in there])
        for name in ADDED:
            if name not in there:
                table = table.append_column(name, pa.nulls(len(table), SCHEMA.field(name).type))
        table = table.select(SCHEMA.names).cast(SCHEMA)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise DataError(f"latency table {path} is damaged: {_line(error)}") from error
    _check_numbers(path, table)
    return table, grain


def _check_numbers(path: Path, table: Any) -> None:
    usable = table.filter(pc.is_in(table["status"], value_set=pa.array(USABLE)))
    sound = pa.scalar(True)
    for name in ("low_ms", "latency_ms", "high_ms"):
        column = pc.fill_null(usable[name], float("nan"))
        sound = pc.and_(sound, pc.and_(pc.is_finite(column), pc.greater(column, 0)))
    bad = usable.filter(pc.invert(sound)) if len(usable) else usable
    if len(bad):
        raise DataError(
            f"latency table {path} has {len(bad)} usable rows without a positive, finite latency,"
            f" first {bad['key'][0].as_py()!r}; remove them or measure again"
        )


def _line(error: BaseException) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__
