"""Bad input: one clear line on stderr, exit code 2, nothing else."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from hwloop.cli.main import main

UNTRACEABLE = """
import torch
from torch import nn


class Detached(nn.Module):
    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 16, 3, padding=1)
        self.head = nn.Linear(16, num_classes)

    def forward(self, x):
        features = self.conv(x).detach().numpy().mean(axis=(2, 3))
        return self.head(torch.from_numpy(features))


def detached(num_classes: int) -> nn.Module:
    return Detached(num_classes)


def seven_outputs() -> nn.Module:
    return nn.Sequential(nn.Conv2d(1, 16, 3), nn.Flatten(), nn.LazyLinear(7))
"""


@dataclass(frozen=True)
class Done:
    returncode: int
    stderr: str


Hwloop = Callable[..., Done]


@pytest.fixture
def hwloop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Hwloop:
    """The command, run in this process (importing torch for each case would take most of the time)."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str) -> Done:
        monkeypatch.setattr(sys, "argv", ["hwloop", *arguments])
        with pytest.raises(SystemExit) as end:
            main()
        return Done(int(end.value.code or 0), capfd.readouterr().err)

    return run


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("[study]\nsede = 1\n", ["study.toml:2", "unknown key study.sede"]),
        ('[search]\npopulation = "big"\n', ["study.toml:2", "search.population", "integer"]),
        ('[search]\n\nobjectives = ["error", "speed"]\n', ["study.toml:3", "'speed'", "latency_ms"]),
        ('[search]\nalgorithm = "magic"\n', ["study.toml:2", "'magic'", "nsga2"]),
        ('[measurement]\nruntime = "abacus"\n', ["study.toml:2", "abacus", "onnxruntime"]),
        ('[model]\nname = "resnet9"\n', ["resnet9", "resnet8"]),
        ('[model]\nname = "nowhere:factory"\n', ["nowhere"]),
        ('[data]\nsource = "parquet"\ntrain = "none.parquet"\n', ["none.parquet"]),
        ('[data]\nsource = "npz"\ntrain = "images.npz"\n[model]\nname = "mine:seven_outputs"\n', ["7", "10 classes"]),
        ('[training]\nepochs = 1\n[model]\nname = "mine:detached"\n', ["Detached"]),
    ],
)
def test_a_mistake_in_a_study_is_one_line_and_exit_code_2(
    tmp_path: Path, hwloop: Hwloop, text: str, parts: list[str]
) -> None:
    (tmp_path / "study.toml").write_text(text)
    (tmp_path / "mine.py").write_text(UNTRACEABLE)
    rng = np.random.default_rng(0)
    np.savez(
        tmp_path / "images.npz", images=rng.integers(0, 255, (60, 8, 8), dtype=np.uint8), labels=np.arange(60) % 10
    )
    done = hwloop("run", "study.toml")
    assert done.returncode == 2, done.stderr
    (line,) = done.stderr.strip().splitlines()
    for part in parts:
        assert part in line


def test_a_missing_study_and_an_existing_one_name_the_remedy(hwloop: Hwloop) -> None:
    missing = hwloop("run", "study.toml")
    assert missing.returncode == 2
    assert "hwloop init study.toml" in missing.stderr
    assert hwloop("init").returncode == 0
    twice = hwloop("init")
    assert twice.returncode == 2
    assert "--force" in twice.stderr
    assert len(twice.stderr.strip().splitlines()) == 1


@pytest.mark.parametrize(
    ("options", "parts"),
    [
        (["--algorithms", "magic"], ["'magic'", "hamp", "nsga2"]),
        (["--algorithms", "hamp"], ["'nsga2'", "--algorithms"]),
        (["--algorithms", ","], ["--algorithms names no algorithm"]),
        (["--algorithms", "hamp,nsga2"], ["has no space.json yet", "hwloop run study.toml"]),
    ],
)
def test_a_comparison_that_cannot_be_is_one_line_and_exit_code_2(
    tmp_path: Path, hwloop: Hwloop, options: list[str], parts: list[str]
) -> None:
    (tmp_path / "study.toml").write_text("")
    done = hwloop("search", "compare", "study.toml", *options)
    assert done.returncode == 2, done.stderr
    (line,) = done.stderr.strip().splitlines()
    for part in parts:
        assert part in line


def test_a_folder_in_use_by_something_else_is_refused(tmp_path: Path, hwloop: Hwloop) -> None:
    (tmp_path / "study").mkdir()
    (tmp_path / "study" / "thesis.tex").write_text("precious")
    (tmp_path / "study.toml").write_text("")
    done = hwloop("run", "study.toml")
    assert done.returncode == 2
    assert "thesis.tex" in done.stderr


def test_help_and_version_answer_without_importing_torch(tmp_path: Path) -> None:
    code = (
        "import sys\nfrom hwloop.cli.main import main\nsys.argv = ['hwloop', '--version']\n"
        "try:\n    main()\nexcept SystemExit as end:\n    assert end.code in (0, None), end.code\n"
        "assert 'torch' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("hwloop 0.")
