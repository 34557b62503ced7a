"""One thing to measure: an artifact, a runtime, threads and a timing protocol, with an id that is a hash of them."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from hwloop.runtimes import Artifact
from hwloop_agent import protocol


@dataclass(frozen=True)
class TimingProtocol:
    """How long and how precisely a trial is timed; the agent's `timing.py` carries it out.

    Attributes:
        warmup_s: warm up at least this long, and `warmup_runs` times, and until the runs are steady.
        warmup_runs: see `warmup_s`.
        min_s: time at least this long.
        max_s: stop here even when the interval is still wide.
        min_blocks: at least this many samples, where `max_s` allows.
        max_blocks: at most this many samples.
        block_us: a sample is a block of runs that lasts at least this long; a canary runs between blocks, and only
            blocks during which the core ran at its full pace count.
        target_relative_interval: stop when the interval of the median has this width, relative to the median.
        confidence: of that interval.
    """

    warmup_s: float = 0.2
    warmup_runs: int = 5
    min_s: float = 0.2
    max_s: float = 2.0
    min_blocks: int = 10
    max_blocks: int = 5000
    block_us: int = 1500
    target_relative_interval: float = 0.01
    confidence: float = 0.95


#: For a campaign of which nobody says how to time. A process costs a quarter of a second to start: with a hundred
#: blocks a layer of 5 ms is timed for twice that, so that most of the campaign is spent measuring, and the 90th
#: percentile is known (`hwloop_agent.statistics.P90_FLOOR`). What takes less than 2 ms has as many within `min_s`.
THOROUGH = TimingProtocol(min_blocks=100)


@dataclass(frozen=True)
class Trial:
    """One trial: what is run, how, which of several fresh processes this is, and the how-manieth try at it.

    Attributes:
        artifact: what is loaded, and how it is fed.
        threads: of the runtime.
        timing: how it is timed.
        replicate: number of the fresh process, from 0.
        attempt: from 1; a later one repeats a trial whose conditions were bad.
    """

    artifact: Artifact
    threads: int
    timing: TimingProtocol
    replicate: int = 0
    attempt: int = 1

    @property
    def spec(self) -> dict[str, Any]:
        """The trial as the agent takes it (JSON)."""
        return {
            **self.artifact.trial_spec(),
            "threads": self.threads,
            "timing": asdict(self.timing),
            "replicate": self.replicate,
        }

    @property
    def id(self) -> str:
        """Hash of the canonical spec, then the attempt: the same trial has the same id on every host."""
        return protocol.trial_id(self.spec, self.attempt)
