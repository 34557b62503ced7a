"""The pinned set of wheels of one deployment: names, hashes, and which wheels are needed at all. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, Self

from packaging.markers import Marker
from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import InvalidWheelFilename, canonicalize_name, parse_wheel_filename
from packaging.version import Version

from hwloop.devices.provisioning.target import Target
from hwloop_agent.protocol import canonical_json

HEX = re.compile(r"[0-9a-f]{64}\Z")
# Wheels grow by about this much when they are unpacked and compiled.
UNPACKED_FACTOR = 5
INSTALLER = "pip"


@dataclass(frozen=True, order=True)
class Wheel:
    """One file.

    Attributes:
        filename: as the index named it; `sha256` of its content; `size` in bytes.
    """

    filename: str
    sha256: str
    size: int

    def __post_init__(self) -> None:
        """Check that the name is a wheel's and the hash is one: both become paths and arguments on a device."""
        if not HEX.match(self.sha256):
            raise ValueError(f"{self.sha256!r} is not a SHA-256")
        try:
            parse_wheel_filename(self.filename)
        except InvalidWheelFilename as error:
            raise ValueError(f"{self.filename!r} is not the name of a wheel") from error

    @property
    def name(self) -> str:
        """The package, normalised."""
        return str(parse_wheel_filename(self.filename)[0])

    @property
    def version(self) -> str:
        """The package's version."""
        return str(parse_wheel_filename(self.filename)[1])


@dataclass(frozen=True)
class Lock:
    """Everything that one deployment installs.

    Attributes:
        wheels: sorted; `installer`: pip itself, which runs out of its own wheel and is not installed.
    """

    wheels: tuple[Wheel, ...]
    installer: Wheel

    @property
    def requirements(self) -> str:
        """A requirements file in which every package has its version and its hash."""
        lines = [f"{wheel.name}=={wheel.version} --hash=sha256:{wheel.sha256}\n" for wheel in sorted(self.wheels)]
        return "".join(lines)

    @property
    def versions(self) -> dict[str, str]:
        """Version by package."""
        return {wheel.name: wheel.version for wheel in sorted(self.wheels)}

    @property
    def size(self) -> int:
        """Bytes to send."""
        return self.installer.size + sum(wheel.size for wheel in self.wheels)

    @property
    def space(self) -> int:
        """Bytes that the device needs for the wheels and what they unpack to, roughly."""
        return self.size * (1 + UNPACKED_FACTOR)

    def digest(self, target: Target) -> str:
        """Return the identity of a deployment of this on `target`: changes with any file and with the Python."""
        return sha256(f"{target.full_version} {target.machine}\n{self.requirements}".encode()).hexdigest()

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON-able data."""
        return {"installer": vars(self.installer), "wheels": [vars(wheel) for wheel in sorted(self.wheels)]}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """Read what `to_json` wrote. Raises `ValueError`, `KeyError` or `TypeError` for anything else."""
        return cls(tuple(Wheel(**wheel) for wheel in data["wheels"]), Wheel(**data["installer"]))


def question(requirements: Iterable[str], target: Target) -> str:
    """Return the identity of a question to the index: the same one has the same answer while it is cached."""
    asked = [sorted(requirements), target.python_version, list(target.platforms), list(target.abis)]
    return sha256(canonical_json({"question": asked})).hexdigest()


def name_of(requirement: str) -> str:
    """Return the normalised name of the package that a requirement asks for."""
    return str(canonicalize_name(Requirement(requirement).name))


def needed(
    roots: Iterable[str], metadata: Mapping[str, Iterable[str]], target: Target, versions: Mapping[str, Version]
) -> tuple[set[str], set[str]]:
    """Follow dependencies from `roots` with the target's markers.

    Args:
        roots: requirements.
        metadata: `Requires-Dist` of each package at hand, by normalised name.
        target: where the markers are evaluated.
        versions: of the packages at hand.

    Returns:
        The packages that are needed, and requirements that nothing at hand meets.
    """
    found: set[str] = set()
    missing: set[str] = set()
    waiting = [(requirement, "") for requirement in roots]
    while waiting:
        text, extra = waiting.pop()
        try:
            requirement = Requirement(text)
        except InvalidRequirement:
            continue  # somebody's old metadata; the installation on the device checks again
        if requirement.marker is not None and not _holds(requirement.marker, target, extra):
            continue
        name = str(canonicalize_name(requirement.name))
        if name not in metadata or not requirement.specifier.contains(versions[name], prereleases=True):
            requirement.marker = None
            missing.add(str(requirement))
            continue
        fresh = {"", *requirement.extras} if name not in found else set(requirement.extras)
        found.add(name)
        waiting += [(line, wanted) for wanted in fresh for line in metadata[name] if line != text]
    return found, missing


def _holds(marker: Marker, target: Target, extra: str) -> bool:
    return marker.evaluate({**target.markers, "extra": extra})
