"""Where campaigns are run: one device, one store of trials, one plan."""

from __future__ import annotations

import json
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from hwloop.devices import AgentSession, Device
from hwloop.devices.health import require_fit
from hwloop.errors import DataError
from hwloop.files import write_atomic
from hwloop.measurement.campaign import CampaignPlan, Subject, run_campaign
from hwloop.measurement.measurement import Measurement
from hwloop.measurement.store import TrialStore
from hwloop.progress import Progress

REPLAYED = "REPLAYED, not measured now: "


def as_replayed(cpu: str) -> str:
    """Return a processor's name as that of a recording: part of the name, so that no table or report can lose it."""
    return cpu if cpu.startswith(REPLAYED) else REPLAYED + cpu


@dataclass(frozen=True)
class Identity:
    """What the device is, as its agent says; asked once per study or table.

    Attributes:
        cpu: name of the board, or of the processor where the system names no board; begins with EMULATED where the
            agent found an emulator, with REPLAYED where a recording answers.
        agent_sha256: hash of the agent's file.
        facts: everything it told: system, memory, clocks, sensors, and which runtimes can be imported.
    """

    cpu: str
    agent_sha256: str
    facts: dict[str, Any]


@dataclass(frozen=True)
class Bench:
    """One device, one trial store, one plan: everything that a study or a table measures goes through here.

    Attributes:
        device: what is measured.
        session_id: names the journal on the device; the same in every run of the same study or table.
        store: finished trials.
        plan: processes, threads and timing.
        progress: is told about campaigns.
        instance: tells this bench's own sessions from those of another process that goes on with the same study.
    """

    device: Device
    session_id: str
    store: TrialStore
    plan: CampaignPlan
    progress: Progress
    instance: str = field(default_factory=lambda: secrets.token_hex(8))

    def measure(
        self, subjects: Sequence[Subject], description: str, processes: int | None = None
    ) -> dict[str, Measurement]:
        """Measure subjects, in `processes` fresh processes each (default: the plan's)."""
        plan = self.plan if processes is None else replace(self.plan, processes=processes)
        return run_campaign(subjects, plan, self.store, self.open_session, self.progress, description)

    def has_begun(self, subject: Subject) -> bool:
        """Whether a trial of the subject, as the plan has it, is in the store."""
        return any(trial.id in self.store for _, trial in self.plan.trials([subject]))

    def identify(self, kept: Path) -> Identity:
        """Ask the device what it is, or read what it said before.

        Args:
            kept: where the answer is kept (JSON): asking imports every runtime on the device.

        Raises:
            DataError: the file is damaged.
        """
        if not kept.exists():
            with self.open_session() as session:
                content = {"agent_sha256": session.hello.agent_sha256, "facts": session.facts()}
            write_atomic(kept, json.dumps(content, indent=1, sort_keys=True))
        try:
            known = json.loads(kept.read_text())
        except ValueError as error:
            raise DataError(f"{kept}: is damaged ({error}); delete it and the device is asked again") from error
        cpu = str(known["facts"]["model"] or "unknown processor")
        if known["facts"].get("emulated"):
            # Part of the name, so that no table, report or comparison can lose it.
            cpu = f"EMULATED, not real hardware: {cpu}"
        if known["facts"].get("replayed"):
            cpu = as_replayed(cpu)
        return Identity(cpu, known["agent_sha256"], known["facts"])

    def open_session(self) -> AgentSession:
        """Open a session with the device's agent, waiting for whoever else is measuring there.

        Raises:
            UserError: the device is known to be bad, or in maintenance.
            DeviceError: it cannot be reached, or somebody else keeps it.
        """
        require_fit(self.device)
        return AgentSession.open(
            self.device.open_transport(),
            session_id=self.session_id,
            root=self.device.root,
            board=self.device.board_profile(),
            worker_python=self.device.worker_python,
            on_wait=self.progress.say,
            instance=self.instance,
            # Without a journal here, what was handed over earlier belongs to one that has been removed.
            fresh=len(self.store) == 0 and self.store.cut_bytes == 0,
        )
