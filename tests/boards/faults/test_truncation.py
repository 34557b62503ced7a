"""The journals torn at every byte of their last record: nothing else is lost, and the campaign mends it.

Both sides' real stores and the real campaign; between them no wire, and what is "measured" was measured before. That
wires and real agents bear the same is shown, at random bytes, by the faults `device-journal` and `host-journal`.
"""

from __future__ import annotations

import itertools
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
from tests.boards.faults.campaign import PLAN
from tests.boards.faults.checker import Snapshot, judge, read_journal
from tests.boards.faults.conftest import Journals
from tests.boards.faults.host import SESSION_ID, table_of

pytestmark = [pytest.mark.board, pytest.mark.timeout(900)]


@dataclass
class Session:
    """A campaign's session with the device's store."""

    store: SessionStore
    known: dict[str, dict[str, Any]]
    last_seq: int = 0
    in_flight: None = None
    hello: SimpleNamespace = field(
        default_factory=lambda: SimpleNamespace(boot_id="boot", pid=1, interrupted=None, installed={})
    )
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
        measured = run_campaign(journals.subjects, PLAN, store, open_session, Silent(), "campaign")  # type: ignore
    for path, content in ((on_host, host), (on_device, device)):
        whole = content.rfind(b"\n") + 1
        if path == on_host or ran:  # else nobody has opened it
            aside = list(path.parent.glob(f"{path.name}.cut-*"))
            assert [one.read_bytes() for one in aside] == ([content[whole:]] if content[whole:] else [])
    assert json.loads(table_of(measured)) == journals.table
    return ran, on_host.read_bytes(), on_device.read_bytes()


def tears(journal: bytes) -> Iterator[bytes]:
    """The journal, cut at every byte of its last record."""
    for end in range(last_record(journal), len(journal)):
        yield journal[:end]


def test_what_is_torn_here_is_a_campaign_without_fault(few_journals: Journals) -> None:
    whole = Snapshot("at the end", few_journals.host, few_journals.device)
    verdict = judge([whole], few_journals.table, few_journals.plan)
    assert verdict.is_clean, verdict
    assert verdict.finished == len(few_journals.subjects)


def test_the_hosts_journal_torn_anywhere_is_mended_from_the_devices(folder: Path, few_journals: Journals) -> None:
    count = 0
    for torn in tears(few_journals.host):
        ran, host, device = resume(folder, torn, few_journals.device, few_journals)
        assert ran == [], "it was fetched, not measured again"
        assert (host, device) == (few_journals.host, few_journals.device), "byte for byte"
        count += 1
    assert count > 1000


def test_the_devices_journal_torn_anywhere_loses_the_torn_record_alone(folder: Path, few_journals: Journals) -> None:
    *kept, last = [record["trial_id"] for record in read_journal(few_journals.device)[0]]
    path = folder / "sessions" / SESSION_ID / "journal.ndjson"
    SessionStore(str(folder), SESSION_ID).close()
    for torn in tears(few_journals.device):
        path.write_bytes(torn)
        store = SessionStore(str(folder), SESSION_ID)
        tail = torn[last_record(few_journals.device) :]
        assert store.journal.cut_bytes == len(tail)
        for aside in path.parent.glob(f"{path.name}.cut-*"):
            assert aside.read_bytes() == tail
            aside.unlink()
        assert [entry["rec"]["trial_id"] for entry in store.batch(0, 1000)["records"]] == kept
        assert store.finished(last) is None
        store.close()


def test_both_journals_torn_anywhere_cost_the_torn_trial_and_no_other(folder: Path, few_journals: Journals) -> None:
    last = read_journal(few_journals.host)[0][-1]["trial_id"]
    assert read_journal(few_journals.device)[0][-1]["trial_id"] == last
    # Every byte of one of them is above; here the two are torn in different places, at every twenty-fifth byte.
    pairs = zip(tears(few_journals.host), reversed(list(tears(few_journals.device))), strict=False)
    for torn_host, torn_device in itertools.islice(pairs, 0, None, 25):
        ran, host, device = resume(folder, torn_host, torn_device, few_journals)
        assert ran == [last]
        assert (host, device) == (few_journals.host, few_journals.device), "byte for byte"
