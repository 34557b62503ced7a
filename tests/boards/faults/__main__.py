"""Prints the table of faults and outcomes: `python -m tests.boards.faults [--fault NAME]… [--moments N] [--trials N]`.

Each fault strikes a campaign of its own at random moments. Exit code 1 when a cell is not as it must be, 2 when this
machine cannot run the faults.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path

from rich.console import Console
from rich.table import Table

from tests.boards.faults.chamber import Outcome, enter, unable
from tests.boards.faults.kinds import FAULTS

SHOWN = 5


def table_of(outcomes: list[Outcome], seed: int) -> Table:
    """The table: a row per fault; what is not as it must be is red."""
    table = Table(title=f"Faults of a campaign over SSH, {time.strftime('%Y-%m-%d %H:%M')}, seed {seed}")
    table.add_column("fault")
    for name in ("struck", "seen", "re-run", "trials", "lost", "doubled", "wrong"):
        table.add_column(name, justify="right")
    table.add_column("table")
    table.add_column("wall s", justify="right")
    for one in outcomes:
        table.add_row(
            one.title,
            _cell(f"{one.struck} of {one.moments}", one.struck == one.moments),
            _cell(str(one.effects), one.effects > 0),
            str(one.reruns) if one.reruns else "by itself",
            _cell(f"{one.finished} of {one.trials}", one.finished >= one.trials),
            *(_cell(str(len(found)), not found) for found in (one.lost, one.duplicated, one.wrong)),
            _cell("not over" if one.error else "lacks " + str(len(one.missing)), False)
            if one.error or one.missing
            else "complete",
            f"{one.wall_s:.0f}",
        )
    return table


def _cell(text: str, is_right: bool) -> str:
    return text if is_right else f"[bold red]{text}"


def _explain(console: Console, outcome: Outcome) -> None:
    for kind, texts in (
        ("lost", outcome.lost),
        ("doubled", outcome.duplicated),
        ("wrong", outcome.wrong),
        ("table", outcome.missing),
        ("error", [outcome.error] if outcome.error else []),
    ):
        for text in texts[:SHOWN]:
            console.print(f"{outcome.fault}, {kind}: {text}", markup=False, highlight=False)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.boards.faults", description=__doc__)
    parser.add_argument("--moments", type=int, default=20, help="how often each fault strikes")
    parser.add_argument("--trials", type=int, default=100, help="of each campaign")
    parser.add_argument("--fault", action="append", choices=sorted(FAULTS), help="only this one; may be repeated")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, help="a folder for the journals and logs")
    parser.add_argument("--jobs", type=int, default=2, help="how many faults at once, each in namespaces of its own")
    parser.add_argument("--json", action="store_true", help="print the outcomes as JSON")
    given = parser.parse_args()
    if given.trials < given.moments + 8:
        parser.error("a campaign has at least 8 trials more than moments")
    reason = unable()
    if reason:
        print(reason, file=sys.stderr)
        return 2
    errors = Console(stderr=True)

    def strike(fault: str) -> Outcome:
        outcome = enter(fault, given.moments, given.trials, given.seed, given.keep)
        errors.print(f"{fault}: {'as it must be' if outcome.is_clean else 'NOT AS IT MUST BE'}, {outcome.wall_s:.0f} s")
        _explain(errors, outcome)
        return outcome

    with ThreadPoolExecutor(given.jobs) as pool:
        outcomes = list(pool.map(strike, given.fault or FAULTS))
    if given.json:
        print(json.dumps([asdict(one) | {"clean": one.is_clean} for one in outcomes], indent=1))
    else:
        Console(width=None if sys.stdout.isatty() else 120).print(table_of(outcomes, given.seed))
    return 0 if all(one.is_clean for one in outcomes) else 1


if __name__ == "__main__":
    sys.exit(main())
