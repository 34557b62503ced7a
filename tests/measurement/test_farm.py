"""A farm measures every subject once, whatever becomes of its devices."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from hwloop.errors import AccessError, DeviceError, UserError
from hwloop.measurement import Farm, Measurement, Subject
from hwloop.measurement.sharing import Sharing
from tests.measurement.conftest import make_subjects
from tests.measurement.farming import ReplayStation, faults_of, record


def stations(folder: Path, recording: Path, devices: int, trial_s: float = 0.0) -> dict[str, ReplayStation]:
    folder.mkdir(exist_ok=True)
    return {
        name: ReplayStation(name, recording, folder, faults, sleep=lambda _: None)
        for name, faults in faults_of(devices, trial_s, seed=1).items()
    }


def close(farm: dict[str, ReplayStation]) -> None:
    for station in farm.values():
        station.store.close()


def test_sixty_four_devices_with_stragglers_and_failures_lose_nothing(tmp_path: Path) -> None:
    subjects = make_subjects(96)
    recording = record(tmp_path / "pi.parquet", subjects)
    devices = stations(tmp_path / "farm", recording, 64, trial_s=0.01)
    with Farm(devices) as farm:
        measured = farm.measure(subjects, "networks")
    assert list(measured) == [subject.key for subject in subjects]
    assert all(each.usable for each in measured.values())
    alone = ReplayStation("alone", recording, tmp_path, faults_of(1, 0.0, 0)["pi-00"])
    assert alone.measure(subjects, "networks") == measured  # a recording draws by trial: the device changes nothing
    alone.store.close()
    counted = sum(len(station.store) for station in devices.values())
    assert len(subjects) <= counted <= 2 * len(subjects)  # a straggler's subjects are copied once
    close(devices)

    devices = stations(tmp_path / "farm", recording, 64)
    with Farm(devices) as farm:
        assert farm.measure(subjects, "networks") == measured
    assert sum(len(station.store) for station in devices.values()) == counted  # resumed: nothing is measured again
    close(devices)


class Scripted:
    """A device that answers from a function."""

    def __init__(self, answer: object) -> None:
        self.answer = answer
        self.asked: list[str] = []

    def has_begun(self, subject: Subject) -> bool:
        return False

    def measure(self, subjects: Sequence[Subject], description: str) -> dict[str, Measurement]:
        self.asked += [subject.key for subject in subjects]
        if isinstance(self.answer, Exception):
            raise self.answer
        raise AssertionError("a bug of the device's own code")


@pytest.mark.parametrize(("error", "tries"), [(DeviceError("gone"), 2), (AccessError("no key fits"), 1)])
def test_a_farm_of_lost_devices_says_why(error: Exception, tries: int) -> None:
    device = Scripted(error)
    with Farm({"pi": device}) as farm, pytest.raises(DeviceError, match=f"no device .* left, 0 of 1 .*pi: {error}"):
        farm.measure(make_subjects(1), "networks")
    assert len(device.asked) == tries


def test_a_bug_is_raised_and_a_farm_needs_a_device() -> None:
    with Farm({"pi": Scripted(None)}) as farm, pytest.raises(AssertionError, match="a bug"):
        farm.measure(make_subjects(1), "networks")
    with pytest.raises(UserError, match="at least one device"):
        Farm({})


def test_an_idle_device_copies_what_a_straggler_is_at() -> None:
    sharing = Sharing(("slow", "fast"), ["a", "b"])
    assert sharing.take("slow", 0.0) == ("a",)
    assert sharing.take("fast", 0.0) == ("b",)
    assert sharing.result("fast", "b", usable=True)
    sharing.ended("fast", 10.0)
    assert sharing.take("fast", 14.0) == ()  # not overdue yet
    assert sharing.take("fast", 15.1) == ("a",)
    assert sharing.result("fast", "a", usable=True)
    assert sharing.is_done
    sharing.ended("fast", 25.0)
    assert not sharing.result("slow", "a", usable=True)  # too late: the first result stands
    assert sharing.take("fast", 100.0) == ()


def test_a_failure_needs_a_second_device_and_who_was_wrong_is_set_aside() -> None:
    sharing = Sharing(("wrong", "right"), ["a", "b", "c"])
    for key in ("a", "b"):
        assert sharing.take("wrong", 0.0) == (key,)
        assert not sharing.result("wrong", key, usable=False)
        sharing.ended("wrong", 1.0)
        assert sharing.take("right", 1.0) == (key,)
        assert sharing.result("right", key, usable=True)
        sharing.ended("right", 2.0)
    assert list(sharing.quarantined) == ["wrong"]
    assert sharing.take("wrong", 3.0) == ()
    assert sharing.take("right", 3.0) == ("c",)
    assert sharing.result("right", "c", usable=False)  # nobody is left to ask
    assert sharing.is_done


def test_what_a_device_has_begun_is_finished_there_unless_it_is_lost() -> None:
    sharing = Sharing(("one", "two"), ["a", "b", "c"], {"two": ["b"], "one": ["b"]})
    assert sharing.take("one", 0.0) == ("a",)
    assert sharing.take("two", 0.0) == ("b",)
    sharing.lost("two", "gone")
    sharing.lost("one", "gone", for_good=True)
    assert sharing.take("one", 0.0) == ()
    assert sharing.take("two", 0.0) == ("a",)
    sharing.lost("two", "gone")
    assert sharing.is_stuck
    assert sharing.quarantined == {"one": "gone", "two": "gone"}
