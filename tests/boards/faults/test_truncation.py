"""The journals torn at every byte of their last record: nothing else is lost, and the campaign mends it.

Both sides' real stores and the real campaign; between them no wire, and what is "measured" was measured before. That
wires and real agents bear the same is shown, at random bytes, by the faults `device-journal` and `host-journal`.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from hwloop.measurement import TrialStore, run_campaign
from hwloop.progress import Silent
from hwloop_agent.sessionstore import SessionStore
from tests.boards.faults.campaign import PLAN, subjects
from tests.boards.faults.checker import Snapshot, judge, read_journal
from tests.boards.faults.conftest import TRIALS, Journals
from tests.boards.faults.host import SESSION_ID, table_of

pytestmark = [pytest.mark.board, pytest.mark.timeout(900)]


@dataclass
class Session:
    """A campaign's session with the device's store."""

    store: SessionStore
    known: dict[str, dict[str, Any]]
    last_seq: int = 0
    in_flight: None = None
    hello: SimpleNamespace = field(default_factory=lambda: SimpleNamespace(boot_id="boot", pid=1, interrupted=None))
    ran: list[str] = field(default_factory=list)

    def put_artifact(self, data: bytes, sha256: str, suffix: str) -> None: ...

    def run_trial(self, trial_id: str, spec: dict[str, Any]) -> dict[str, Any]:
        self.ran.append(trial_id)
        stored = self.store.finished(trial_id)
        if stored is None:
            self.last_seq = self.store.store(self.known[trial_id])
            return self.known[trial_id]
        return stored[1]

    def finished(self) -> list[dict[str, Any]]:
        batch = self.store.batch(0, 1000)
        assert not batch["more"]
        self.last_seq = batch["last_seq"]
        return [entry["rec"] for entry in batch["records"]]

    def acknowledge(self, seq: int) -> None:
        self.store.acknowledge(seq)

    def close(self) -> None:
        self.store.close()


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """In memory, where there is such a place: thousands of journals are opened, and each is made to last."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else tmp_path) as name:
        yield Path(name)


def last_record(journal: bytes) -> int:
    """Where the last record begins."""
    return journal.rfind(b"\n", 0, len(journal) - 1) + 1


def resume(folder: Path, host: bytes, device: bytes, journals: Journals) -> tuple[list[str], bytes, bytes]:
    """Run the campaign over two journals; return the trials that were asked for, and the journals after it."""
    on_host, on_device = folder / "trials.ndjson", folder / "sessions" / SESSION_ID / "journal.ndjson"
    on_device.parent.mkdir(parents=True, exist_ok=True)
    for path, content in ((on_host, host), (on_device, device)):
        for aside in path.parent.glob(f"{path.name}.cut-*"):
            aside.unlink()
        path.write_bytes(content)
    ran: list[str] = []
    known = {record["trial_id"]: record for record in read_journal(journals.host)[0]}

    def open_session() -> Session:
        return Session(SessionStore(str(folder), SESSION_ID), known, ran=ran)

    with TrialStore(on_host) as store:
        measured = run_campaign(subjects(TRIALS), PLAN, store, open_session, Silent(), "campaign")  # type: ignore
    for path, content in ((on_host, host), (on_device, device)):
        whole = content.rfind(b"\n") + 1
        if path == on_host or ran:  # else nobody has opened it
            aside = list(path.parent.glob(f"{path.name}.cut-*"))
            assert [one.read_bytes() for one in aside] == ([content[whole:]] if content[whole:] else [])
    after = Snapshot("at the end", on_host.read_bytes(), on_device.read_bytes())
    verdict = judge([Snapshot("torn", host, device), after], json.loads(table_of(measured)), journals.plan)
    assert verdict.is_clean, verdict
    assert verdict.finished == TRIALS
    return ran, after.host, after.device


def tears(journal: bytes) -> Iterator[bytes]:
    """The journal, cut at every byte of its last record."""
    for end in range(last_record(journal), len(journal)):
        yield journal[:end]


def test_the_hosts_journal_torn_anywhere_is_mended_from_the_devices(folder: Path, journals: Journals) -> None:
    count = 0
    for torn in tears(journals.host):
        ran, host, device = resume(folder, torn, journals.device, journals)
        assert ran == [], "it was fetched, not measured again"
        assert (host, device) == (journals.host, journals.device), "byte for byte"
        count += 1
    assert count > 1000


def test_the_devices_journal_torn_anywhere_costs_nothing_that_the_host_has(folder: Path, journals: Journals) -> None:
    for torn in tears(journals.device):
        ran, host, device = resume(folder, journals.host, torn, journals)
        assert ran == []
        assert (host, device) == (journals.host, torn), "a finished campaign does not touch the device"
        store = SessionStore(str(folder), SESSION_ID)
        assert store.journal.cut_bytes == len(torn) - last_record(journals.device)
        assert [record["trial_id"] for record in store.journal.records] == [
            record["trial_id"] for record in read_journal(journals.device)[0][:-1]
        ]
        store.close()


def test_both_journals_torn_anywhere_cost_the_torn_trial_and_no_other(folder: Path, journals: Journals) -> None:
    last = read_journal(journals.host)[0][-1]["trial_id"]
    assert read_journal(journals.device)[0][-1]["trial_id"] == last
    for torn_host, torn_device in zip(tears(journals.host), reversed(list(tears(journals.device))), strict=False):
        ran, host, device = resume(folder, torn_host, torn_device, journals)
        assert ran == [last]
        assert (host, device) == (journals.host, journals.device), "byte for byte"
