"""The few programs that sensors are asked with: a fixed path, a list of arguments, a deadline, and no shell."""

from __future__ import annotations

import subprocess
from typing import Optional, Sequence, Tuple

from hwloop_agent.sysfiles import SysFiles

DEADLINE_S = 2.0
MAX_ANSWER = 4096


def ask(files: SysFiles, argv: Sequence[str], text: str = "", deadline_s: float = DEADLINE_S) -> Tuple[bool, str]:
    """Run a program; return whether it succeeded, and what it printed (or why it could not be run)."""
    path = files.tool(argv[0])
    if path is None:
        return False, f"{argv[0]} is not installed"
    try:
        done = subprocess.run(
            [path, *argv[1:]],
            input=text.encode(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=deadline_s,
            start_new_session=True,
        )
    except subprocess.TimeoutExpired:
        return False, f"{argv[0]} took more than {deadline_s:g} s"
    except OSError as error:
        return False, f"{argv[0]}: {error.strerror}"
    said = done.stdout[:MAX_ANSWER].decode("utf-8", "replace").strip()
    return done.returncode == 0, said


def get_throttled(files: SysFiles) -> Tuple[Optional[int], str]:
    """Return the Raspberry Pi firmware's word as `vcgencmd` tells it; (None, why not) otherwise.

    Needs the group `video` on most systems. A Raspberry Pi 5 has the word nowhere else.
    """
    good, said = ask(files, ["vcgencmd", "get_throttled"])
    name, _, value = said.partition("=")
    if good and name == "throttled":
        try:
            return int(value, 16), ""
        except ValueError:
            pass
    return None, " ".join(said.split())[:100] or "vcgencmd said nothing"
