"""`agent.pyz tune show|hold|restore JSON`: the frequency governor, changed only when a person asks, and put back.

What is changed is a fixed list of files: each frequency policy's `scaling_governor`. As root it is written, otherwise
through `sudo -n tee FILE`. Before anything is changed the old values go into `tuned.json` in the agent's directory.
`hold` keeps the board tuned for as long as whoever started it stays connected, then puts it back. It holds a lock on
`tuned.json`: when the file is there and nobody holds the lock, the holder died, and the next session puts the values
back. A reboot undoes governors by itself, so values of another boot are forgotten, not written.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import select
import signal
import time
from typing import Any, Callable, Dict, Iterator, List, Optional, Tuple

from hwloop_agent.protocol import FrameError, canonical_json, parse_json
from hwloop_agent.sensors.tools import ask
from hwloop_agent.sysfiles import SysFiles, names_in, read_text

NAME = "tuned.json"
GOVERNOR = "performance"
MARK = b"hwloop-board "
FOLDER = "devices/system/cpu/cpufreq"
ALLOWED = re.compile(r"devices/system/cpu/cpufreq/policy[0-9]{1,4}/scaling_governor\Z")
VALUE = re.compile(r"[a-z][a-z0-9_]{0,31}\Z")
MAX_BYTES = 1 << 16
# The host says something every few seconds; a host that is gone without a word must not leave a board tuned.
SILENCE_S = 30.0

Json = Dict[str, Any]


class TuningError(Exception):
    """What cannot be tuned or restored, in one line with the remedy."""


def plan(files: SysFiles) -> List[Json]:
    """Return the changes that tuning would make: `file` (below `/sys`), `before`, `after`.

    Raises:
        TuningError: there is no governor, or the one that is wanted does not exist.
    """
    found: List[Json] = []
    folder = files.sys(FOLDER)
    for policy in names_in(folder, "policy"):
        now = read_text(os.path.join(folder, policy, "scaling_governor"))
        if not now:
            continue
        offered = (read_text(os.path.join(folder, policy, "scaling_available_governors")) or "").split()
        if offered and GOVERNOR not in offered:
            raise TuningError(f"{policy} has no governor {GOVERNOR} (it has {', '.join(offered)})")
        found.append({"file": f"{FOLDER}/{policy}/scaling_governor", "before": now, "after": GOVERNOR})
    if not found:
        raise TuningError("this board has no frequency governor (a virtual machine, or no cpufreq driver)")
    return [change for change in found if change["before"] != change["after"]]


def write(files: SysFiles, file: str, value: str) -> None:
    """Write one of the allowed files and read it back.

    Raises:
        TuningError: it is not allowed, the system refuses, or the file does not keep the value.
    """
    if not ALLOWED.match(file) or not VALUE.match(value):
        raise TuningError(f"{file} = {value} is not among what may be changed")
    path = files.sys(*file.split("/"))
    try:
        with open(path, "w") as target:
            target.write(value)
    except PermissionError:
        good, said = ask(files, ["sudo", "-n", "tee", path], value)
        if not good:
            why = " ".join(said.split())[:120]
            raise TuningError(
                f"{path} can be changed by root only ({why}): log in as root, or let this user run `sudo -n tee {path}`"
            ) from None
    except OSError as error:
        raise TuningError(f"{path}: {error.strerror}") from None
    if read_text(path) != value:
        raise TuningError(f"{path} did not become {value}")


def _read(descriptor: int) -> Tuple[Optional[str], Json]:
    """Return the boot and the old values that a restore file names; ({}, None) when it holds none."""
    try:
        content = json.loads(os.pread(descriptor, MAX_BYTES, 0).decode("utf-8"))
        values = content["values"]
        good = all(ALLOWED.match(name) and VALUE.match(value) for name, value in values.items())
        return (str(content["boot_id"]), dict(values)) if good else (None, {})
    except (ValueError, KeyError, TypeError, AttributeError):
        return None, {}


def _put_back(files: SysFiles, values: Json) -> List[Json]:
    """Write old values back; return the changes. Raises `TuningError` after having tried them all."""
    changes: List[Json] = []
    faults: List[str] = []
    for file, value in sorted(values.items()):
        now = read_text(files.sys(*file.split("/")))
        if now == value:
            continue
        try:
            write(files, file, value)
            changes.append({"file": file, "before": now, "after": value})
        except TuningError as error:
            faults.append(str(error))
    if faults:
        raise TuningError("; ".join(faults))
    return changes


@contextlib.contextmanager
def _locked(root: str, create: bool) -> Iterator[Optional[int]]:
    """The restore file, locked; None where there is none, or somebody else holds it."""
    path = os.path.join(root, NAME)
    flags = os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW | (os.O_CREAT if create else 0)
    try:
        descriptor = os.open(path, flags, 0o600)
    except FileNotFoundError:
        yield None
        return
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            yield None
            return
        yield descriptor
    finally:
        os.close(descriptor)


def recover(root: str, files: SysFiles, boot_id: Optional[str]) -> List[Json]:
    """Put back what a holder that died has left tuned; return the changes, [] when nothing was left.

    Raises:
        TuningError: it cannot be put back; the restore file stays, so that it can be tried again.
        OSError: the restore file cannot be read.
    """
    with _locked(root, False) as descriptor:
        if descriptor is None:
            return []
        old_boot, values = _read(descriptor)
        changes = _put_back(files, values) if old_boot == str(boot_id) else []
        os.unlink(os.path.join(root, NAME))
        return changes


def hold(
    root: str,
    files: SysFiles,
    boot_id: Optional[str],
    say: Callable[[Json], None],
    wait: Callable[[], None],
) -> List[Json]:
    """Tune the board, `wait`, and put it back; return what was put back.

    Raises:
        TuningError: it cannot be tuned (nothing is left changed), somebody else holds it, or it cannot be put back.
        OSError: the restore file cannot be written.
    """
    recover(root, files, boot_id)
    changes = plan(files)
    with _locked(root, True) as descriptor:
        if descriptor is None:
            raise TuningError("this board is tuned already, by another `hwloop device tune`")
        values = {change["file"]: change["before"] for change in changes}
        content = json.dumps({"boot_id": str(boot_id), "values": values}).encode()
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, content, 0)
        os.fsync(descriptor)
        try:
            for change in changes:
                write(files, change["file"], change["after"])
            say({"held": True, "changes": changes})
            wait()
        finally:
            back = _put_back(files, values)
            os.unlink(os.path.join(root, NAME))
    return back


class _Asker:
    """Whoever asked for it, on the other end of stdin and stdout. It has to be heard every now and then."""

    def __init__(self, stdin: int, stdout: int) -> None:
        self._stdin = stdin
        self._stdout = stdout
        self._told_to_leave = False
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, self._leave)
        signal.signal(signal.SIGPIPE, signal.SIG_IGN)

    def _leave(self, *_: object) -> None:
        self._told_to_leave = True

    def say(self, event: Json) -> None:
        """Print one event. Nobody there is no error: the board is to be put back all the same."""
        with contextlib.suppress(OSError):
            os.write(self._stdout, MARK + canonical_json(event) + b"\n")

    def wait(self) -> None:
        """Return when it says `q`, hangs up, is silent for `SILENCE_S`, or a signal asks to leave."""
        poller = select.poll()
        poller.register(self._stdin, select.POLLIN)
        until = time.monotonic() + SILENCE_S
        while not self._told_to_leave and time.monotonic() < until:
            if poller.poll(500):
                heard = os.read(self._stdin, 4096)
                if not heard or b"q" in heard:
                    return
                until = time.monotonic() + SILENCE_S


def main(words: List[str]) -> int:
    """Carry out `COMMAND JSON`; return the exit code. Events go to stdout as `provision`'s do."""
    if len(words) != 2 or words[0] not in ("show", "hold", "restore"):
        return 2
    os.umask(0o077)
    asker = _Asker(0, os.dup(1))
    os.dup2(2, 1)
    files = SysFiles()
    boot_id = read_text(files.proc("sys/kernel/random/boot_id"))
    try:
        root = str(parse_json(words[1].encode())["root"])
        os.makedirs(root, mode=0o700, exist_ok=True)
        left = os.path.join(root, NAME)
        if words[0] == "show":
            last: Json = {"done": True, "changes": plan(files), "tuned": os.path.exists(left)}
        elif words[0] == "hold":
            last = {"done": True, "changes": hold(root, files, boot_id, asker.say, asker.wait)}
        else:
            last = {"done": True, "changes": recover(root, files, boot_id)}
            if os.path.exists(left):
                last = {"failed": "a `hwloop device tune` that still runs holds the board tuned: end that one"}
    except TuningError as error:
        last = {"failed": str(error)}
    except (FrameError, KeyError, TypeError) as error:
        last = {"failed": f"the host's request cannot be read: {error}"}
    except OSError as error:
        last = {"failed": str(error)}
    asker.say(last)
    return 0
