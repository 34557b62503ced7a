"""Fixtures shared by all rooms' tests."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.timing import QUICK

# As the command line does: spinning OpenMP threads make tests of two threads on two busy cores crawl.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

REPOSITORY = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real data sets: $HWLOOP_SHARED_DATA, else ../shared/data beside the checkout."""
    folder = Path(os.environ.get("HWLOOP_SHARED_DATA", REPOSITORY.parent / "shared" / "data"))
    if not (folder / "README.md").exists():
        pytest.skip(f"no shared data folder at {folder} (set HWLOOP_SHARED_DATA)")
    return folder


@pytest.fixture
def null_spec() -> Callable[..., dict[str, Any]]:
    """Makes specs of the null runtime; keyword arguments are its options."""

    def make(
        replicate: int = 0, threads: int = 1, timing: dict[str, Any] | None = None, **options: Any
    ) -> dict[str, Any]:
        return {
            "artifact": None,
            "runtime": "null",
            "options": options,
            "inputs": [],
            "threads": threads,
            "timing": {**QUICK, **(timing or {})},
            "replicate": replicate,
        }

    return make
