"""What a device's Python can install: the interpreter, the C library and the processor, as pip's tags. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from hwloop.errors import UserError

# The oldest C library that manylinux wheels of these Pythons are built for (PEP 599, PEP 600).
OLDEST_GLIBC = (2, 17)
OLDEST_PYTHON = (3, 8)
MACHINES = ("aarch64", "armv7l", "x86_64")
# PEP 599's name for glibc 2.17; older wheels carry it instead of the PEP 600 one.
LEGACY = "manylinux2014"


@dataclass(frozen=True)
class Target:
    """Where wheels must run.

    Attributes:
        python: major and minor version of the interpreter.
        full_version: the whole of it, `3.11.2`.
        machine: the processor that the interpreter was built for, as wheels name it.
        glibc: version of the C library.
    """

    python: tuple[int, int]
    full_version: str
    machine: str
    glibc: tuple[int, int]

    @classmethod
    def from_facts(cls, facts: Mapping[str, Any]) -> Self:
        """Read the agent's `facts`.

        Raises:
            UserError: no wheels exist for such a machine; the text says why.
        """
        version = str(facts.get("python", ""))
        match = re.match(r"(\d+)\.(\d+)", version)
        if match is None:
            raise UserError(f"the device's Python says that its version is {version!r}")
        python = (int(match[1]), int(match[2]))
        if python < OLDEST_PYTHON:
            raise UserError(f"the device has Python {version}; runtimes need 3.8 or newer")
        implementation = facts.get("python_implementation", "cpython")
        if implementation != "cpython" or facts.get("python_abiflags"):
            kind = f"{implementation} {facts.get('python_abiflags', '')}".strip()
            raise UserError(f"the device's Python is {kind}; wheels of the runtimes are for the plain CPython")
        machine = str(facts.get("python_arch") or facts.get("arch"))
        if machine not in MACHINES:
            raise UserError(f"there are no wheels for {machine} processors, only for {', '.join(MACHINES)}")
        return cls(python, version, machine, _glibc(str(facts.get("libc", ""))))

    @property
    def name(self) -> str:
        """One phrase for people."""
        return f"Python {self.python[0]}.{self.python[1]} on {self.machine} with glibc {self.glibc[0]}.{self.glibc[1]}"

    @property
    def python_version(self) -> str:
        """`3.11`."""
        return f"{self.python[0]}.{self.python[1]}"

    @property
    def platforms(self) -> tuple[str, ...]:
        """Platform tags that run there, the newest C library first: its wheels may use more of it."""
        newest = range(self.glibc[1], OLDEST_GLIBC[1] - 1, -1)
        found = [f"manylinux_{self.glibc[0]}_{minor}_{self.machine}" for minor in newest]
        return (*found, f"{LEGACY}_{self.machine}", f"linux_{self.machine}")

    @property
    def abis(self) -> tuple[str, ...]:
        """ABI tags that the interpreter loads."""
        return (f"cp{self.python[0]}{self.python[1]}", "abi3", "none")

    @property
    def markers(self) -> dict[str, str]:
        """The environment in which dependency markers hold there (PEP 508).

        pip evaluates them for the machine that downloads, so they are evaluated again with this.
        """
        return {
            "implementation_name": "cpython",
            "implementation_version": self.full_version,
            "os_name": "posix",
            "platform_machine": self.machine,
            "platform_python_implementation": "CPython",
            "platform_system": "Linux",
            "python_full_version": self.full_version,
            "python_version": self.python_version,
            "sys_platform": "linux",
            "extra": "",
        }


def _glibc(text: str) -> tuple[int, int]:
    match = re.match(r"glibc (\d+)\.(\d+)", text)
    if match is None:
        raise UserError(f"the device's C library is {text or 'not glibc'}; wheels of the runtimes are for glibc")
    found = (int(match[1]), int(match[2]))
    if found < OLDEST_GLIBC:
        raise UserError(f"the device has {text}; wheels of the runtimes need glibc 2.17 or newer")
    return found
