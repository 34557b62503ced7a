"""The agent as one file."""

from __future__ import annotations

import ast
import subprocess
import sys
import zipfile
from io import BytesIO
from pathlib import Path

import pytest

import hwloop_agent
from hwloop.devices import build_zipapp
from hwloop.devices.zipapp import MAX_BYTES, strip

PACKAGE = Path(hwloop_agent.__file__).parent
SOURCES = sorted(PACKAGE.rglob("*.py"))


def test_it_is_the_same_bytes_in_another_process_and_place(tmp_path):
    code = "import sys, hwloop.devices as d; sys.stdout.buffer.write(d.build_zipapp())"
    environment = {"PYTHONPATH": ":".join(path for path in sys.path if path), "TZ": "Asia/Tokyo", "PYTHONHASHSEED": "5"}
    other = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, check=True)
    assert other.stdout == build_zipapp()


def test_it_is_small_and_holds_the_agent_and_nothing_else():
    assert len(build_zipapp()) < MAX_BYTES
    names = zipfile.ZipFile(BytesIO(build_zipapp())).namelist()
    assert names == ["__main__.py", *(f"hwloop_agent/{path.relative_to(PACKAGE).as_posix()}" for path in SOURCES)]


def test_no_secret_and_no_path_of_this_machine_travels_in_it():
    data = build_zipapp()
    for words in (b"PRIVATE KEY", str(Path.home()).encode() + b"/", str(PACKAGE).encode()):
        assert words not in data


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.name)
def test_stripping_leaves_the_same_program_on_the_same_lines(path):
    source = path.read_text()
    stripped = strip(source)
    assert len(stripped.splitlines()) <= len(source.splitlines())
    assert "Args:" not in stripped

    def program(text: str) -> list[str]:
        tree = ast.parse(text)
        for node in ast.walk(tree):
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node) is not None:
                node.body[0] = ast.Pass(lineno=0, end_lineno=0, col_offset=0, end_col_offset=0)
        return [ast.dump(tree), *(f"{type(n).__name__} {n.lineno}" for n in ast.walk(tree) if isinstance(n, ast.stmt))]

    assert program(stripped) == program(source)
