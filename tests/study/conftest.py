from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.study.killing import finish, write_study


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, dict[str, Any]]:
    """A small study carried out as a user does it: its file, its home directory, its result. Read only."""
    folder = tmp_path_factory.mktemp("finished")
    study = write_study(folder)
    return study, folder / "home", finish(study, folder / "home")
