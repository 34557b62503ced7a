"""`hwloop table export|import`: CSV, and the latency tables that others have published."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hwloop.errors import UserError

if TYPE_CHECKING:
    from hwloop.tables import LatencyTable

FORMATS = ("csv", "netadapt", "once-for-all", "nn-meter")
SUFFIXES = {".pkl": "netadapt", ".pickle": "netadapt", ".yaml": "once-for-all", ".yml": "once-for-all"}


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command("export")(export)
    app.command("import")(import_)


def export(
    table: Annotated[Path, typer.Argument(help="A latency table.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The CSV file; `table import` reads it back.")],
) -> None:
    """Write a table as CSV, with all its provenance."""
    from hwloop.tables import LatencyTable
    from hwloop.tables.csv_file import write_csv

    found = LatencyTable.load(table)
    write_csv(found, output)
    typer.echo(f"{output}: {len(found)} rows")


@dataclass(frozen=True)
class _Told:
    """The options that say what a file does not."""

    device: str
    cpu: str
    runtime: str
    runtime_version: str
    threads: int
    batch: int
    kernel: str


def import_(
    file: Annotated[Path, typer.Argument(help="CSV of `table export`; a table of NetAdapt, once-for-all, nn-Meter.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The latency table; replaced whole, or not at all.")],
    format_: Annotated[
        str, typer.Option("--format", help=f"{', '.join(FORMATS)}; by default what the file looks like.")
    ] = "",
    device: Annotated[str, typer.Option(help="What to call the device that was measured; CSV knows it.")] = "",
    cpu: Annotated[str, typer.Option(help="Its processor.")] = "unknown",
    runtime: Annotated[str, typer.Option(help="That it was measured with.")] = "unknown",
    runtime_version: Annotated[str, typer.Option(help="Of the runtime.")] = "unknown",
    threads: Annotated[int, typer.Option(min=0, help="Of the runtime; 0: unknown.")] = 0,
    batch: Annotated[int, typer.Option(min=0, help="Images per batch; NetAdapt's table does not tell.")] = 0,
    kernel: Annotated[str, typer.Option(help="Of nn-Meter's rows, if the file is not Data_<kernel>_<mark>.csv.")] = "",
) -> None:
    """Read a table of another format. What the file does not tell is `unknown`; the rows' reasons say what they are."""
    chosen = format_ or _format_of(file)
    if chosen not in FORMATS:
        raise UserError(f"--format {chosen}: known are {', '.join(FORMATS)}")
    found = _read(file, chosen, _Told(device, cpu, runtime, runtime_version, threads, batch, kernel))
    found.save(output)
    typer.echo(f"{output}: {len(found)} rows")


def _format_of(file: Path) -> str:
    if file.suffix in SUFFIXES:
        return SUFFIXES[file.suffix]
    if file.suffix != ".csv":
        raise UserError(f"{file}: its name tells no format; say --format with one of {', '.join(FORMATS)}")
    from hwloop.tables.csv_file import MARK

    try:
        with file.open("rb") as stream:
            is_own = stream.read(len(MARK)) == MARK.encode()
    except OSError as error:
        raise UserError(f"{file} cannot be read: {error.strerror}") from error
    return "csv" if is_own else "nn-meter"


def _read(file: Path, chosen: str, told: _Told) -> LatencyTable:
    from hwloop.tables.csv_file import read_csv
    from hwloop.tables.readers import Source, read_netadapt, read_nn_meter, read_once_for_all

    if chosen == "csv":
        return read_csv(file)
    if not told.device:
        raise UserError(f"{file} does not tell which device was measured; name it with --device")
    source = Source(told.device, told.cpu, told.runtime, told.runtime_version, told.threads)
    if chosen == "netadapt":
        if not told.batch:
            raise UserError(f"{file} does not tell its batch size; say --batch (NetAdapt's script has 128)")
        return read_netadapt(file, source, told.batch)
    if chosen == "nn-meter":
        return read_nn_meter(file, source, told.kernel or None)
    return read_once_for_all(file, source)
