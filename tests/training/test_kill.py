"""A training that is killed ten times at random moments ends with the weights of one that was not."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

KILLS = 10


@pytest.mark.slow
def test_ten_kills_change_no_bit_of_the_weights(tmp_path: Path) -> None:
    script = Path(__file__).with_name("killing.py")
    done = subprocess.run(
        [sys.executable, str(script), str(tmp_path), str(KILLS), "3"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert [end["status"] for end in told["ends"]] == [-signal.SIGKILL] * KILLS, told
    steps = [end["step"] for end in told["ends"]]
    assert steps == sorted(steps), "no kill loses what was saved"
    assert len(set(steps)) > KILLS // 2, "the kills strike in different steps"
    assert (told["undisturbed"], told["last"]) == (0, 0)
    whole, killed = (torch.load(tmp_path / f"{name}.pt", weights_only=True) for name in ("whole", "killed"))
    assert whole["position"] == killed["position"]
    assert all(torch.equal(value, killed["state_dict"][name]) for name, value in whole["state_dict"].items())
    momenta = [
        {key: one["momentum_buffer"] for key, one in each["optimizer"]["state"].items()} for each in (whole, killed)
    ]
    assert all(torch.equal(value, momenta[1][key]) for key, value in momenta[0].items())
    assert not list(tmp_path.glob(".*.tmp")), "what the kills left half-written is gone"
