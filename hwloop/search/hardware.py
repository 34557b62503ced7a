"""Hardware in the loop: what is measured during a search, and how it changes what the search knows.

Between two generations, candidates that matter are sent to the device (`probing.py`), which measures them while the
next generation is evaluated. At the next border their results are waited for and taken: the predictor is fitted again
with them, and the predictions of everything evaluated so far are refreshed. So a result takes effect at a moment that
does not depend on how fast the device is, and the journal says what was sent and taken when: a search that is killed
and resumed takes the same way, and asks the device for nothing twice.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from hwloop.errors import DeviceError, StudyError
from hwloop.progress import Progress
from hwloop.pruning import Candidate
from hwloop.search.objectives import CostModel


@dataclass(frozen=True)
class Probe:
    """A candidate that is sent to the device, with what was predicted by then.

    Attributes:
        candidate: widths and removed blocks.
        predicted_ms: latency.
        low_ms: lower end of its interval.
        high_ms: upper end.
    """

    candidate: Candidate
    predicted_ms: float
    low_ms: float
    high_ms: float


@dataclass(frozen=True)
class Measured:
    """What the device said of a candidate.

    Attributes:
        candidate: widths and removed blocks.
        latency_ms: measured.
        peak_bytes: measured; 0 when unknown.
        energy_mj: of one run; None when unknown.
    """

    candidate: Candidate
    latency_ms: float
    peak_bytes: int
    energy_mj: float | None = None


@dataclass(frozen=True)
class Sent:
    """The record of what was sent before a generation was asked for."""

    generation: int
    probes: tuple[Probe, ...]

    def to_record(self) -> dict[str, Any]:
        """The journal's record."""
        return {"kind": "sent", "generation": self.generation, "probes": [_plain(each) for each in self.probes]}


@dataclass(frozen=True)
class Taken:
    """The record of what took effect before a generation was asked for.

    Attributes:
        generation: see above.
        networks: that could be measured, of those that were sent at the border before.
        lost: why the device was lost; empty when it was not.
    """

    generation: int
    networks: tuple[Measured, ...]
    lost: str = ""

    def to_record(self) -> dict[str, Any]:
        """The journal's record."""
        networks = [_plain(each) for each in self.networks]
        return {"kind": "taken", "generation": self.generation, "networks": networks, "lost": self.lost}


class Prober(Protocol):
    """Measures in the background."""

    def send(self, candidates: Sequence[Candidate]) -> None:
        """Begin to measure; returns as soon as the device can do without this process's CPUs."""
        ...

    def collect(self) -> list[Measured]:
        """Wait for what was sent, and return what could be measured.

        Raises:
            DeviceError: the device is lost.
        """
        ...


@dataclass(frozen=True)
class HardwareLoop:
    """How the device takes part in a search.

    Attributes:
        trials: networks that may be measured, over the whole search.
        prober: measures them.
        refit: a predictor from everything measured during the search.
    """

    trials: int
    prober: Prober
    refit: Callable[[Sequence[Measured]], CostModel]


class Records(Protocol):
    """What the loop needs of the search's journal; `hwloop.search.record.History` is one."""

    sent: dict[int, Sent]
    taken: dict[int, Taken]

    def note(self, entry: Sent | Taken) -> None:
        """Keep a new entry; it is in the journal when this returns."""
        ...


class Exchange:
    """The traffic with the device, from the journal or live.

    Args:
        loop: how the device takes part.
        records: of this search.
        progress: is told when the device is lost.
    """

    def __init__(self, loop: HardwareLoop, records: Records, progress: Progress) -> None:
        self.loop = loop
        self.measured: list[Measured] = []
        self.probes: list[Probe] = []
        self._records = records
        self._progress = progress
        self._flying = False
        self._lost = False

    @property
    def left(self) -> int:
        """Trials that may still be spent; none once the device is lost."""
        return 0 if self._lost else self.loop.trials - len(self.probes)

    def take(self, generation: int) -> CostModel | None:
        """Take what was sent at the border before.

        Returns:
            The new predictor; None when nothing has changed.
        """
        sent = self._records.sent.get(generation - 1)
        if sent is None:
            return None
        taken = self._records.taken.get(generation)
        if taken is None:
            taken = self._collect(generation, sent)
            self._records.note(taken)
        self._flying = False
        if taken.lost:
            self._lost = True
        if not taken.networks:
            return None
        self.measured += taken.networks
        return self.loop.refit(tuple(self.measured))

    def known(self, generation: int) -> bool:
        """Whether the journal says what was sent at this border; then that is sent again, unless it was taken."""
        sent = self._records.sent.get(generation)
        if sent is None:
            return False
        self.probes += sent.probes
        if generation + 1 not in self._records.taken:
            self._send(sent)
        return True

    def send(self, generation: int, probes: Sequence[Probe]) -> None:
        """Send candidates; it is in the journal first, so that no kill makes them forgotten."""
        if probes:
            sent = Sent(generation, tuple(probes))
            self._records.note(sent)
            self.probes += sent.probes
            self._send(sent)

    def _send(self, sent: Sent) -> None:
        self.loop.prober.send([probe.candidate for probe in sent.probes])
        self._flying = True

    def _collect(self, generation: int, sent: Sent) -> Taken:
        assert self._flying
        try:
            return Taken(generation, tuple(self.loop.prober.collect()))
        except DeviceError as error:
            self._progress.say(f"the search goes on without the device: {error}")
            return Taken(generation, (), " ".join(str(error).split()) or "lost")


def entry_of(record: dict[str, Any]) -> Sent | Taken | None:
    """A journal's record as an entry of the loop; None when it is of another kind.

    Raises:
        StudyError: it is of this kind, and damaged.
    """
    try:
        if record["kind"] == "sent":
            probes = tuple(
                Probe(_candidate(each), float(each["predicted_ms"]), float(each["low_ms"]), float(each["high_ms"]))
                for each in record["probes"]
            )
            return Sent(int(record["generation"]), probes)
        if record["kind"] == "taken":
            networks = tuple(
                Measured(_candidate(each), float(each["latency_ms"]), int(each["peak_bytes"]), each["energy_mj"])
                for each in record["networks"]
            )
            return Taken(int(record["generation"]), networks, str(record["lost"]))
    except (KeyError, TypeError, ValueError) as error:
        raise StudyError(f"the search journal holds a damaged record of a measurement: {error!r}") from error
    return None


def _candidate(record: dict[str, Any]) -> Candidate:
    return Candidate(tuple(map(int, record["widths"])), tuple(map(str, record["removed"])))


def _plain(entry: Probe | Measured) -> dict[str, Any]:
    values = {name: value for name, value in vars(entry).items() if name != "candidate"}
    return {"widths": list(entry.candidate.widths), "removed": list(entry.candidate.removed), **values}
