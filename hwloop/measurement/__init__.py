"""Trials, campaigns, and what they learn."""

from hwloop.measurement.adaptive import CurvePoint, Limits, Step, curve_of, sample_adaptively
from hwloop.measurement.bench import Bench, Identity, as_replayed
from hwloop.measurement.campaign import CampaignPlan, Session, Subject, run_campaign
from hwloop.measurement.comparing import Ratio, Verdict, context_differences, judge
from hwloop.measurement.design import layer_design, spread
from hwloop.measurement.farm import Farm, Station
from hwloop.measurement.fleet import Outcome, run_fleet
from hwloop.measurement.measurement import USABLE, Interval, Measurement, noise_floor, pool
from hwloop.measurement.store import TrialStore
from hwloop.measurement.trial import TimingProtocol, Trial

__all__ = [
    "USABLE",
    "Bench",
    "CampaignPlan",
    "CurvePoint",
    "Farm",
    "Identity",
    "Interval",
    "Limits",
    "Measurement",
    "Outcome",
    "Ratio",
    "Session",
    "Station",
    "Step",
    "Subject",
    "TimingProtocol",
    "Trial",
    "TrialStore",
    "Verdict",
    "as_replayed",
    "context_differences",
    "curve_of",
    "judge",
    "layer_design",
    "noise_floor",
    "pool",
    "run_campaign",
    "run_fleet",
    "sample_adaptively",
    "spread",
]
