"""SIGKILL at random moments: nothing journalled is lost, nothing is done twice, the search ends where it would have."""

from __future__ import annotations

import json
import random
import shutil
from pathlib import Path

import pytest

from hwloop_agent.journal import read_records
from tests.study.killing import JOURNALS, finish, kill_after, write_study

KILLS = 10

#: What the measuring stages leave; a search that starts from the same measurements must take the same way.
MEASURED = ("study.toml", "study.json", "device.json", "base.pt", "base.json", "space.json", "table.parquet")
MEASURED += ("predictor.json", "holdout.json")


def journalled(folder: Path) -> dict[str, list[str]]:
    """The whole records of each journal, as text."""
    found = {}
    for name in JOURNALS:
        path = folder / name
        found[name] = [json.dumps(r, sort_keys=True) for r in read_records(path)[0]] if path.exists() else []
    return found


def evaluations(folder: Path) -> list[dict[str, object]]:
    """The journal of a search, without how long each evaluation took."""
    records = [json.loads(line) for line in journalled(folder)["search.ndjson"]]
    return [{k: v for k, v in record.items() if k != "seconds"} for record in records]


def kill_many_times(study: Path, home: Path, most_records: int, seed: int) -> int:
    """Kill `KILLS` runs, host alone or everything, checking after each that the journals only grow.

    Returns:
        How many were still running.
    """
    rng = random.Random(seed)
    before: dict[str, list[str]] = {name: [] for name in JOURNALS}
    killed = 0
    for number in range(KILLS):
        moment = (rng.randint(0, most_records), rng.uniform(0, 1.5))
        killed += kill_after(study, home, *moment, group=bool(number % 2))
        after = journalled(study.parent / "study")
        for name in JOURNALS:
            assert after[name][: len(before[name])] == before[name], f"{name} lost records at kill {number}"
        before = after
    return killed


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_study_killed_ten_times_measures_and_evaluates_everything_once(tmp_path: Path) -> None:
    home = tmp_path / "home"
    study = write_study(tmp_path / "killed")
    assert kill_many_times(study, home, 25, seed=1) >= 5
    result = finish(study, home)
    folder = study.parent / "study"
    journal = [json.loads(line) for line in journalled(folder)["trials.ndjson"]]
    trials = [record["trial_id"] for record in journal if "event" not in record]
    candidates = [e["candidate"] for e in evaluations(folder) if e["kind"] == "evaluation"]
    assert len(trials) == len(set(trials)) > 0
    assert len(candidates) == len(set(candidates)) > 0
    assert {path.stem for path in (folder / "models").glob("*.onnx")} == {n["name"] for n in result["networks"]}
    assert finish(study, home)["networks"] == result["networks"]  # running it again measures nothing anew


def measured_copy(whole: Path, folder: Path) -> Path:
    """A study with the measurements of another one, and nothing behind them."""
    study = write_study(folder)
    (folder / "study").mkdir()
    for name in (*MEASURED, "trials.ndjson"):
        shutil.copy(whole.parent / "study" / name, folder / "study" / name)
    return study


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_killed_search_evaluates_the_same_candidates_as_an_uninterrupted_one(tmp_path: Path) -> None:
    home = tmp_path / "home"
    whole = write_study(tmp_path / "whole")
    finish(whole, home)
    killed = measured_copy(whole, tmp_path / "killed")
    assert kill_many_times(killed, home, 8, seed=2) >= 3
    finish(killed, home)
    assert evaluations(killed.parent / "study") == evaluations(whole.parent / "study")
    fronts = [sorted(p.name for p in (s.parent / "study" / "models").glob("*.onnx")) for s in (whole, killed)]
    assert fronts[0] == fronts[1]
