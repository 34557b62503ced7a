"""A small campaign on this machine, undisturbed, with its two journals."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from hwloop.devices import AgentSession, LocalTransport
from hwloop.measurement import Subject, TrialStore, run_campaign
from hwloop.progress import Silent
from tests.boards.faults.campaign import PLAN, Expected, expected, subjects
from tests.boards.faults.host import SESSION_ID, table_of

TRIALS = 10


@dataclass(frozen=True)
class Journals:
    """What a campaign leaves: the bytes of both journals, and the table."""

    subjects: list[Subject]
    host: bytes
    device: bytes
    table: dict[str, Any]
    plan: list[Expected]


def measure(folder: Path, chosen: list[Subject]) -> Journals:
    def open_session() -> AgentSession:
        return AgentSession.open(LocalTransport(), session_id=SESSION_ID, root=folder / "root")

    with TrialStore(folder / "trials.ndjson") as store:
        measured = run_campaign(chosen, PLAN, store, open_session, Silent(), "campaign")
    device = folder / "root" / "sessions" / SESSION_ID / "journal.ndjson"
    return Journals(
        chosen,
        (folder / "trials.ndjson").read_bytes(),
        device.read_bytes(),
        json.loads(table_of(measured)),
        expected(chosen),
    )


@pytest.fixture(scope="session")
def journals(tmp_path_factory: pytest.TempPathFactory) -> Journals:
    """Of a campaign of `TRIALS` trials in both runtimes."""
    return measure(tmp_path_factory.mktemp("undisturbed"), subjects(TRIALS))


@pytest.fixture(scope="session")
def few_journals(tmp_path_factory: pytest.TempPathFactory) -> Journals:
    """Of a campaign of two trials."""
    return measure(tmp_path_factory.mktemp("few"), subjects(2))
