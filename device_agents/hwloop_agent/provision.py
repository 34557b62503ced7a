"""`agent.pyz provision COMMAND JSON`: makes the workers' environment out of wheels that lie here, or removes it.

Nothing outside the agent's directory is touched, no network is used, nothing needs root. Each line on stdout is
`hwloop-board ` and a JSON object; the last one has `done` or `failed`. While it works it prints at least every few
seconds, and when nobody reads any more it stops and takes along what it started.

Below the agent's directory: `wheelhouse/<digest>/` is what the host sends, `venvs/<digest>/` an environment made out of
it, `venv` a link to the one in use, which is switched in one step when a new one is whole.
"""

from __future__ import annotations

import contextlib
import errno
import os
import select
import shutil
import signal
import subprocess
import sys
import threading
import time
from typing import Any, Dict, List, NoReturn, Optional

from hwloop_agent.digest import hex_digest_of
from hwloop_agent.jobs import label_of
from hwloop_agent.lease import Lease, LeaseHeldError
from hwloop_agent.protocol import FrameError, Json, canonical_json, clean_text, parse_json
from hwloop_agent.sensors.tuning import TuningError, recover
from hwloop_agent.sysfiles import SysFiles, read_text
from hwloop_agent.workerprocess import signal_name

MARK = b"hwloop-board "
STATE = "hwloop.json"
MAX_STATE_BYTES = 1 << 16
# All that the agent makes in its directory, which may be somebody's own: nothing else is removed. The lease goes last.
OWN = (
    "agents",
    "sessions",
    "venv",
    "venv.new",
    "venvs",
    "wheelhouse",
    "pace.json",
    "pace.json.tmp",
    "thermal.json",
    "thermal.json.tmp",
    "tuned.json",
    "lease",
)
ALIVE_S = 5.0
TAIL_CHARACTERS = 1500
NAME_DIGITS = 16
PIP_OPTIONS = (
    "--no-index",
    "--require-hashes",
    "--only-binary=:all:",
    "--no-cache-dir",
    "--no-compile",
    "--no-input",
    "--no-warn-script-location",
    "--disable-pip-version-check",
    "--progress-bar=off",
    "--quiet",
)
VENV_HINT = "this Python has no venv module (Debian: apt-get install python3-venv)"


class ProvisionError(Exception):
    """What cannot be done, in one line."""


class Host:
    """Whoever started this: told what happens, and missed when it goes."""

    def __init__(self, stdin: int, stdout: int) -> None:
        self._stdin = stdin
        self._stdout = stdout
        self._lock = threading.Lock()
        self._children: List[int] = []

    def say(self, event: Json) -> None:
        """Print one event; leave when nobody reads."""
        line = MARK + canonical_json(event) + b"\n"
        try:
            with self._lock:
                while line:
                    line = line[os.write(self._stdout, line) :]
        except OSError:
            self._leave()

    def _leave(self) -> NoReturn:
        for group in self._children:
            with contextlib.suppress(OSError):
                os.killpg(group, signal.SIGKILL)
        os._exit(1)

    def stay_alive(self) -> None:
        """For a thread of its own: print now and then, and leave when the host hangs up."""
        poller = select.poll()
        poller.register(self._stdin, select.POLLIN)
        while True:
            if poller.poll(ALIVE_S * 1000) and not os.read(self._stdin, 4096):
                self._leave()
            self.say({"alive": True})

    def run(self, argv: List[str], until: float, what: str, environment: Dict[str, str]) -> None:
        """Run a program in a group of its own, until it ends or `until` passes on the monotonic clock.

        Raises:
            ProvisionError: it failed, with the end of what it printed, or took too long.
        """
        process = subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            env=environment,
        )
        self._children.append(process.pid)
        try:
            output, _ = process.communicate(timeout=max(until - time.monotonic(), 1.0))
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
            raise ProvisionError(f"{what} took too long") from None
        finally:
            self._children.remove(process.pid)
        if process.returncode:
            code = process.returncode
            how = signal_name(-code) if code < 0 else f"code {code}"
            text = " ".join(clean_text(output.decode("utf-8", "replace"), TAIL_CHARACTERS).split())
            raise ProvisionError(VENV_HINT if "No module named venv" in text else f"{what} ended with {how}: {text}")


def tool_environment(environment: os._Environ[str], scratch: str) -> Dict[str, str]:
    """Return the environment of venv and pip: no settings of this user's, temporary files in `scratch`."""
    hidden = ("PIP_", "PYTHON", "VIRTUAL_ENV")
    kept = {name: value for name, value in environment.items() if not name.startswith(hidden)}
    kept.update(PIP_CONFIG_FILE=os.devnull, TMPDIR=scratch, PYTHONNOUSERSITE="1", LC_ALL="C.UTF-8")
    return kept


def read_state(root: str) -> Optional[Json]:
    """Return what the host wrote about the environment in use; None when there is none that could work."""
    try:
        with open(os.path.join(root, "venv", STATE), "rb") as file:
            state = parse_json(file.read(MAX_STATE_BYTES))
    except (OSError, FrameError):
        return None
    python = os.path.join(root, "venv", "bin", "python")
    return state if isinstance(state, dict) and os.access(python, os.X_OK) else None


def install(root: str, spec: Json, host: Host) -> Optional[Json]:
    """Make an environment out of the wheels that were sent, and put it to use; return its state.

    Raises:
        ProvisionError: it cannot be made; the environment in use stays.
        OSError: the disk is full, for example.
    """
    name = str(spec["digest"])[:NAME_DIGITS]
    if len(name) != NAME_DIGITS or not name.isalnum():
        raise ProvisionError("a digest is 64 hex digits")
    house = os.path.join(root, "wheelhouse", str(spec["digest"]))
    target = os.path.join(root, "venvs", name)
    if not os.path.exists(os.path.join(target, STATE)):
        shutil.rmtree(target, ignore_errors=True)  # an interrupted attempt
        _make(target, house, spec, host)
    host.say({"step": "switching over"})
    _point(os.path.join(root, "venv"), os.path.join("venvs", name))
    shutil.rmtree(os.path.join(root, "wheelhouse"), ignore_errors=True)
    for other in os.listdir(os.path.join(root, "venvs")):
        if other != name:
            shutil.rmtree(os.path.join(root, "venvs", other), ignore_errors=True)
    return read_state(root)


def _make(target: str, house: str, spec: Json, host: Host) -> None:
    until = time.monotonic() + float(spec["limit_s"])
    installer = os.path.join(house, os.path.basename(str(spec["installer"])))
    _check_installer(installer, str(spec["installer_sha256"]))
    scratch = os.path.join(house, "tmp")
    for folder in (scratch, os.path.dirname(target)):
        os.makedirs(folder, mode=0o700, exist_ok=True)
    settings = tool_environment(os.environ, scratch)
    host.say({"step": "making the environment"})
    make = [sys.executable, "-I", "-m", "venv", "--without-pip", target]
    host.run(make, until, "making the virtual environment", settings)
    host.say({"step": "installing"})
    # pip runs out of its own wheel: boards often have no ensurepip, and this pip is the pinned one.
    argv = [os.path.join(target, "bin", "python"), "-I", os.path.join(installer, "pip"), "install", *PIP_OPTIONS]
    argv += ["--find-links", house, "--requirement", os.path.join(house, "requirements.txt")]
    host.run(argv, until, "pip", settings)
    host.say({"step": "compiling"})
    # Workers never write byte code, so it is written once, here, on all cores. A file that does not compile stays as
    # it is: wheels carry templates and tests for other Pythons.
    compile_all = [os.path.join(target, "bin", "python"), "-I", "-m", "compileall", "-q", "-j", "0"]
    with contextlib.suppress(ProvisionError):
        host.run([*compile_all, os.path.join(target, "lib")], until, "compiling", settings)
    _write(os.path.join(target, STATE), canonical_json(spec["state"]))


def _check_installer(path: str, sha256: str) -> None:
    """Raise `ProvisionError` when pip's own wheel is not the one that was sent; pip checks all others."""
    with open(path, "rb") as file:
        found = hex_digest_of(file.fileno())
    if found != sha256:
        os.unlink(path)
        raise ProvisionError(f"{os.path.basename(path)} did not arrive whole; deploy again")


def _write(path: str, data: bytes) -> None:
    with open(path + ".new", "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    os.replace(path + ".new", path)


def _point(link: str, target: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.unlink(link + ".new")
    os.symlink(target, link + ".new")
    os.replace(link + ".new", link)


def _untune(root: str) -> None:
    """Put back a governor that was left tuned. Raises `ProvisionError`: the file that knows how must stay then."""
    files = SysFiles()
    try:
        recover(root, files, read_text(files.proc("sys/kernel/random/boot_id")))
    except TuningError as error:
        raise ProvisionError(str(error)) from None


def remove(root: str) -> None:
    """Remove all that hwloop has made here; what others put beside it stays.

    Raises:
        OSError: something cannot be removed.
    """
    for name in OWN:
        path = os.path.join(root, name)
        if os.path.isdir(path) and not os.path.islink(path):
            shutil.rmtree(path)
        elif os.path.lexists(path):
            os.unlink(path)
    parent = os.path.dirname(root)
    with contextlib.suppress(OSError):  # not empty, or not ours
        os.rmdir(root)
        if os.path.basename(parent) == ".cache":
            os.rmdir(parent)


def carry_out(command: str, root: str, spec: Json, host: Host) -> Json:
    """Do one command; return its last event. All but `state` need the device's lease.

    Raises:
        ProvisionError: it cannot be done.
        OSError: the system refuses.
    """
    if command == "state":
        return {"done": True, "state": read_state(root)}
    owner = {name: clean_text(str(spec.get(name, "?")), 80) for name in ("who", "host")}
    owner.update(pid=str(os.getpid()), since=label_of(time.time()), session="provisioning")
    try:
        lease = Lease.take(os.path.join(root, "lease"), owner)
    except LeaseHeldError as held:
        raise ProvisionError(str(held)) from None
    try:
        if command == "remove":
            _untune(root)
            remove(root)
            return {"done": True}
        return {"done": True, "state": install(root, spec, host)}
    finally:
        lease.release()


def main(words: List[str]) -> int:
    """Carry out `COMMAND JSON`; return the exit code."""
    if len(words) != 2 or words[0] not in ("state", "install", "remove"):
        return 2
    os.umask(0o077)
    host = Host(0, os.dup(1))
    os.dup2(2, 1)
    threading.Thread(target=host.stay_alive, daemon=True).start()
    try:
        spec: Any = parse_json(words[1].encode())
        last = carry_out(words[0], str(spec["root"]), spec, host)
    except ProvisionError as error:
        last = {"failed": str(error)}
    except (FrameError, KeyError, TypeError) as error:
        last = {"failed": f"the host's request cannot be read: {error}"}
    except OSError as error:
        last = {"failed": f"{error}{': the disk is full' if error.errno == errno.ENOSPC else ''}"}
    host.say(last)
    os._exit(0)  # the thread may be in the middle of a wait
