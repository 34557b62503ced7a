"""Deploying: look at the device, choose, download, send, install, look again. Doing it twice does it once."""

from __future__ import annotations

import posixpath
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hwloop.devices.provisioning.catalog import DEFAULT_RUNTIMES, parse_wanted, requirements_for
from hwloop.devices.provisioning.lock import Lock
from hwloop.devices.provisioning.remote import run_on_board
from hwloop.devices.provisioning.target import Target
from hwloop.devices.provisioning.wheelhouse import Wheelhouse, default_cache
from hwloop.devices.session import AgentSession
from hwloop.devices.transports import Transport
from hwloop.errors import AgentError, ProtocolError
from hwloop.progress import Progress
from hwloop_agent.protocol import clean_text

SESSION = "provisioning"
STATE_S = 60.0
# Emulated boards and SD cards take minutes for what a laptop does in seconds.
INSTALL_S = 1800.0
REMOVE_S = 300.0
OK = "ok"


@dataclass(frozen=True)
class Installed:
    """What the last deployment left on a device.

    Attributes:
        digest: its identity, see `Lock.digest`; `wanted`: what was asked for; `packages`: version by package.
    """

    digest: str
    wanted: tuple[str, ...]
    packages: Mapping[str, str]

    def to_json(self) -> dict[str, Any]:
        """Return it as the device keeps it."""
        return {"digest": self.digest, "wanted": list(self.wanted), "packages": dict(self.packages)}

    @classmethod
    def from_json(cls, data: object) -> Installed | None:
        """Read what a device answered; None when it has nothing or something else."""
        if not isinstance(data, dict):
            return None
        digest, wanted, packages = data.get("digest"), data.get("wanted"), data.get("packages")
        if not (isinstance(digest, str) and isinstance(wanted, list) and isinstance(packages, dict)):
            return None
        shown = {clean_text(str(name), 80): clean_text(str(version), 80) for name, version in packages.items()}
        return cls(clean_text(digest, 64), tuple(clean_text(str(text), 80) for text in wanted), shown)


@dataclass(frozen=True)
class Deployment:
    """How a device stands.

    Attributes:
        worker_python: its interpreter that has the runtimes; None where nothing is installed.
        installed: what is there; None where nothing is.
        facts: the agent's, with each runtime tried in a process of its own.
        changed: whether this call installed something.
    """

    worker_python: str | None
    installed: Installed | None
    facts: Mapping[str, Any]
    changed: bool

    @property
    def runtimes(self) -> dict[str, str]:
        """What became of each runtime there that was asked for: `ok`, or why it does not work."""
        wanted = parse_wanted(self.installed.wanted) if self.installed is not None else ()
        return {one.runtime: self.outcome(one.runtime) for one in wanted}

    @property
    def broken(self) -> dict[str, str]:
        """The runtimes that were asked for and do not work."""
        return {name: text for name, text in self.runtimes.items() if text != OK}

    def version(self, runtime: str) -> str:
        """Return the version that the runtime tells of itself there; "" when it does not."""
        return clean_text(str(self._found(runtime).get("version", "")), 40)

    def outcome(self, runtime: str) -> str:
        """Return `ok`, or how importing or first running the runtime ended there."""
        found = self._found(runtime)
        if not found:
            return "the agent does not know this runtime"
        for step in ("import", "run"):
            said = str(found.get(step, OK))
            if said != OK:
                reason = clean_text(str(found.get("reason", "")), 300)
                return f"{clean_text(said, 40)}: {reason}" if reason else clean_text(said, 40)
        return OK

    def _found(self, runtime: str) -> Mapping[str, Any]:
        runtimes = self.facts.get("runtimes")
        found = runtimes.get(runtime) if isinstance(runtimes, dict) else None
        return found if isinstance(found, dict) else {}


def deploy(
    transport: Transport,
    runtimes: Sequence[str],
    progress: Progress,
    *,
    root: str | None = None,
    cache: Path | None = None,
    refresh: bool = False,
    wait_s: float = 60.0,
) -> Deployment:
    """Bring the agent and runtimes to a device; what is there already is only checked.

    Args:
        transport: the way to the device; closed at the end.
        runtimes: `onnxruntime`, `litert==2.3.0`…; with none, what the last deployment asked for, else onnxruntime.
        progress: told what is done.
        root: the agent's directory on the device, absolute; None for the transport's own choice.
        cache: of wheels on this machine; None for `default_cache()`.
        refresh: look for newer versions although a download is cached.
        wait_s: how long to wait for a session of somebody else to end.

    Raises:
        UserError: a runtime is unknown or has no wheels for this device; one line.
        DeviceBusyError: somebody measures there for all of `wait_s`.
        DeviceError: the device or the way to it failed.
    """
    wanted = parse_wanted(runtimes)
    try:
        base = root if root is not None else transport.default_root()
        before = _read_state(transport, base)
        if not wanted:
            wanted = parse_wanted(before.wanted if before is not None else DEFAULT_RUNTIMES)
        found = _Visit(transport, base, progress, wait_s)
        facts = found.facts(before is not None)
        target = Target.from_facts(facts)
        requirements = [text for one in wanted for text in requirements_for(one, target)]
        lock, folder = _fetch(Wheelhouse(cache or default_cache()), requirements, target, refresh, progress)
        state = Installed(lock.digest(target), tuple(one.text for one in wanted), lock.versions)
        if before == state:
            return Deployment(worker_python(base), before, facts, False)
        after = _install(transport, base, lock, folder, state, progress)
        return Deployment(worker_python(base), after, found.facts(True), True)
    finally:
        transport.close()


def worker_python(root: str) -> str:
    """Return the path of the interpreter with the runtimes below the agent's directory."""
    return posixpath.join(root, "venv", "bin", "python")


def status(transport: Transport, progress: Progress, *, root: str | None = None, wait_s: float = 60.0) -> Deployment:
    """Return how a device stands, without changing it but for the agent's own file.

    Raises:
        DeviceError: the device or the way to it failed, or is in use.
    """
    try:
        base = root if root is not None else transport.default_root()
        installed = _read_state(transport, base)
        facts = _Visit(transport, base, progress, wait_s).facts(installed is not None)
        return Deployment(worker_python(base) if installed is not None else None, installed, facts, False)
    finally:
        transport.close()


def remove(transport: Transport, *, root: str | None = None) -> None:
    """Remove agent, runtimes and sessions from a device, without a trace.

    Raises:
        AgentError: a session is running there, or something cannot be removed.
        DeviceError: the device or the way to it failed.
    """
    try:
        base = root if root is not None else transport.default_root()
        run_on_board(transport, base, "remove", {}, limit_s=REMOVE_S)
    finally:
        transport.close()


@dataclass(frozen=True)
class _Visit:
    """Sessions with the agent, only to look."""

    transport: Transport
    root: str
    progress: Progress
    wait_s: float

    def facts(self, installed: bool) -> dict[str, Any]:
        python = worker_python(self.root) if installed else None
        with AgentSession.open(
            self.transport,
            session_id=SESSION,
            root=self.root,
            worker_python=python,
            wait_s=self.wait_s,
            on_wait=self.progress.say,
        ) as session:
            return session.facts()


def _read_state(transport: Transport, root: str) -> Installed | None:
    return Installed.from_json(run_on_board(transport, root, "state", {}, limit_s=STATE_S).get("state"))


def _fetch(
    house: Wheelhouse, requirements: Sequence[str], target: Target, refresh: bool, progress: Progress
) -> tuple[Lock, Path]:
    with progress.step(f"wheels for {target.name}", 1) as step:
        lock, folder = house.fetch(requirements, target, refresh=refresh)
        step.advance(1, f"{len(lock.wheels)} wheels")
    return lock, folder


def _install(
    transport: Transport, root: str, lock: Lock, folder: Path, state: Installed, progress: Progress
) -> Installed:
    free = transport.free_bytes(root)
    if free is not None and free < lock.space:
        raise AgentError(
            f"{transport.name} has {free >> 20} MiB left at {root}; the runtimes need about {lock.space >> 20} MiB"
        )
    house = posixpath.join(root, "wheelhouse", state.digest)
    wheels = (*lock.wheels, lock.installer)
    with progress.step(f"sending {lock.size / 1e6:.0f} MB to {transport.name}", len(wheels)) as step:
        for wheel in wheels:
            path = posixpath.join(house, wheel.filename)
            if transport.size(path) != wheel.size:  # the hash is checked there, by pip
                transport.put((folder / wheel.filename).read_bytes(), path)
            step.advance(1, wheel.name)
    transport.put(lock.requirements.encode(), posixpath.join(house, "requirements.txt"))
    spec = {
        "digest": state.digest,
        "installer": lock.installer.filename,
        "installer_sha256": lock.installer.sha256,
        "limit_s": INSTALL_S,
        "state": state.to_json(),
    }
    with progress.step(f"installing on {transport.name}", 1) as step:
        answer = run_on_board(
            transport, root, "install", spec, limit_s=INSTALL_S + STATE_S, on_step=lambda text: step.advance(0, text)
        )
        step.advance(1)
    after = Installed.from_json(answer.get("state"))
    if after != state:
        raise ProtocolError(f"{transport.name} has installed something else than it was sent; deploy again")
    return state
