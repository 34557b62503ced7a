"""Trials, campaigns, and what they learn."""

from hwloop.measurement.bench import Bench, Identity
from hwloop.measurement.campaign import CampaignPlan, Session, Subject, run_campaign
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
    "Session",
    "Subject",
    "TimingProtocol",
    "Trial",
    "TrialStore",
    "layer_design",
    "noise_floor",
    "pool",
    "run_campaign",
    "run_fleet",
    "spread",
]
