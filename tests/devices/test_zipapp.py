"""The agent as one file."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from io import BytesIO
from pathlib import Path

import hwloop_agent
from hwloop.devices import build_zipapp
from hwloop.devices.zipapp import MAX_BYTES

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
    agent = [f"hwloop_agent/{path.relative_to(PACKAGE).as_posix()}" for path in SOURCES]
    assert names == ["__main__.py", *agent, "hwloop_agent/boards.json"]


def test_no_secret_and_no_path_of_this_machine_travels_in_it():
    data = build_zipapp()
    for words in (b"PRIVATE KEY", str(Path.home()).encode() + b"/", str(PACKAGE).encode()):
        assert words not in data
