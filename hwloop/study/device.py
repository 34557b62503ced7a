"""The study's device: how its sessions are opened and how its campaigns are run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from hwloop.devices import AgentSession, Device
from hwloop.measurement import CampaignPlan, Measurement, Subject, TimingProtocol, TrialStore, run_campaign
from hwloop.progress import Progress
from hwloop.study.config import StudyConfig
from hwloop.study.directory import StudyDirectory


@dataclass(frozen=True)
class Identity:
    """What the device is, as its agent says; asked once per study.

    Attributes:
        cpu: name of the board, or of the processor where the system names no board.
        agent_sha256: hash of the agent's file.
        facts: everything it told: system, memory, clocks, sensors, and which runtimes can be imported.
    """

    cpu: str
    agent_sha256: str
    facts: dict[str, Any]


@dataclass(frozen=True)
class Bench:
    """One device, one trial store, one plan: everything that a study measures goes through here.

    Attributes:
        device: what is measured.
        session_id: names this study's journal on the device; the same in every run of the study.
        store: finished trials.
        plan: processes, threads and timing.
        progress: is told about campaigns.
    """

    device: Device
    session_id: str
    store: TrialStore
    plan: CampaignPlan
    progress: Progress

    def measure(
        self, subjects: Sequence[Subject], description: str, processes: int | None = None
    ) -> dict[str, Measurement]:
        """Measure subjects, in `processes` fresh processes each (default: the study's)."""
        plan = self.plan if processes is None else replace(self.plan, processes=processes)
        return run_campaign(subjects, plan, self.store, self.open_session, self.progress, description)

    def identify(self, study: StudyDirectory) -> Identity:
        """Ask the device what it is, once per study."""
        if not study.has("device.json"):
            with self.open_session() as session:
                facts = session.facts()
                content = {"agent_sha256": session.hello.agent_sha256, "facts": facts}
            study.write_json("device.json", content)
        known = study.read_json("device.json")
        return Identity(str(known["facts"]["model"] or "unknown processor"), known["agent_sha256"], known["facts"])

    def open_session(self) -> AgentSession:
        """Open a session with the device's agent, waiting for whoever else is measuring there."""
        return AgentSession.open(
            self.device.open_transport(),
            session_id=self.session_id,
            root=self.device.root,
            worker_python=self.device.worker_python,
            on_wait=self.progress.say,
        )


def plan_of(config: StudyConfig) -> CampaignPlan:
    """The campaign plan that the settings ask for."""
    section = config.measurement
    timing = TimingProtocol(
        warmup_s=section.warmup_s,
        min_s=section.min_s,
        max_s=section.max_s,
        target_relative_interval=section.target_relative_interval,
    )
    return CampaignPlan(
        processes=section.processes,
        threads=config.device.threads,
        timing=timing,
        attempts=section.attempts,
        seed=config.study.seed,
    )
