"""Board profiles: which sensors a kind of board has. `device_agents/boards/*.toml`, and files of users.

The agent recognises its board by itself: the profiles travel inside its one file, as JSON. A profile of a user's own
stands in `devices.toml` as `board = "FILE.toml"` and goes to the agent when a session opens.
"""

from __future__ import annotations

import json
import tomllib
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

import hwloop_agent
from hwloop.errors import ConfigError

Text = Annotated[str, Field(min_length=1, max_length=200, pattern=r"^[^\x00-\x1f\x7f]+$")]
Texts = Annotated[list[Text], Field(max_length=64)]
Evidence = Literal["pi_firmware", "under_voltage", "over_current", "cooling", "thermal_count"]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Match(_Section):
    """How the board is recognised; shell patterns, `*` and `?`.

    Attributes:
        compatible: of an entry of the device tree's `compatible`; the board's most specific entry decides.
        model: of the device tree's `model`, where no entry matched.
        arch: of `uname -m`, where there is no device tree that says more.
    """

    compatible: Texts = []
    model: Texts = []
    arch: Texts = []


class Temperature(_Section):
    """Its thermometers.

    Attributes:
        cpu_zones: parts of the `type` of the thermal zones that are the CPU's, any case.
        throttle_c: where the processor begins to be slowed down, °C.
    """

    cpu_zones: Texts = []
    throttle_c: Annotated[float, Field(ge=20, le=150)] | None = None


class Throttle(_Section):
    """What must be readable before "not throttled" is believed.

    Attributes:
        needs: kinds of evidence; see `hwloop_agent.throttle`.
    """

    needs: list[Evidence] = []


class Power(_Section):
    """Its power sensors.

    Attributes:
        rails: labels of the rails whose sum is what the board, or its module, draws.
        period_ms: how often the sensor measures, where its driver does not tell.
        modes: names of its power modes, for people; the one in use is read from the board.
    """

    rails: Texts = []
    period_ms: Annotated[float, Field(ge=1, le=10_000)] = 100.0
    modes: Texts = []


class Notes(_Section):
    """For people.

    Attributes:
        text: what to know.
        sources: where it is from.
    """

    text: list[str] = []
    sources: list[str] = []


class BoardProfile(_Section):
    """One file.

    Attributes:
        title: which boards these are.
    """

    title: Text
    match: Match = Match()
    temperature: Temperature = Temperature()
    throttle: Throttle = Throttle()
    power: Power = Power()
    notes: Notes = Notes()

    def for_agent(self, name: str) -> dict[str, Any]:
        """Return what the agent needs of it (JSON); defaults are left out."""
        content: dict[str, Any] = {
            "name": name,
            "title": self.title,
            "compatible": self.match.compatible,
            "model": self.match.model,
            "arch": self.match.arch,
            "cpu_zones": self.temperature.cpu_zones,
            "throttle_c": self.temperature.throttle_c,
            "needs": self.throttle.needs,
            "rails": self.power.rails,
            "period_ms": self.power.period_ms,
        }
        return {key: value for key, value in content.items() if value not in ([], None)}


def read_profile(path: Path) -> BoardProfile:
    """Read a profile.

    Raises:
        ConfigError: it cannot be read, or has something wrong in it; one line with file, key and what is expected.
    """
    try:
        content = tomllib.loads(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"{path}: this board profile cannot be read: {error}") from error
    try:
        return BoardProfile.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"]) or "the file"
        raise ConfigError(f"{path}: {key}: {first['msg']}, not {_shown(first['input'])}") from None


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "…"


def profiles_folder() -> Path:
    """Return the folder of hwloop's own profiles: inside the agent's package in a wheel, else beside it."""
    package = Path(hwloop_agent.__file__).parent
    inside = package / "boards"
    return inside if inside.is_dir() else package.parent / "boards"


@cache
def built_in() -> dict[str, BoardProfile]:
    """Return the profiles that come with hwloop, by name.

    Raises:
        ConfigError: see `read_profile`.
    """
    return {path.stem: read_profile(path) for path in sorted(profiles_folder().glob("*.toml"))}


def find_profile(name: str) -> dict[str, Any]:
    """Return a profile as the agent takes it: one of hwloop's own, or a file.

    Args:
        name: of a profile of hwloop's, or the path of a file that ends in `.toml`.

    Raises:
        ConfigError: there is no such profile, or it has something wrong in it.
    """
    if name.endswith(".toml"):
        path = Path(name)
        return read_profile(path).for_agent(path.stem)
    if name not in built_in():
        raise ConfigError(f"there is no board profile {name!r} (known: {', '.join(built_in())}, or a FILE.toml)")
    return built_in()[name].for_agent(name)


def packed() -> bytes:
    """Return the profiles as they travel in the agent's file; the same bytes wherever they are packed."""
    content = [profile.for_agent(name) for name, profile in built_in().items()]
    return json.dumps(content, sort_keys=True, separators=(",", ":")).encode()
