"""Recorded trials that answer like a device."""

from hwloop.devices.replay.agent import Faults, ReplayAgent
from hwloop.devices.replay.recording import Recording, open_recording
from hwloop.devices.replay.workload import FIRST_ANCHOR, workload_of

__all__ = ["FIRST_ANCHOR", "Faults", "Recording", "ReplayAgent", "open_recording", "workload_of"]
