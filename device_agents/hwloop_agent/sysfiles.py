"""The one place where `/proc` and `/sys` are read, with roots that tests replace by trees of other boards.

A reader answers None for whatever it cannot know; nothing here turns "unreadable" into a number.
"""

from __future__ import annotations

import os
from typing import Dict, List, NamedTuple, Optional, Sequence

MAX_FILE_BYTES = 1 << 16


class SysFiles(NamedTuple):
    """Where `/proc`, `/sys` and the rest of the system are, and the only folders that programs are started from."""

    proc_root: str = "/proc"
    sys_root: str = "/sys"
    fs_root: str = "/"
    tool_dirs: Sequence[str] = ("/usr/bin", "/usr/sbin", "/bin", "/usr/local/bin", "/opt/vc/bin")

    def proc(self, *parts: str) -> str:
        """Return a path below `/proc`."""
        return os.path.join(self.proc_root, *parts)

    def sys(self, *parts: str) -> str:
        """Return a path below `/sys`."""
        return os.path.join(self.sys_root, *parts)

    def fs(self, *parts: str) -> str:
        """Return a path below `/`."""
        return os.path.join(self.fs_root, *parts)

    def tool(self, name: str) -> Optional[str]:
        """Return the path of a program, None where it is not installed."""
        paths = (os.path.join(folder, name) for folder in self.tool_dirs)
        return next((path for path in paths if os.access(path, os.X_OK)), None)


def read_text(path: str) -> Optional[str]:
    """Return the file's text without surrounding space; None when it is absent, unreadable or not text."""
    try:
        with open(path, "rb") as file:
            return file.read(MAX_FILE_BYTES).decode("utf-8").strip().strip("\0")
    except (OSError, UnicodeDecodeError):
        return None


def read_number(path: str, base: int = 10) -> Optional[int]:
    """Return the whole number that the file holds; None when there is none."""
    text = read_text(path)
    try:
        return int(text, base) if text else None
    except ValueError:
        return None


def names_in(path: str, prefix: str) -> List[str]:
    """Return the sorted names in the directory that start with `prefix`; none when it cannot be read."""
    try:
        return sorted(name for name in os.listdir(path) if name.startswith(prefix))
    except OSError:
        return []


def read_fields(path: str, separator: Optional[str] = None) -> Dict[str, str]:
    """Return lines of the form `name value…` (or `name: value…`) as a mapping; empty when the file cannot be read."""
    fields: Dict[str, str] = {}
    for line in (read_text(path) or "").splitlines():
        parts = line.split(separator, 1)
        if len(parts) == 2:
            fields[parts[0].strip()] = parts[1].strip()
    return fields


def read_kibibytes(fields: Dict[str, str], name: str) -> Optional[int]:
    """Return in bytes what `/proc` prints as `name: 123 kB`; None when it is not there."""
    words = fields.get(name, "").split()
    try:
        return int(words[0]) * 1024 if words else None
    except ValueError:
        return None


def parse_cpu_list(text: str) -> List[int]:
    """Read the kernel's spelling of a set of CPUs: `0-3,6` and also `0 1 2`; what is not a number is left out."""
    cpus: List[int] = []
    for part in text.replace(",", " ").split():
        first, _, last = part.partition("-")
        if first.isdigit() and (not last or last.isdigit()):
            cpus.extend(range(int(first), int(last or first) + 1))
    return cpus
