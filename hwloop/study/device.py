"""How the study's device is measured, and whether it can measure what is asked for."""

from __future__ import annotations

from hwloop.errors import UserError
from hwloop.measurement import CampaignPlan, Identity, TimingProtocol
from hwloop.search import parse_constraints
from hwloop.study.config import StudyConfig

ENERGY = "energy_mj"


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


def check_sensors(config: StudyConfig, identity: Identity) -> None:
    """Refuse what the device has no sensor for, before a campaign has spent its time.

    A device that does not tell of its sensors (a recording may not) is taken at its word later.

    Raises:
        UserError: energy is an objective or limited, and nothing there tells power or counts energy.
    """
    limited = [constraint.name for constraint in parse_constraints(config.search.constraints)]
    power = identity.facts.get("power")
    if ENERGY not in (*config.search.objectives, *limited) or power is None:
        return
    if not (power["rails"] or (power["counters"] and not power["reason"])):
        raise UserError(
            f"{identity.cpu} has no power sensor that its agent can read ({power['reason'] or 'none was found'}), so"
            f" {ENERGY} cannot be measured: leave it out of search.objectives and search.constraints"
        )
