from __future__ import annotations

from pathlib import Path

import pytest

from hwloop.errors import StudyError
from hwloop.study.config import StudyConfig, StudySection
from hwloop.study.directory import StudyDirectory


def config(seed: int = 0) -> StudyConfig:
    return StudyConfig(study=StudySection(seed=seed))


def test_a_study_finds_its_own_results_again(tmp_path: Path) -> None:
    with StudyDirectory(tmp_path / "s", config(), "") as study:
        assert not study.resumed
        study.write_json("base.json", {"a": 1})
    with StudyDirectory(tmp_path / "s", config(), "") as study:
        assert study.resumed
        assert study.read_json("base.json") == {"a": 1}


def test_another_study_is_refused_with_what_differs(tmp_path: Path) -> None:
    StudyDirectory(tmp_path / "s", config(0), "").close()
    with pytest.raises(StudyError, match=r"study\.seed is 0 there, 1 here"):
        StudyDirectory(tmp_path / "s", config(1), "")
    StudyDirectory(tmp_path / "s", config(0), "").close()


def test_a_second_run_at_the_same_time_is_refused(tmp_path: Path) -> None:
    with (
        StudyDirectory(tmp_path / "s", config(), ""),
        pytest.raises(StudyError, match="another run works here"),
    ):
        StudyDirectory(tmp_path / "s", config(), "")


def test_a_folder_with_other_files_is_refused_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("precious")
    with pytest.raises(StudyError, match=r"thesis\.tex"):
        StudyDirectory(tmp_path, config(), "")
    assert (tmp_path / "thesis.tex").read_text() == "precious"


def test_a_file_in_the_place_of_the_directory_is_refused(tmp_path: Path) -> None:
    (tmp_path / "s").write_text("")
    with pytest.raises(StudyError, match="cannot be used"):
        StudyDirectory(tmp_path / "s", config(), "")


def test_damaged_results_are_named(tmp_path: Path) -> None:
    with StudyDirectory(tmp_path / "s", config(), "") as study:
        study.path("base.json").write_text('{"a": ')
        with pytest.raises(StudyError, match=r"base\.json: is damaged"):
            study.read_json("base.json")
    (tmp_path / "s" / "study.json").write_text("{}")
    with pytest.raises(StudyError, match=r"study\.json: is damaged"):
        StudyDirectory(tmp_path / "s", config(), "")
