"""What is known of a kind of board before it is asked: which sensors it has, what they are called, where it throttles.

The profiles are `device_agents/boards/*.toml`. The agent has no TOML reader (Python 3.8), so the host checks them and
packs them into the agent's file as `boards.json`; a user's own profile comes with `hello`. The board is recognised
here, from its device tree, so that a session needs no question more.
"""

from __future__ import annotations

import fnmatch
import json
import os
from typing import Any, Dict, List, NamedTuple, Optional, Sequence, Tuple

from hwloop_agent.sysfiles import SysFiles, read_text

# Kinds of throttle evidence that a board can be asked to have before its silence counts.
EVIDENCE = ("pi_firmware", "under_voltage", "over_current", "cooling", "thermal_count")
MAX_TEXT = 200
MAX_LIST = 64


class Profile(NamedTuple):
    """A kind of board.

    Attributes:
        name: of the profile; `title`: of the boards, for people.
        compatible: patterns of device-tree `compatible` entries; `model`: of its model; `arch`: of `uname -m`.
        cpu_zones: parts of the types of the thermal zones that are the CPU's.
        throttle_c: where it begins to throttle, in °C; None where that is not known.
        needs: the evidence that must be readable before "not throttled" is believed, of `EVIDENCE`.
        rails: labels of the power rails whose sum is what the board (or its module) draws.
        period_ms: of the power sensor, where the kernel does not tell (`update_interval`).
    """

    name: str = "generic-linux"
    title: str = ""
    compatible: Sequence[str] = ()
    model: Sequence[str] = ()
    arch: Sequence[str] = ()
    cpu_zones: Sequence[str] = ()
    throttle_c: Optional[float] = None
    needs: Sequence[str] = ()
    rails: Sequence[str] = ()
    period_ms: float = 100.0


GENERIC = Profile()
TEXTS = ("name", "title")
NUMBERS = {"throttle_c": (20.0, 150.0), "period_ms": (1.0, 10_000.0)}


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and len(value) <= MAX_TEXT and value.isprintable()


def parse_profile(value: Any) -> Profile:
    """Return a profile from what the host sent.

    Raises:
        ValueError: a key is unknown or its value of the wrong kind; the text names it.
    """
    if not isinstance(value, dict) or not set(value) <= set(Profile._fields):
        raise ValueError("profile is an object with the keys {}".format(" ".join(Profile._fields)))
    found: Dict[str, Any] = {}
    for key, one in value.items():
        if key in NUMBERS:
            low, high = NUMBERS[key]
            good = isinstance(one, (int, float)) and not isinstance(one, bool) and low <= one <= high
            good = good or (one is None and key == "throttle_c")
        elif key in TEXTS:
            good = _is_text(one)
        else:
            good = isinstance(one, list) and len(one) <= MAX_LIST and all(_is_text(part) for part in one)
        if good and key == "needs":
            good = set(one) <= set(EVIDENCE)
        if not good:
            raise ValueError(f"profile.{key} is of the wrong kind")
        found[key] = tuple(one) if isinstance(one, list) else one
    return Profile(**found)


def built_in() -> List[Profile]:
    """Return the profiles that were packed into this agent; none when it runs from its sources."""
    # As `pkgutil` does it, without the half megabyte that it brings along.
    loader: Any = globals()["__loader__"]
    try:
        data = loader.get_data(os.path.join(os.path.dirname(os.path.dirname(__file__)), "boards.json"))
    except OSError:
        return []
    return [parse_profile(one) for one in json.loads(data.decode("utf-8"))]


def device_tree(files: SysFiles) -> Tuple[List[str], str]:
    """Return the board's `compatible` entries, the most specific first, and its model; ([], "") without a tree."""
    entries = (read_text(files.proc("device-tree", "compatible")) or "").split("\0")
    return [entry for entry in entries if entry], read_text(files.proc("device-tree", "model")) or ""


def _matches(text: str, patterns: Sequence[str]) -> bool:
    return any(fnmatch.fnmatchcase(text, pattern) for pattern in patterns)


def recognise(files: SysFiles, known: Sequence[Profile], arch: str = "") -> Profile:
    """Return the profile of this board: by its device tree, then by its model's name, then by its processor."""
    entries, model = device_tree(files)
    for entry in entries:
        for profile in known:
            if _matches(entry, profile.compatible):
                return profile
    for profile in known:
        if model and _matches(model, profile.model):
            return profile
    arch = arch or os.uname().machine
    return next((profile for profile in known if arch in profile.arch), GENERIC)
