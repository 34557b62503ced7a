"""The agent as one file, the same bytes whenever it is built, so that its hash is its identity."""

from __future__ import annotations

import io
import zipfile
from functools import cache
from pathlib import Path

import hwloop_agent
from hwloop.devices.profiles import packed

SHEBANG = b"#!/usr/bin/env python3\n"
# The agent's code compiled for this interpreter lies beside its file once a process has ended (`compiled.py`): it is
# taken where it is whole.
ENTRY = """import os
import sys
import zlib

try:
    from _frozen_importlib_external import MAGIC_NUMBER

    path = os.path.join(os.path.dirname(os.path.abspath(sys.argv[0])), MAGIC_NUMBER.hex() + ".zip")
    with open(path, "rb") as file:
        data = file.read()
    if b"%08x" % zlib.crc32(data[:-8]) == data[-8:]:
        sys.path.insert(0, path)
    del data
except (OSError, ImportError):
    pass
from hwloop_agent.__main__ import main

sys.exit(main())
"""
# The earliest moment that a zip file can name.
EPOCH = (1980, 1, 1, 0, 0, 0)
MAX_BYTES = 150_000
LEVEL = 9


@cache
def build_zipapp() -> bytes:
    """Return the agent as an executable `.pyz`.

    The sources as they are, so that a traceback from a device points into them, and the board profiles as JSON; sorted
    and dated 1980. Hosts with the same zlib make the same bytes; another zlib (zlib-ng) may pack them otherwise, and a
    device then gets the agent once more.

    Raises:
        ConfigError: a board profile of hwloop's own has something wrong in it.
    """
    package = Path(hwloop_agent.__file__).parent
    sources = sorted(path.relative_to(package).as_posix() for path in package.rglob("*.py"))
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as bundle:
        _add(bundle, "__main__.py", ENTRY.encode())
        for name in sources:
            _add(bundle, f"hwloop_agent/{name}", (package / name).read_bytes())
        _add(bundle, "hwloop_agent/boards.json", packed())
    return SHEBANG + archive.getvalue()


def _add(bundle: zipfile.ZipFile, name: str, data: bytes) -> None:
    entry = zipfile.ZipInfo(name, EPOCH)
    entry.create_system = 3  # Unix, on whatever system it is built
    entry.external_attr = 0o644 << 16
    bundle.writestr(entry, data, zipfile.ZIP_DEFLATED, LEVEL)
