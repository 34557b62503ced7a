"""A dataclass of options, as one parameter of several commands."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import pytest
import typer
from typer.testing import CliRunner

from hwloop.cli.options import grouped


@dataclass(frozen=True)
class Paint:
    colour: Annotated[str, typer.Option(help="Of the paint.")]
    coats: Annotated[int, typer.Option(min=1)] = 2
    gloss: Annotated[bool, typer.Option("--gloss")] = False


def _app(seen: list[object]) -> typer.Typer:
    app = typer.Typer()

    @app.command()
    @grouped
    def door(*, name: Annotated[str, typer.Argument()], paint: Paint, quick: bool = False) -> None:
        """Paint a door."""
        seen.append((name, paint, quick))

    return app


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["front", "--colour", "red"], ("front", Paint("red"), False)),
        (["--quick", "back", "--gloss", "--coats", "3", "--colour", "blue"], ("back", Paint("blue", 3, True), True)),
    ],
)
def test_fields_are_options_of_the_command(arguments: list[str], expected: object) -> None:
    seen: list[object] = []
    done = CliRunner().invoke(_app(seen), arguments)
    assert done.exit_code == 0, done.output
    assert seen == [expected]


@pytest.mark.parametrize("arguments", [["front"], ["front", "--colour", "red", "--coats", "0"], ["front", "--paint"]])
def test_a_missing_option_a_number_out_of_range_and_the_group_itself_are_refused(arguments: list[str]) -> None:
    seen: list[object] = []
    assert CliRunner().invoke(_app(seen), arguments).exit_code == 2
    assert not seen


def test_help_names_them() -> None:
    shown = CliRunner().invoke(_app([]), ["--help"], env={"COLUMNS": "120"}).output
    assert "Of the paint." in shown
    assert "--coats" in shown
    assert "Paint a door." in shown
