"""The host as a program of its own, so that it can be killed and run again.

`python -m tests.boards.faults.host CONFIG` measures the campaign over SSH into a journal and writes the table when all
of it is there. Run again, it goes on.
"""

from __future__ import annotations

import json
import os
import secrets
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

from hwloop.devices import AgentSession
from hwloop.devices.ssh.connection import Limits
from hwloop.devices.ssh.hostkey import HostKey, Pins
from hwloop.devices.ssh.login import Secrets
from hwloop.devices.ssh.route import Address
from hwloop.devices.transports.ssh import SshTransport
from hwloop.errors import DeviceError
from hwloop.files import write_atomic
from hwloop.measurement import TrialStore, run_campaign
from tests.boards.faults.campaign import PLAN, subjects

SESSION_ID = "campaign"
EXIT_DEVICE = 3


@dataclass(frozen=True)
class Config:
    """Where the board is and where the host keeps what it learns.

    Attributes:
        attempts: see `CampaignPlan`.
        dead_s: after this long without a word from TCP a connection is given up.
    """

    folder: str
    trials: int
    attempts: int
    host: str
    port: int
    user: str
    identity: str
    host_key: str
    dead_s: float

    @property
    def journal(self) -> Path:
        return Path(self.folder) / "trials.ndjson"

    @property
    def table(self) -> Path:
        return Path(self.folder) / "table.json"

    def save(self, path: Path) -> None:
        path.write_text(json.dumps(vars(self)))

    @classmethod
    def load(cls, path: Path) -> Self:
        return cls(**json.loads(path.read_text()))

    def open_session(self, instance: str) -> AgentSession:
        ssh_config = Path(self.folder) / "ssh_config"
        ssh_config.touch()  # the tester's own plays no part
        transport = SshTransport(
            "board",
            Address(self.host, self.port, self.user),
            Pins(HostKey.parse(self.host_key)),
            python=sys.executable,
            identity=self.identity,
            config=ssh_config,
            secrets=Secrets(lambda question: None),
            limits=Limits(dead_s=self.dead_s),
        )
        return AgentSession.open(transport, session_id=SESSION_ID, instance=instance)


class Log:
    """A `Progress` that prints lines."""

    @contextmanager
    def step(self, description: str, total: int, done: int = 0) -> Iterator[Log]:
        self.say(f"{description}: {done} of {total}")
        yield self

    def advance(self, amount: int = 1, note: str = "") -> None:
        pass

    def say(self, line: str) -> None:
        print(line, flush=True)


def table_of(measured: dict[str, Any]) -> str:
    rows = {
        key: {"status": one.status, "latency_ms": one.latency_ms, "trial_ids": list(one.trial_ids)}
        for key, one in measured.items()
    }
    return json.dumps(rows)


def main(path: Path) -> int:
    config = Config.load(path)
    log = Log()
    instance = secrets.token_hex(8)  # of this process: coming back, it may turn out a session that it has lost
    with TrialStore(config.journal) as store:
        if store.cut_bytes:
            log.say(f"set {store.cut_bytes} damaged bytes aside")
        try:
            plan = replace(PLAN, attempts=config.attempts)
            measured = run_campaign(
                subjects(config.trials), plan, store, lambda: config.open_session(instance), log, "campaign"
            )
        except DeviceError as error:
            log.say(f"gave up: {error}")
            return EXIT_DEVICE
    write_atomic(config.table, table_of(measured))
    log.say("complete")
    return 0


def run_logged(path: Path, log: Path) -> None:
    """`main` in a process that was forked for it, with a log for what it says."""
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    os.close(descriptor)
    sys.exit(main(path))


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
