"""One board, one host process, and the two journals: what a fault is done to, and the evidence of what it did."""

from __future__ import annotations

import multiprocessing
import os
import time
from dataclasses import dataclass, field
from multiprocessing import forkserver
from multiprocessing.context import ForkServerContext, ForkServerProcess
from pathlib import Path
from typing import Any

from tests.boards.faults import host
from tests.boards.faults.checker import Snapshot, trials_in
from tests.boards.faults.host import EXIT_DEVICE, SESSION_ID, Config, run_logged
from tests.boards.x86 import X86Board

POLL_S = 0.005
REPOSITORY = Path(__file__).parents[3]


class OutOfTimeError(Exception):
    """The campaign did not get on."""


@dataclass
class Scene:
    """The stage of one fault.

    Attributes:
        board: the board; a fault may furnish it before it starts.
        trials: how many the campaign plans.
        address: where the host finds the board, if not at the board's own address.
        environment: what the host process finds besides.
        boot_id: of the board at present.
        attempts, dead_s: see `Config`.
        starts: how often the host's command was given.
    """

    folder: Path
    board: X86Board
    trials: int
    address: tuple[str, int] | None = None
    environment: dict[str, str] = field(default_factory=dict)
    boot_id: str | None = None
    attempts: int = 1
    dead_s: float = 30.0
    starts: int = 0
    snapshots: list[Snapshot] = field(default_factory=list)
    process: ForkServerProcess | None = None
    _forks: ForkServerContext = field(default_factory=lambda: multiprocessing.get_context("forkserver"))

    @property
    def config(self) -> Config:
        host, port = self.address or (self.board.host, self.board.port)
        return Config(
            str(self.folder),
            self.trials,
            self.attempts,
            host,
            port,
            self.board.user,
            str(self.board.user_key),
            self.board.host_key.text,
            self.dead_s,
        )

    @property
    def device_journal(self) -> Path:
        return self.board.root / "sessions" / SESSION_ID / "journal.ndjson"

    @property
    def log(self) -> str:
        path = self.folder / "host.log"
        return path.read_text() if path.exists() else ""

    def run_host(self) -> None:
        """Give the host's command, the same one each time.

        Each run is a process of its own, but a fork of one that has imported everything: importing torch each time
        would take longer than all the trials.
        """
        path = self.folder / "config.json"
        self.config.save(path)
        if self.starts == 0:
            self._warm_up()
        self.process = self._forks.Process(target=run_logged, args=(path, self.folder / "host.log"))
        self.process.start()
        self.starts += 1

    def _warm_up(self) -> None:
        """Start the process that hosts are forked from, with what they find in their environment."""
        self._forks.set_forkserver_preload([host.__name__])
        before = dict(os.environ)
        os.environ.update(self.environment)
        try:
            forkserver.ensure_running()
        finally:
            os.environ.clear()
            os.environ.update(before)

    def kill_host(self) -> None:
        assert self.process is not None
        assert self.process.is_alive(), "the host was dead before it was killed"
        self.process.kill()
        self.process.join()

    def host_is_done(self) -> bool:
        """Whether the host has ended with a table; one that gave up is started again, as its user would."""
        assert self.process is not None
        code = self.process.exitcode
        if code is None:
            return False
        if code == 0:
            return True
        if code != EXIT_DEVICE:
            raise OutOfTimeError(f"the host failed with exit code {code}: {self.log[-2000:]}")
        self.run_host()
        return False

    def wait_for(self, finished: int, limit_s: float) -> bool:
        """Wait until the host has journalled so many trials; False when the campaign has ended before."""
        until = time.monotonic() + limit_s
        while self.finished() < finished:
            if self.host_is_done():
                return False
            if time.monotonic() > until:
                raise OutOfTimeError(f"no {finished} trials within {limit_s:g} s: {self.log[-2000:]}")
            time.sleep(POLL_S)
        return True

    def wait_for_end(self, limit_s: float) -> None:
        until = time.monotonic() + limit_s
        while not self.host_is_done():
            if time.monotonic() > until:
                raise OutOfTimeError(f"not over within {limit_s:g} s: {self.log[-2000:]}")
            time.sleep(POLL_S)

    def records(self) -> list[dict[str, Any]]:
        """The trials in the host's journal, in the order in which they came."""
        return trials_in(self._read(self.config.journal))

    def finished(self) -> int:
        """How many trials the host's journal has."""
        return len(self.records())

    @staticmethod
    def _read(path: Path) -> bytes:
        return path.read_bytes() if path.exists() else b""

    def take_snapshot(self, label: str, without: str = "") -> None:
        """Copy the journals; less the one, `host` or `device`, that is no witness."""
        # The device's first: what it has then and the host has not is on its way, and must arrive.
        from_device = self._read(self.device_journal) if without != "device" else b""
        from_host = self._read(self.config.journal) if without != "host" else b""
        self.snapshots.append(Snapshot(label, from_host, from_device, self.boot_id))

    def close(self) -> None:
        """End everything."""
        if self.process is not None and self.process.is_alive():
            self.process.kill()
            self.process.join()
        if self.board.process is not None:
            self.board.power_off()
