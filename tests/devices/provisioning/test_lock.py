"""The pinned set of wheels, and whose dependency markers count."""

from __future__ import annotations

import json

import pytest
from packaging.version import Version

from hwloop.devices.provisioning import Lock, Target, Wheel
from hwloop.devices.provisioning.lock import needed, question

PI = Target((3, 9), "3.9.2", "aarch64", (2, 31))
HASH = "ab" * 32
PIP = Wheel("pip-26.3-py3-none-any.whl", HASH, 10)
NUMPY = Wheel("numpy-2.0.2-cp39-cp39-manylinux_2_17_aarch64.manylinux2014_aarch64.whl", HASH, 100)
MARKUP = Wheel("Typing_Extensions-4.1-py3-none-any.whl", HASH, 1)


def test_the_requirements_file_pins_every_package_and_does_not_install_pip():
    lock = Lock((NUMPY, MARKUP), PIP)
    assert lock.requirements == (f"typing-extensions==4.1 --hash=sha256:{HASH}\nnumpy==2.0.2 --hash=sha256:{HASH}\n")
    assert lock.versions == {"numpy": "2.0.2", "typing-extensions": "4.1"}
    assert lock.size == 111


def test_a_lock_survives_json_and_its_digest_changes_with_files_and_python():
    lock = Lock((NUMPY,), PIP)
    assert Lock.from_json(json.loads(json.dumps(lock.to_json()))) == lock
    other = Lock((Wheel(NUMPY.filename, "cd" * 32, 100),), PIP)
    newer = Target((3, 9), "3.9.3", "aarch64", (2, 31))
    assert len({lock.digest(PI), other.digest(PI), lock.digest(newer)}) == 3


@pytest.mark.parametrize("name", ["../evil-1-py3-none-any.whl", "x.whl", "a-1.tar.gz", "a/b-1-py3-none-any.whl"])
def test_only_the_names_of_wheels_become_paths(name):
    with pytest.raises(ValueError, match="not the name of a wheel"):
        Wheel(name, HASH, 1)


def at_hand(metadata: dict[str, list[str]]) -> dict[str, Version]:
    return {name: Version("1.5") for name in metadata}


def test_markers_hold_for_the_device_and_not_for_this_machine():
    metadata = {
        "runtime": ["numpy", 'backport; python_version < "3.10"', 'windows-only; sys_platform == "win32"'],
        "numpy": [],
        "backport": ['deep; platform_machine == "aarch64"'],
        "leftover": [],
    }
    names, missing = needed(["runtime==1.5"], metadata, PI, at_hand(metadata))
    assert names == {"runtime", "numpy", "backport"}
    assert missing == {"deep"}
    newer = Target((3, 11), "3.11.2", "x86_64", (2, 36))
    assert needed(["runtime==1.5"], metadata, newer, at_hand(metadata)) == ({"runtime", "numpy"}, set())


def test_extras_count_when_they_are_asked_for_and_circles_end():
    metadata = {"a": ['b; extra == "more"', "c"], "b": ["a[more]"], "c": ["a"]}
    assert needed(["a"], metadata, PI, at_hand(metadata)) == ({"a", "c"}, set())
    assert needed(["a[more]"], metadata, PI, at_hand(metadata)) == ({"a", "b", "c"}, set())


def test_a_version_that_somebody_cannot_use_is_missing():
    metadata = {"a": ["b<1.5", "c>=1"], "b": [], "c": []}
    assert needed(["a"], metadata, PI, at_hand(metadata)) == ({"a", "c"}, {"b<1.5"})


def test_the_same_question_is_the_same_whatever_its_order():
    assert question(["a", "b"], PI) == question(["b", "a"], PI)
    assert question(["a"], PI) != question(["b"], PI)
    assert question(["a"], PI) != question(["a"], Target((3, 11), "3.11.2", "aarch64", (2, 31)))
