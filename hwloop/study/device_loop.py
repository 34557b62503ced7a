"""The study's device during the search: measures what the search sends, in the background where it can."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

from hwloop.devices.device import LOCAL
from hwloop.errors import DeviceError
from hwloop.measurement import Bench, Measurement, Subject
from hwloop.pruning import Candidate
from hwloop.search import Measured


class DeviceProber:
    """A `hwloop.search.Prober` on a bench. While something is in the air, nobody else may use the bench.

    A device of its own measures in a thread, while candidates are evaluated here. This very machine measures before
    `send` returns, while nothing is evaluated: its timings would be those of a busy machine.

    Args:
        bench: of the device.
        subject_of: makes what the device runs; called here, as the exporter is not made for threads.
    """

    def __init__(self, bench: Bench, subject_of: Callable[[Candidate], Subject]) -> None:
        self._bench = bench
        self._subject_of = subject_of
        self._thread: threading.Thread | None = None
        self._found: list[Measured] = []
        self._failure: BaseException | None = None

    def send(self, candidates: Sequence[Candidate]) -> None:
        """See `Prober.send`."""
        subjects = [(candidate, self._subject_of(candidate)) for candidate in candidates]
        self._found, self._failure = [], None
        if self._bench.device.transport == LOCAL:
            self._measure(subjects)
        else:
            self._thread = threading.Thread(target=self._measure, args=(subjects,), name="device-loop", daemon=True)
            self._thread.start()

    def collect(self) -> list[Measured]:
        """See `Prober.collect`.

        Raises:
            DeviceError: the device is lost.
            UserError: it may not be measured.
        """
        self.close()
        if isinstance(self._failure, OSError):
            raise DeviceError(f"{self._bench.device.name}: {self._failure}") from self._failure
        if self._failure is not None:
            raise self._failure
        return self._found

    def close(self) -> None:
        """Wait for what is in the air; what it measures is kept in the bench's store."""
        thread, self._thread = self._thread, None
        if thread is not None:
            thread.join()

    def _measure(self, subjects: Sequence[tuple[Candidate, Subject]]) -> None:
        try:
            measured = self._bench.measure([subject for _, subject in subjects], "elites on the device", processes=1)
        except BaseException as error:  # raised where it is seen, by `collect`
            self._failure = error
            return
        for candidate, subject in subjects:
            measurement = measured[subject.key]
            if measurement.usable:
                self._found.append(measured_as(candidate, measurement))


def measured_as(candidate: Candidate, measurement: Measurement) -> Measured:
    """A measured candidate as a search takes it."""
    return Measured(candidate, measurement.latency_ms, measurement.peak_bytes, measurement.energy_mj)
