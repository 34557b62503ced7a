"""Several devices of the same kind measure one campaign together; a lost or a slow one delays nobody.

Each device has a thread, a session and a journal of its own. Which of them measures what is `sharing.py`'s. All trials
of a subject are made on one device, so that differences between devices do not pass for noise of a subject.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Protocol, Self

from hwloop.errors import AgentMismatchError, DeviceError, HwloopError, UserError
from hwloop.measurement.campaign import Subject
from hwloop.measurement.fleet import POLL_S
from hwloop.measurement.measurement import Measurement
from hwloop.measurement.sharing import Sharing
from hwloop.progress import Progress, Silent, Step

FINAL = (UserError, AgentMismatchError)
"""Errors of a device after which trying it again is no use."""


class Station(Protocol):
    """One device of a farm; `hwloop.measurement.Bench` is one."""

    def measure(self, subjects: Sequence[Subject], description: str) -> dict[str, Measurement]:
        """Measure subjects, continuing where an earlier run stopped."""
        ...

    def has_begun(self, subject: Subject) -> bool:
        """Whether a trial of the subject is in this device's journal."""
        ...


class Farm:
    """Devices that are asked together; a context manager that lets them finish what they are at.

    Args:
        stations: by the device's name.
        progress: is told about subjects, and about devices that are set aside.
        clock: seconds, monotonic; says which device is a straggler.

    Raises:
        UserError: there is no device.
    """

    def __init__(
        self,
        stations: Mapping[str, Station],
        progress: Progress | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if not stations:
            raise UserError("a farm needs at least one device")
        self._stations = dict(stations)
        self._progress = progress or Silent()
        self._clock = clock
        self._changed = threading.Condition()
        self._run: _Run | None = None
        self._bugs: list[BaseException] = []
        self._is_closing = False
        # Daemons: after Ctrl-C, what their journals hold is what was measured, as after a kill.
        self._threads = [
            threading.Thread(target=self._serve, args=(name,), name=f"farm-{name}", daemon=True) for name in stations
        ]
        for thread in self._threads:
            thread.start()

    def measure(self, subjects: Sequence[Subject], description: str) -> dict[str, Measurement]:
        """Measure all subjects, each on one device; those that were measured before are not measured again.

        Returns:
            By key, in the order of `subjects`.

        Raises:
            DeviceError: no device is left; what was measured is in the devices' journals.
        """
        by_key = {subject.key: subject for subject in subjects}
        begun = {
            name: [key for key, subject in by_key.items() if station.has_begun(subject)]
            for name, station in self._stations.items()
        }
        sharing = Sharing(tuple(self._stations), list(by_key), begun)
        with self._progress.step(description, total=len(by_key)) as step:
            run = _Run(sharing, by_key, description, step)
            with self._changed:
                self._run = run
                self._changed.notify_all()
                while not (sharing.is_done or sharing.is_stuck or self._bugs):
                    self._changed.wait(POLL_S)
                self._run = None
        if self._bugs:
            raise self._bugs[0]
        if sharing.is_stuck:
            reasons = "; ".join(f"{name}: {reason}" for name, reason in sharing.quarantined.items())
            raise DeviceError(
                f"no device of the farm is left, {len(sharing.finished)} of {len(by_key)} networks are measured and"
                f" kept ({reasons}); run the same command again to go on"
            )
        return {key: run.measured[key] for key in by_key}

    def close(self) -> None:
        """Let the devices finish what they are at, and take nothing more."""
        with self._changed:
            self._is_closing = True
            self._changed.notify_all()
        for thread in self._threads:
            while thread.is_alive():
                thread.join(POLL_S)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _serve(self, name: str) -> None:
        """A device's life: take a share, measure it, tell."""
        try:
            while (work := self._wait_for_work(name)) is not None:
                run, keys = work
                try:
                    subjects = [run.subjects[key] for key in keys]
                    measured = self._stations[name].measure(subjects, f"{run.description} on {name}")
                except (HwloopError, OSError) as error:
                    self._note_loss(run, name, error)
                else:
                    self._note_results(run, name, measured)
        except BaseException as error:
            with self._changed:
                self._bugs.append(error)
                self._changed.notify_all()

    def _wait_for_work(self, name: str) -> tuple[_Run, tuple[str, ...]] | None:
        with self._changed:
            while not self._is_closing:
                if self._run is not None and (keys := self._run.sharing.take(name, self._clock())):
                    return self._run, keys
                self._changed.wait(POLL_S)  # what another device is at may have become overdue
            return None

    def _note_results(self, run: _Run, name: str, measured: Mapping[str, Measurement]) -> None:
        with self._changed:
            for key, measurement in measured.items():
                if run.sharing.result(name, key, usable=measurement.usable):
                    run.measured[key] = measurement
                    run.step.advance(1, f"{key} on {name}")
            run.sharing.ended(name, self._clock())
            self._changed.notify_all()

    def _note_loss(self, run: _Run, name: str, error: HwloopError | OSError) -> None:
        with self._changed:
            run.sharing.lost(name, str(error), for_good=isinstance(error, FINAL))
            if name in run.sharing.quarantined:
                self._progress.say(f"{name} is set aside, the others go on: {error}")
            self._changed.notify_all()


class _Run:
    """One call of `Farm.measure`."""

    def __init__(self, sharing: Sharing, subjects: Mapping[str, Subject], description: str, step: Step) -> None:
        self.sharing = sharing
        self.subjects = subjects
        self.description = description
        self.step = step
        self.measured: dict[str, Measurement] = {}
