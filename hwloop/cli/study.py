"""`hwloop init` and `hwloop run`: write a study, carry it out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from hwloop.errors import ConfigError

if TYPE_CHECKING:
    from hwloop.progress import Progress
    from hwloop.study.config import GraphsSection, StudyConfig


def register(app: typer.Typer) -> None:
    """Add the commands of this group."""
    app.command("init")(init)
    app.command("run")(run)


def init(
    path: Annotated[Path, typer.Argument(help="The study file to write.")] = Path("study.toml"),
    preset: Annotated[str, typer.Option(help="digits (embedded), mnist or cifar10.")] = "digits",
    data: Annotated[Path | None, typer.Option(help="Folder of the preset's data files.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace an existing file.")] = False,
) -> None:
    """Write a commented study file."""
    from hwloop.files import write_atomic
    from hwloop.study.presets import study_text

    if path.exists() and not force:
        raise ConfigError(f"{path}: exists already; --force replaces it")
    name = path.stem if path.stem != "study" else path.resolve().parent.name or "study"
    text = study_text(preset, name=_name(name), folder=None if data is None else data.resolve())
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, text)
    typer.echo(f"wrote {path}; carry it out with: hwloop run {path}")


def run(
    path: Annotated[Path, typer.Argument(help="The study file.")] = Path("study.toml"),
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON, and nothing else.")] = False,
) -> None:
    """Carry a study out, from where it stopped to its report."""
    # Imported here: the command line must answer at once, and these bring torch along.
    from hwloop.cli.display import Display
    from hwloop.cli.summary import as_data, show
    from hwloop.progress import Silent
    from hwloop.report.html import write_report
    from hwloop.study import load_config, run_study

    console = Console()
    progress = Silent() if as_json else Display(console)
    config = load_config(path)
    if config.graphs is not None:
        _run_graphs(config, config.graphs, path, progress, console, as_json)
        return
    result, directory = run_study(path, progress)
    report = directory / "report.html"
    write_report(result, report)
    if as_json:
        typer.echo(json.dumps(as_data(result), indent=1))
    else:
        show(result, console)
        console.print(f"\nreport: {report}   networks: {directory / 'models'}   front: {directory / 'front.csv'}")


def _run_graphs(
    config: StudyConfig, graphs: GraphsSection, path: Path, progress: Progress, console: Console, as_json: bool
) -> None:
    from hwloop.cli.graphs import show_front
    from hwloop.report.graphs import write_graph_report
    from hwloop.study.graph_study import run_graph_study

    result, directory = run_graph_study(config, graphs, path, progress)
    report = directory / "report.html"
    write_graph_report(result, config.study.name or path.stem, report)
    if as_json:
        typer.echo(json.dumps(result, indent=1))
        return
    show_front(result, console)
    console.print(f"\nreport: {report}   front: {directory / 'front.json'}", soft_wrap=True, highlight=False)


def _name(text: str) -> str:
    kept = "".join(c if c.isalnum() or c in "._-" else "-" for c in text)
    return kept.strip("-") or "study"
