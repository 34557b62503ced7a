"""Trials, campaigns, and what they learn."""

from hwloop.measurement.bench import Bench, Identity, as_replayed
from hwloop.measurement.campaign import CampaignPlan, Session, Subject, run_campaign
from hwloop.measurement.comparing import Ratio, Verdict, context_differences, judge
from hwloop.measurement.design import layer_design, spread
from hwloop.measurement.fleet import Outcome, run_fleet
from hwloop.measurement.measurement import USABLE, Interval, Measurement, noise_floor, pool
from hwloop.measurement.store import TrialStore
from hwloop.measurement.trial import TimingProtocol, Trial

__all__ = [
    "USABLE",
    "Bench",
    "CampaignPlan",
    "Identity",
    "Interval",
    "Measurement",
    "Outcome",
    "Ratio",
    "Session",
    "Subject",
    "TimingProtocol",
    "Trial",
    "TrialStore",
    "Verdict",
    "as_replayed",
    "context_differences",
    "judge",
    "layer_design",
    "noise_floor",
    "pool",
    "run_campaign",
    "run_fleet",
    "spread",
]
