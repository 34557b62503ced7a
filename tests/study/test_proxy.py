"""The judge is judged on the user's own task, resumes, and says what it cannot know yet."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from hwloop.cli.main import app
from hwloop.errors import ConfigError, UserError
from hwloop.models import build_model
from hwloop.progress import Silent
from hwloop.pruning import FIDELITIES, Candidate, pruning_space
from hwloop.study import load_config
from hwloop.study.proxy_stage import Band, draw_in_band, validate_proxy
from hwloop_agent.journal import read_records
from tests.study.killing import TINY, write_study

SMALL = (
    TINY.replace('{ shortcut = "projection" }', '{ shortcut = "projection", widths = [8, 16, 16] }')
    .replace("grain = 8", "grain = 2")
    .replace("epochs = 2", "epochs = 1")
    + "[judge]\nadaptation_epochs = 1\nshort_images = 128\n"
)


def compared(study: Path, *options: str) -> dict[str, Any]:
    found = CliRunner().invoke(app, ["pruning", "validate-proxy", str(study), "--json", *options])
    assert found.exit_code == 0, found.output
    result: dict[str, Any] = json.loads(found.stdout)
    return result


def test_all_fidelities_are_compared_and_nothing_is_estimated_twice(tmp_path: Path) -> None:
    study = write_study(tmp_path, SMALL)
    first = compared(study, "--candidates", "4", "--band", "0.3-0.6")
    assert [one["fidelity"] for one in first["fidelities"]] == list(FIDELITIES)
    assert all(0.3 <= one["share"] <= 0.6 for one in first["candidates"])
    assert first["fidelities"][-1]["tau"] is None
    for one in first["fidelities"][:-1]:
        if one["tau"] is not None:
            assert -1 <= one["tau_low"] <= one["tau_high"] <= 1
        assert len(one["errors"]) == 4
        assert one["seconds_each"] > 0
    once = {one["fidelity"]: one["seconds_once"] for one in first["fidelities"]}
    assert once["shared-weights"] > 0
    assert once["recalibrated"] == once["full-fine-tune"] == 0

    journal = tmp_path / "study" / "proxy.ndjson"
    before = journal.read_bytes()
    assert compared(study, "--candidates", "4", "--band", "0.3-0.6") == first
    assert journal.read_bytes() == before
    more = compared(study, "--candidates", "5", "--band", "0.3-0.6", "--fidelities", "recalibrated")
    assert [one["fidelity"] for one in more["fidelities"]] == ["recalibrated", "full-fine-tune"]
    assert more["fidelities"][0]["errors"][:4] == first["fidelities"][0]["errors"]
    records, _ = read_records(journal)
    assert len(records) == 4 * 4 + 2
    assert len({(record["candidate"], record["conditions"]["fidelity"]) for record in records}) == len(records)


def test_what_is_not_known_or_not_there_is_refused(tmp_path: Path) -> None:
    study = write_study(tmp_path, SMALL)
    with pytest.raises(UserError, match="no fidelity 'fast'; known are recalibrated"):
        validate_proxy(study, 4, Band(), ["fast"], Silent())
    with pytest.raises(UserError, match=r"only \d of \d+ candidates .* widen the band"):
        validate_proxy(study, 4, Band(0.0001, 0.0002), ["recalibrated"], Silent())
    with pytest.raises(UserError, match="latencies are not known yet"):
        validate_proxy(study, 4, Band(by="latency"), ["recalibrated"], Silent())
    learned = write_study(tmp_path / "auto", SMALL.replace("grain = 2", 'grain = "auto"'))
    with pytest.raises(UserError, match="step of the widths is not known yet"):
        validate_proxy(learned, 4, Band(), ["recalibrated"], Silent())
    for low, high, by in ((0.5, 0.4, "macs"), (0.0, 0.5, "macs"), (0.5, 1.1, "macs"), (0.3, 0.5, "size")):
        with pytest.raises(UserError, match="the band is"):
            Band(low, high, by)
    found = CliRunner().invoke(app, ["pruning", "validate-proxy", str(study), "--band", "half"])
    assert "--band half: give two shares" in str(found.exception)


def test_the_judge_of_a_study_is_one_of_the_fidelities(tmp_path: Path) -> None:
    for text, part in (
        ('fidelity = "guess"', "judge.fidelity"),
        ("adaptation_epochs = 0", "judge.adaptation_epochs"),
        ("short_images = 1", "judge.short_images"),
    ):
        path = write_study(tmp_path, f"[judge]\n{text}\n")
        with pytest.raises(ConfigError, match=part):
            load_config(path)


def test_the_first_candidates_of_a_band_stay_when_more_are_asked_for() -> None:
    space = pruning_space(build_model("lenet5", num_classes=10, in_channels=1, image_size=16), (1, 16, 16))

    def cost(candidates: list[Candidate]) -> np.ndarray:
        return np.array([sum(candidate.widths) for candidate in candidates], np.float64)

    few = draw_in_band(space, cost, Band(0.4, 0.6), 5, seed=3)
    many = draw_in_band(space, cost, Band(0.4, 0.6), 50, seed=3)
    assert many[:5] == few
    assert len(set(many)) == 50
    shares = cost(many) / sum(space.base.widths)
    assert ((shares >= 0.4) & (shares <= 0.6)).all()
