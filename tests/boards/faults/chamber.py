"""Runs one fault in namespaces of its own and prints what came of it as one line of JSON.

`enter` starts it: in new network, mount and process namespaces, so that nothing it breaks, mounts or leaves behind
reaches the machine, and nothing of it survives its end.
"""

from __future__ import annotations

import json
import random
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Self

from tests.boards.faults.campaign import expected, subjects
from tests.boards.faults.checker import judge
from tests.boards.faults.kinds import FAULTS, Fault, find_libfaketime
from tests.boards.faults.scene import REPOSITORY, OutOfTimeError, Scene
from tests.boards.silent_network import ip
from tests.boards.x86 import SSHD, X86Board

NAMESPACES = ("unshare", "--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc")
# The first process of a process namespace inherits its orphans and must reap them; a shell that waits does.
INIT = ("sh", "-c", '"$@"; exit $?', "sh")
# The longest pause after the host has journalled the trial at which a fault is due: about one trial and a half.
PAUSE_S = 0.4
STALL_S = 240.0
OFFSET = 3  # trials at the end of a campaign that are left alone, so that every moment is one of the campaign


@dataclass
class Outcome:
    """One row of the table.

    Attributes:
        struck: how often the fault was done.
        effects: how often the fault shows in what the campaign left; see `Fault.effects`.
        reruns: how often the host's command was given again.
        finished: trials in the host's journal at the end, repetitions of doubtful ones included.
        lost, duplicated, wrong, missing: what the checker found.
        error: why the campaign did not end, or "".
    """

    fault: str
    title: str
    moments: int
    trials: int
    struck: int = 0
    effects: int = 0
    reruns: int = 0
    finished: int = 0
    wall_s: float = 0.0
    lost: list[str] = field(default_factory=list)
    duplicated: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    error: str = ""

    @property
    def is_clean(self) -> bool:
        found = self.lost or self.duplicated or self.wrong or self.missing or self.error
        return not found and self.struck == self.moments and self.effects > 0 and self.finished >= self.trials

    @classmethod
    def from_json(cls, text: str) -> Self:
        return cls(**json.loads(text))


def unable() -> str:
    """Why this machine cannot run the faults; "" if it can."""
    if SSHD is None:
        return "no sshd on this machine (Debian: openssh-server)"
    if find_libfaketime() is None:
        return "no libfaketime on this machine (Debian: libfaketime)"
    tried = subprocess.run([*NAMESPACES, "ip", "link"], capture_output=True, check=False)
    return "no namespaces here (they need root, unshare and ip)" if tried.returncode else ""


def enter(
    fault: str, moments: int, trials: int, seed: int, keep: Path | None = None, timeout_s: float = 900
) -> Outcome:
    """Run one fault in a chamber.

    Args:
        fault: its name in `FAULTS`.
        moments: how often it strikes.
        trials: of the campaign.
        seed: of the moments.
        keep: a folder that gets what the campaign leaves: journals, table, logs.
        timeout_s: when it is given up.
    """
    with tempfile.TemporaryDirectory(prefix="hwloop-fault-") as folder:
        scene = Path(folder) / "scene"
        outcome = _enter(fault, moments, trials, seed, scene, timeout_s)
        if keep is not None and scene.exists():
            shutil.copytree(scene, keep / fault, dirs_exist_ok=True, symlinks=True)
    return outcome


def _enter(fault: str, moments: int, trials: int, seed: int, scene: Path, timeout_s: float) -> Outcome:
    words = [sys.executable, "-m", "tests.boards.faults.chamber", fault, str(moments), str(trials), str(seed)]
    words.append(str(scene))
    began = time.monotonic()
    outcome = Outcome(fault, FAULTS[fault].title, moments, trials)
    try:
        done = subprocess.run(
            [*NAMESPACES, *INIT, *words],
            capture_output=True,
            stdin=subprocess.DEVNULL,
            text=True,
            cwd=REPOSITORY,
            timeout=timeout_s,
            check=False,
        )
    except subprocess.TimeoutExpired:
        outcome.error = f"not over within {timeout_s:g} s"
    else:
        if done.returncode == 0:
            outcome = Outcome.from_json(done.stdout.splitlines()[-1])
        else:
            outcome.error = f"the chamber failed: {done.stderr[-3000:]}"
    outcome.wall_s = time.monotonic() - began
    return outcome


def _moments(draw: random.Random, count: int, trials: int) -> list[tuple[int, float]]:
    """Random moments: after how many journalled trials, and how long after that."""
    after = sorted(draw.sample(range(1, trials - OFFSET), count))
    return [(finished, draw.uniform(0, PAUSE_S)) for finished in after]


def run(fault: Fault, outcome: Outcome, folder: Path, seed: int) -> None:
    """Carry out a campaign on a board and strike it at random moments; fill in `outcome`."""
    draw = random.Random(f"{seed}/{outcome.fault}")
    plan = expected(subjects(outcome.trials))
    scene = Scene(folder, X86Board(folder / "board"), outcome.trials)
    try:
        fault.furnish(scene)
        scene.board.start()
        scene.run_host()
        for number, (finished, pause_s) in enumerate(_moments(draw, outcome.moments, outcome.trials), 1):
            if not scene.wait_for(finished, STALL_S):
                break
            time.sleep(pause_s)
            if scene.host_is_done():
                break
            scene.take_snapshot(f"before strike {number}", fault.tears)
            fault.strike(scene, draw)
            outcome.struck += 1
            scene.take_snapshot(f"after strike {number}")
            time.sleep(draw.uniform(*fault.down_s))
            fault.lift(scene)
        scene.wait_for_end(2 * STALL_S)
    except OutOfTimeError as error:
        outcome.error = str(error)
    finally:
        scene.close()
        scene.take_snapshot("at the end")  # what the fault has made, such as the board's disk, goes next
        fault.close()
    table = json.loads(scene.config.table.read_text()) if scene.config.table.exists() else {}
    verdict = judge(scene.snapshots, table, plan)
    outcome.finished = verdict.finished
    outcome.lost, outcome.duplicated = verdict.lost, verdict.duplicated
    outcome.wrong, outcome.missing = verdict.wrong, verdict.missing
    outcome.reruns = scene.starts - 1
    outcome.effects = fault.effects(scene)


def main(fault: str, moments: str, trials: str, seed: str, folder: str) -> None:
    """Run one fault inside the chamber; `folder` gets what it leaves."""
    chosen = FAULTS[fault]()
    outcome = Outcome(fault, chosen.title, int(moments), int(trials))
    ip("link set lo up")
    run(chosen, outcome, Path(folder), int(seed))
    print(json.dumps(asdict(outcome)))


if __name__ == "__main__":
    main(*sys.argv[1:])
