"""How the study's device is measured."""

from __future__ import annotations

from hwloop.measurement import CampaignPlan, TimingProtocol
from hwloop.study.config import StudyConfig


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
