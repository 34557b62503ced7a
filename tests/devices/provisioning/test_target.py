"""From the agent's facts to pip's tags."""

from __future__ import annotations

import pytest
from packaging.tags import compatible_tags, cpython_tags

from hwloop.devices.provisioning import Target
from hwloop.errors import UserError

BOOKWORM = {"python": "3.11.2", "arch": "aarch64", "python_arch": "aarch64", "libc": "glibc 2.36"}


def test_a_bookworm_board_takes_wheels_of_its_c_library_and_all_older_ones_the_newest_first():
    target = Target.from_facts(BOOKWORM)
    assert target.platforms[0] == "manylinux_2_36_aarch64"
    assert target.platforms[-3:] == ("manylinux_2_17_aarch64", "manylinux2014_aarch64", "linux_aarch64")
    assert len(target.platforms) == 22
    assert (target.python_version, target.abis) == ("3.11", ("cp311", "abi3", "none"))


def test_the_tags_are_those_that_pip_itself_would_accept_there():
    target = Target.from_facts(BOOKWORM)
    accepted = {str(tag) for tag in cpython_tags((3, 11), ["cp311"], list(target.platforms))}
    accepted |= {str(tag) for tag in compatible_tags((3, 11), "cp311", list(target.platforms))}
    for name in ("cp311-cp311-manylinux_2_28_aarch64", "cp310-abi3-manylinux2014_aarch64", "py3-none-any"):
        assert name in accepted


def test_the_interpreters_processor_counts_not_the_kernels():
    # Raspberry Pi OS 32 bit runs on a 64-bit kernel.
    target = Target.from_facts({**BOOKWORM, "arch": "aarch64", "python_arch": "armv7l"})
    assert target.machine == "armv7l"
    assert target.platforms[0].endswith("_armv7l")


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"python": "3.7.3"}, "3.8 or newer"),
        ({"libc": ""}, "not glibc"),
        ({"libc": "glibc 2.13"}, "2.17 or newer"),
        ({"python_arch": "riscv64"}, "no wheels for riscv64"),
        ({"python_implementation": "pypy"}, "plain CPython"),
        ({"python_abiflags": "t"}, "plain CPython"),
        ({"python": "nonsense"}, "nonsense"),
    ],
)
def test_a_board_that_no_wheel_fits_is_refused_in_one_line(change, text):
    with pytest.raises(UserError, match=text) as refusal:
        Target.from_facts({**BOOKWORM, **change})
    assert "\n" not in str(refusal.value)
