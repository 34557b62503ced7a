"""A small campaign on this machine, undisturbed, with its two journals."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import pytest

from hwloop.devices import AgentSession, LocalTransport
from hwloop.measurement import TrialStore, run_campaign
from hwloop.progress import Silent
from tests.boards.faults.campaign import PLAN, Expected, expected, subjects
from tests.boards.faults.host import SESSION_ID, table_of

TRIALS = 10


@dataclass(frozen=True)
class Journals:
    """What a campaign leaves: the bytes of both journals, and the table."""

    host: bytes
    device: bytes
    table: dict[str, Any]
    plan: list[Expected]


@pytest.fixture(scope="session")
def journals(tmp_path_factory: pytest.TempPathFactory) -> Journals:
    folder = tmp_path_factory.mktemp("undisturbed")

    def open_session() -> AgentSession:
        return AgentSession.open(LocalTransport(), session_id=SESSION_ID, root=folder / "root")

    with TrialStore(folder / "trials.ndjson") as store:
        measured = run_campaign(subjects(TRIALS), PLAN, store, open_session, Silent(), "campaign")
    device = folder / "root" / "sessions" / SESSION_ID / "journal.ndjson"
    table = json.loads(table_of(measured))
    plan = expected(subjects(TRIALS))
    return Journals((folder / "trials.ndjson").read_bytes(), device.read_bytes(), table, plan)
