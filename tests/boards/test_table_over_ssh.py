"""From a device's address to a table of a network's layers, over a real SSH connection."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from hwloop.tables import LatencyTable

pytestmark = pytest.mark.board


def test_the_layers_of_a_network_are_measured_over_ssh(board, tmp_path: Path) -> None:
    home = tmp_path / "operator"
    (home / ".ssh").mkdir(parents=True)
    environ = {key: value for key, value in os.environ.items() if not key.startswith(("XDG_", "SSH_"))}

    def hwloop(*words: str) -> None:
        done = subprocess.run(
            [sys.executable, "-m", "hwloop.cli.main", *words],
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            cwd=tmp_path,
            env=environ | {"HOME": str(home)},
            timeout=300,
            check=False,
        )
        assert done.returncode == 0, (done.stdout, done.stderr)

    address = f"ssh://{board.user}@127.0.0.1:{board.port}"
    options = ("--identity", str(board.user_key), "--python", sys.executable)
    hwloop("device", "add", "bench", address, *options, "--fingerprint", board.host_key.fingerprint)
    build = (
        "table",
        "build",
        "lenet5",
        "--input",
        "1x28x28",
        "--device",
        "bench",
        "--processes",
        "1",
        "-o",
        "t.parquet",
    )
    hwloop(*build)
    table = LatencyTable.load(tmp_path / "t.parquet")
    assert table.context is not None
    assert table.context.device == "bench"
    assert len(table) == 7
    assert all(row.usable for row in table.rows)
