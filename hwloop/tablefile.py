"""The file form of a latency table: Parquet, with the schema version in its metadata.

It lies below the rooms because two of them read it: `tables`, which gives the rows their meaning, and `devices`, whose
replay device answers from them.

`geometry`, `op`, `inputs` and `outputs` are derived from `key` and stored so that a large table answers its first
lookup without parsing every key.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from hwloop.errors import DataError
from hwloop.files import write_atomic

SCHEMA_VERSION = 4

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
        pa.field("workload_sha256", pa.string()),
        pa.field("energy_mj", pa.float64()),
    ]
)
"""Columns of the newest version. Latencies are null in rows whose status is not usable."""

#: Columns that later versions added, with the version; read as null from older tables.
ADDED = {"emulated": 2, "fusion": 2, "workload_sha256": 3, "energy_mj": 4}

CONTEXT_COLUMNS = ("device", "cpu", "runtime", "runtime_version", "threads")


@dataclass(frozen=True)
class Header:
    """What a table says about all of its rows.

    Attributes:
        grain: channels per block.
        mixed: differences that somebody has mixed knowingly, as "clock (600 MHz / 1500 MHz)".
    """

    grain: int = 1
    mixed: tuple[str, ...] = ()

    def to_json(self) -> str:
        """Canonical text, with the schema version."""
        content: dict[str, Any] = {"version": SCHEMA_VERSION, "grain": self.grain}
        if self.mixed:
            content["mixed"] = list(self.mixed)
        return json.dumps(content, sort_keys=True)

    @classmethod
    def parse(cls, text: str | bytes) -> tuple[Header, int]:
        """Read a header and its schema version.

        Raises:
            ValueError: it is none.
        """
        try:
            fields = json.loads(text)
            mixed = fields.get("mixed", [])
            if not isinstance(mixed, list) or not all(isinstance(one, str) for one in mixed):
                raise ValueError("mixed")
            return cls(int(fields.get("grain", 1)), tuple(mixed)), int(fields["version"])
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"damaged header: {text[:80]!r}") from error


def write_table(path: Path, table: Any, header: Header) -> None:
    """Write a table of `SCHEMA`, whole or not at all.

    Args:
        path: of the file; its folder exists.
        table: a `pyarrow.Table` of `SCHEMA`.
        header: of the table.

    Raises:
        DataError: the file cannot be written; an old one is untouched.
    """
    sink = pa.BufferOutputStream()
    metadata = {METADATA_KEY: header.to_json().encode()}
    pq.write_table(table.replace_schema_metadata(metadata), sink, compression="zstd")
    try:
        write_atomic(path, sink.getvalue().to_pybytes())
    except OSError as error:
        raise DataError(f"latency table {path} cannot be written: {error.strerror or error}") from error


def read_table(path: Path) -> tuple[Any, Header]:
    """Read a table and check its form; what the rows say is not looked at.

    Returns:
        The `pyarrow.Table` of `SCHEMA` and the header.

    Raises:
        DataError: there is no such file, it is not a latency table, it is damaged, or of a newer version.
    """
    try:
        # Read whole and parsed from memory: a file that is replaced meanwhile cannot be seen half old, half
        # new.
        reader = pq.ParquetFile(pa.BufferReader(path.read_bytes()))
        text = (reader.schema_arrow.metadata or {}).get(METADATA_KEY)
    except FileNotFoundError:
        raise DataError(f"there is no latency table at {path}") from None
    except OSError as error:
        raise DataError(f"latency table {path} cannot be read: {error.strerror or error}") from error
    except pa.ArrowException as error:
        raise DataError(
            f"{path} is not a latency table, or is damaged: it is not readable Parquet ({_line(error)})"
        ) from error
    if text is None:
        raise DataError(f"{path} is Parquet, but not a latency table of hwloop")
    try:
        header, version = Header.parse(text)
    except ValueError as error:
        raise DataError(f"latency table {path} has a {error}") from error
    refuse_newer(path, version)
    try:
        there = reader.schema_arrow.names
        missing = [name for name in SCHEMA.names if name not in there and ADDED.get(name, 0) <= version]
        if missing:
            raise DataError(f"latency table {path} lacks the columns {', '.join(missing)}")
        table = reader.read(columns=[name for name in SCHEMA.names if name in there])
        for name in ADDED:
            if name not in there:
                table = table.append_column(name, pa.nulls(len(table), SCHEMA.field(name).type))
        return table.select(SCHEMA.names).cast(SCHEMA), header
    except (pa.ArrowException, OSError, ValueError) as error:
        raise DataError(f"latency table {path} is damaged: {_line(error)}") from error


def refuse_newer(path: Path, version: int) -> None:
    """Refuse a schema version that this hwloop does not know.

    Raises:
        DataError: it is newer.
    """
    if version > SCHEMA_VERSION:
        raise DataError(
            f"latency table {path} has schema version {version}, this hwloop reads up to {SCHEMA_VERSION};"
            " read it with a newer hwloop"
        )


def _line(error: BaseException) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__
