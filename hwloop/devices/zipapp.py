"""The agent as one file, the same bytes wherever it is built, so that its hash is its identity."""

from __future__ import annotations

import ast
import io
import tokenize
import zipfile
from functools import cache
from pathlib import Path

import hwloop_agent

SHEBANG = b"#!/usr/bin/env python3\n"
ENTRY = """import sys

from hwloop_agent.__main__ import main

sys.exit(main())
"""
# The earliest moment that a zip file can name.
EPOCH = (1980, 1, 1, 0, 0, 0)
MAX_BYTES = 150_000
INDENT = 4


@cache
def build_zipapp() -> bytes:
    """Return the agent as an executable `.pyz`.

    Entries are sorted, dated 1980 and stored uncompressed (zlib's output differs between its builds). Comments,
    docstrings and three of four columns of indentation stay behind, line numbers stay right: a traceback from a device
    points into the source, and a board compiles less.
    """
    package = Path(hwloop_agent.__file__).parent
    sources = sorted(path.relative_to(package).as_posix() for path in package.rglob("*.py"))
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_STORED) as bundle:
        _add(bundle, "__main__.py", ENTRY.encode())
        for name in sources:
            _add(bundle, f"hwloop_agent/{name}", strip((package / name).read_text("utf-8")).encode("utf-8"))
    return SHEBANG + archive.getvalue()


def strip(source: str) -> str:
    """Return Python `source` without comments and docstrings, indented by one column, every statement on its line."""
    lines = source.splitlines()
    inside_text: set[int] = set()  # rows that begin within a token, a string's: their blanks are its content
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            row, column = token.start
            lines[row - 1] = lines[row - 1][:column].rstrip()
        else:
            inside_text.update(range(token.start[0], token.end[0]))
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
            continue
        first = node.body[0]
        if isinstance(first, ast.Expr) and ast.get_docstring(node, clean=False) is not None:
            # Something must stay: for some bodies the docstring is the only statement.
            lines[first.lineno - 1] = lines[first.lineno - 1][: first.col_offset] + '""'
            for row in range(first.lineno, first.end_lineno or first.lineno):
                lines[row] = ""
    return "\n".join(line if row in inside_text else _outdent(line) for row, line in enumerate(lines)) + "\n"


def _outdent(line: str) -> str:
    """Return a line whose indentation of four columns a level became one of one."""
    text = line.lstrip(" ")
    return " " * ((len(line) - len(text)) // INDENT) + text


def _add(bundle: zipfile.ZipFile, name: str, data: bytes) -> None:
    entry = zipfile.ZipInfo(name, EPOCH)
    entry.create_system = 3  # Unix, on whatever system it is built
    entry.external_attr = 0o644 << 16
    bundle.writestr(entry, data)
