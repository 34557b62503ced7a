from __future__ import annotations

from pathlib import Path

import pytest

from hwloop.errors import ConfigError
from hwloop.study.config import load_config
from hwloop.study.presets import PRESETS, study_text


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "study.toml"
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ('[study]\nname = "x"\nsedd = 1\n', [":3:", "unknown key study.sedd", "seed"]),
        ("[sudy]\nseed = 1\n", [":1:", "unknown key sudy", "study"]),
        ('# a comment\n[search]\npopulation = "many"\n', [":3:", "search.population", "integer", "'many'"]),
        ("[study]\nseed = 1.5\n", [":2:", "study.seed", "integer", "1.5"]),
        ("[search]\n\nobjectives = []\n", [":3:", "search.objectives", "at least 1"]),
        ("[search]\nobjectives = [1]\n", [":2:", "search.objectives", "string"]),
        ('[pruning]\ngrain = "eight"\n', [":2:", "pruning.grain", "'eight'"]),
        ('[search]\nworkers = "all"\n', [":2:", "search.workers", "'all'"]),
        ('[search]\ndask = "host"\n', [":2:", "search.dask", "'host'"]),
        ("search.population = 2\n", [":1:", "search.population", "4"]),
        ("[measurement]\nmin_s = 3.0\n", [":1:", "max_s must not be smaller"]),
        ("[data]\nvalidation = 0\n", [":2:", "data.validation", "greater than 0"]),
        ("search = 3\n", [":1:", "search"]),
        ("[study\n", ["is not TOML", "line 1"]),
    ],
)
def test_a_mistake_is_one_line_that_names_the_key_and_its_line(tmp_path: Path, text: str, parts: list[str]) -> None:
    path = written(tmp_path, text)
    with pytest.raises(ConfigError) as caught:
        load_config(path)
    message = str(caught.value)
    assert str(path) in message
    assert "\n" not in message
    for part in parts:
        assert part in message


def test_a_missing_file_names_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="hwloop init"):
        load_config(tmp_path / "none.toml")


def test_bytes_that_are_no_text_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "study.toml"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="UTF-8"):
        load_config(path)


@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_is_a_valid_study(tmp_path: Path, preset: str) -> None:
    path = written(tmp_path, study_text(preset, name="mine", folder=tmp_path))
    config = load_config(path)
    assert config.study.name == "mine"
    if preset != "digits":
        assert config.data.train is not None
        assert config.data.train.startswith(str(tmp_path))


def test_presets_of_real_data_ask_for_their_folder() -> None:
    with pytest.raises(ConfigError, match="--data"):
        study_text("mnist", name="mine")


def test_an_unknown_preset_lists_the_known() -> None:
    with pytest.raises(ConfigError, match="digits"):
        study_text("imagenet", name="mine")


def test_the_place_on_disk_and_who_evaluates_are_not_part_of_what_a_study_is(tmp_path: Path) -> None:
    here = load_config(written(tmp_path, '[study]\ndirectory = "a"\n[search]\nworkers = 2\n'))
    there = load_config(written(tmp_path, '[study]\ndirectory = "b"\n[search]\ndask = "tcp://host:8786"\n'))
    other = load_config(written(tmp_path, "[study]\nseed = 1\n"))
    assert here.fingerprint == there.fingerprint
    assert here.fingerprint != other.fingerprint
