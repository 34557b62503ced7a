"""Runs a study as a user does, in processes of its own, and kills it when told to."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

JOURNALS = ("trials.ndjson", "search.ndjson")

TINY = """
[study]
name = "tiny"
[model]
name = "resnet8"
arguments = { shortcut = "projection" }
[data]
source = "digits"
[training]
epochs = 2
[measurement]
processes = 1
attempts = 1
warmup_s = 0.02
min_s = 0.02
max_s = 0.1
target_relative_interval = 0.1
[table]
levels = 2
calibration_networks = 6
holdout_networks = 4
[pruning]
grain = 8
recalibration_images = 64
[search]
population = 8
generations = 5
measured = 4
networks = 2
device_trials = 4
[finetune]
epochs = 1
"""


def write_study(folder: Path, text: str = TINY) -> Path:
    """A small but complete study; its results go to ``folder/study``."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "study.toml"
    path.write_text(text)
    return path


def start(study: Path, home: Path, **environment: str) -> subprocess.Popen[str]:
    """`hwloop run` in a process group of its own; the agent's files go under `home`."""
    return subprocess.Popen(
        [sys.executable, "-m", "hwloop.cli.main", "run", str(study), "--json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "HOME": str(home), "XDG_CACHE_HOME": str(home / ".cache"), **environment},
        start_new_session=True,
    )


def finish(study: Path, home: Path) -> dict[str, Any]:
    """Run to the end and return the result."""
    process = start(study, home)
    out, err = process.communicate(timeout=500)
    assert process.returncode == 0, err
    result: dict[str, Any] = json.loads(out)
    return result


def kill_after(study: Path, home: Path, records: int, seconds: float, *, group: bool) -> bool:
    """Run until the journals have grown by some records and some seconds more, then SIGKILL.

    By records, so that a kill strikes wherever the machine is by then: seconds alone are too short for a slow one and
    too long for a fast one.

    Args:
        study: its file.
        home: of the agent.
        records: of both journals together.
        seconds: afterwards.
        group: the host and everything that it started, not the host alone.

    Returns:
        Whether it was still running.
    """
    before = _records(study)
    process = start(study, home)
    while process.poll() is None and _records(study) < before + records:
        time.sleep(0.02)
    deadline = time.monotonic() + seconds
    while process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    alive = process.poll() is None
    if group and alive:
        os.killpg(process.pid, signal.SIGKILL)
    else:
        process.kill()
    process.communicate()
    return alive


def _records(study: Path) -> int:
    paths = [study.parent / "study" / name for name in JOURNALS]
    return sum(path.read_bytes().count(b"\n") for path in paths if path.exists())
