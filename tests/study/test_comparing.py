"""`hwloop search compare`: on a study that was carried out, without its device."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from hwloop.cli.search import as_data
from hwloop.errors import StudyError, UserError
from hwloop.progress import Silent
from hwloop.pruning import ErrorEstimator
from hwloop.report.comparison import write_comparison
from hwloop.study.comparing import compare_algorithms
from tests.study.killing import write_study

Finished = tuple[Path, Path, dict[str, Any]]


@pytest.fixture(scope="module")
def copy(finished: Finished, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the finished study to write in; its file."""
    folder = tmp_path_factory.mktemp("compared")
    shutil.copytree(finished[0].parent, folder, dirs_exist_ok=True)
    return folder / "study.toml"


def test_a_comparison_goes_on_and_computes_no_error_twice(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    computed = []
    judged = ErrorEstimator.estimate

    def counting(judge: Any, candidate: Any) -> Any:
        computed.append(candidate)
        return judged(judge, candidate)

    monkeypatch.setattr(ErrorEstimator, "estimate", counting)
    first, folder = compare_algorithms(copy, ["nsga2"], [0], "nsga2", Silent())
    assert len(computed) == len(set(computed)) == len(first.runs["nsga2"][0].evaluated)
    whole, _ = compare_algorithms(copy, ["hamp", "nsga2"], [0, 1], "nsga2", Silent())
    assert len(computed) == len(set(computed))
    assert whole.runs["nsga2"][0].front == first.runs["nsga2"][0].front
    assert whole.runs["nsga2"][0].replayed == len(first.runs["nsga2"][0].evaluated)
    done = len(computed)
    again, _ = compare_algorithms(copy, ["hamp", "nsga2"], [0, 1], "nsga2", Silent())
    assert as_data(again) == as_data(whole)
    assert len(computed) == done
    assert {path.name for path in folder.glob("*.ndjson")} == {
        f"{name}-{seed}.ndjson" for name in ("hamp", "nsga2") for seed in (0, 1)
    }

    data = as_data(whole)
    assert json.loads(json.dumps(data, allow_nan=False)) == data
    assert data["evaluations"] == 40
    assert {each["algorithm"] for each in data["algorithms"]} == {"hamp", "nsga2"}
    for name in ("hamp", "nsga2"):
        line = whole.attained(50)[name]
        assert (line[1:, 0] > line[:-1, 0]).all()
        assert (line[1:, 1] < line[:-1, 1]).all()
    write_comparison(whole, folder / "compare.html")
    page = (folder / "compare.html").read_text()
    assert "Attained by half of the runs" in page
    assert "http://" not in page.split("<script", maxsplit=1)[0]


@pytest.mark.parametrize(
    ("algorithms", "seeds", "rival", "text"),
    [
        (["magic"], [0], "magic", "no search algorithm 'magic'; known are"),
        (["hamp"], [0], "nsga2", "'nsga2' is to be compared with but does not take part"),
        (["hamp"], [], "hamp", "at least one seed"),
    ],
)
def test_what_cannot_be_compared_is_refused(
    copy: Path, algorithms: list[str], seeds: list[int], rival: str, text: str
) -> None:
    with pytest.raises(UserError, match=text):
        compare_algorithms(copy, algorithms, seeds, rival, Silent())


def test_a_study_without_a_predictor_is_told_what_to_run(tmp_path: Path) -> None:
    study = write_study(tmp_path)
    with pytest.raises(StudyError, match="carry the study out first with `hwloop run"):
        compare_algorithms(study, ["hamp"], [0], "hamp", Silent())
