"""Which device of a farm measures what: pure bookkeeping, no threads, and the time is passed in.

A subject that a device has begun is finished there. The others are handed out in shares that shrink as the work runs
out, so that no device holds much when the rest are done. When nothing waits any more, an idle device measures a copy
of what another one has been at for much longer than is usual: a straggler then delays nobody. A subject that one
device could not measure is tried on a second one before its failure is believed; a device that is proved wrong that
way, or that is lost, collects strikes.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field

STRIKES = 2
"""So many in a row, and a device is quarantined."""

LARGEST_SHARE = 8

COPY_AFTER = 1.5
"""A subject is copied when a device has been at it for so many times the median duration."""

OPINIONS = 2
"""A subject counts as impossible to measure when so many devices could not."""


@dataclass
class Sharing:
    """The subjects of one campaign, by their keys.

    Attributes:
        devices: names.
        waiting: keys that nobody has, in the order in which they are handed out.
        begun: by device, the keys that it has begun in an earlier run.
    """

    devices: Collection[str]
    waiting: list[str]
    begun: Mapping[str, Iterable[str]] = field(default_factory=dict)
    finished: dict[str, str] = field(init=False, default_factory=dict)
    quarantined: dict[str, str] = field(init=False, default_factory=dict)
    _own: dict[str, list[str]] = field(init=False)
    _busy: dict[str, tuple[str, ...]] = field(init=False, default_factory=dict)
    _since: dict[str, float] = field(init=False, default_factory=dict)
    _durations: list[float] = field(init=False, default_factory=list)
    _strikes: dict[str, int] = field(init=False, default_factory=dict)
    _failed_on: dict[str, list[str]] = field(init=False, default_factory=dict)
    _total: int = field(init=False)

    def __post_init__(self) -> None:
        self._total = len(self.waiting)
        self._own = {device: [] for device in self.devices}
        for device, keys in self.begun.items():
            for key in keys:
                if key in self.waiting:  # two devices may have begun it: the first finishes it
                    self.waiting.remove(key)
                    self._own[device].append(key)

    @property
    def is_done(self) -> bool:
        """Whether every subject has a result."""
        return len(self.finished) == self._total

    @property
    def is_stuck(self) -> bool:
        """Whether no device is left for what is not finished."""
        return not self.is_done and len(self.quarantined) == len(self.devices)

    def take(self, device: str, now: float) -> tuple[str, ...]:
        """What a device measures next; nothing when it is quarantined, or there is nothing for it at this time."""
        if device in self.quarantined or device in self._busy:
            return ()
        share = self._own[device] or self._from_waiting(device) or self._copy_for(device, now)
        if share:
            self._since[device] = math.inf if self._own[device] else now  # begun ones take any part of the usual time
            self._own[device] = []
            self._busy[device] = tuple(share)
        return tuple(share)

    def result(self, device: str, key: str, *, usable: bool) -> bool:
        """Note what a device says of a subject.

        Returns:
            Whether this is the subject's result: not so when there is one already, or another device is asked first.
        """
        if key in self.finished:
            return False
        failed = self._failed_on.setdefault(key, [])
        if usable:
            self._strikes[device] = 0
            for wrong in failed:
                self._strike(wrong, f"could not measure {key}, which {device} could")
        else:
            failed.append(device)
            others = [each for each in self.devices if each not in self.quarantined and each not in failed]
            if len(failed) < OPINIONS and others:
                self.waiting.insert(0, key)
                return False
        self.finished[key] = device
        return True

    def ended(self, device: str, now: float) -> None:
        """A device is through with its share."""
        share = self._busy.pop(device, ())
        if share and math.isfinite(self._since[device]):
            self._durations += [(now - self._since[device]) / len(share)] * len(share)

    def lost(self, device: str, reason: str, *, for_good: bool = False) -> None:
        """A device failed: others take its share, or it does so itself when its turn comes again."""
        share = self._busy.pop(device, ())
        busy = {key for keys in self._busy.values() for key in keys}
        self.waiting[:0] = [key for key in share if key not in self.finished and key not in busy]
        if for_good:
            self._strikes[device] = STRIKES
        self._strike(device, reason)

    def _strike(self, device: str, reason: str) -> None:
        self._strikes[device] = self._strikes.get(device, 0) + 1
        if self._strikes[device] >= STRIKES and device not in self.quarantined:
            self.quarantined[device] = reason
            self.waiting[:0] = self._own[device]
            self._own[device] = []

    def _from_waiting(self, device: str) -> list[str]:
        working = len(self.devices) - len(self.quarantined)
        size = max(1, min(LARGEST_SHARE, len(self.waiting) // (2 * working)))
        self.waiting = [key for key in self.waiting if key not in self.finished]
        share = [key for key in self.waiting if self._may_try(device, key)][:size]
        for key in share:
            self.waiting.remove(key)
        return share

    def _copy_for(self, device: str, now: float) -> list[str]:
        """One subject that has been with another device for too long and that nobody else measures."""
        if not self._durations:
            return []
        usual = statistics.median(self._durations)
        held = [key for keys in self._busy.values() for key in keys]
        for other, keys in self._busy.items():  # in the order in which they took their shares
            if now - self._since[other] <= COPY_AFTER * usual * len(keys):
                continue
            for key in keys:
                if key not in self.finished and held.count(key) == 1 and device not in self._failed_on.get(key, ()):
                    return [key]
        return []

    def _may_try(self, device: str, key: str) -> bool:
        """What failed on a device needs another one's opinion, as long as there is another."""
        failed = self._failed_on.get(key, [])
        return device not in failed or all(each in failed or each in self.quarantined for each in self.devices)
