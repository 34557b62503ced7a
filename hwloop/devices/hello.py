"""What an agent says about itself when a session opens."""

from __future__ import annotations

import posixpath
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from hwloop.errors import ProtocolError
from hwloop_agent import protocol


@dataclass(frozen=True)
class InFlight:
    """A trial that an agent had begun and that nobody has a record of yet.

    Attributes:
        trial_id: of the trial.
        boot_id: of the boot that it began in; None where the kernel does not tell.
        pid: of the supervisor that ran it.
        phase: the last one that was heard of; "" where none was.
    """

    trial_id: str
    boot_id: str | None
    pid: int
    phase: str = ""


@dataclass(frozen=True)
class Hello:
    """What the agent says about itself when a session opens.

    Attributes:
        agent_sha256: hash of the agent's file, so that what answers is what was sent.
        version: the agent's version; `python`: its interpreter's; `worker_python`: path of the workers' interpreter.
        pid: of the supervisor on the device.
        boot_id: changes when the device reboots; None where the kernel does not tell.
        mono_ns: the device's monotonic clock.
        artifacts: the session's artifact directory on the device.
        cpus: the CPUs that the agent may use.
        last_seq: of the session's journal on the device; `cut_bytes`: of a damaged tail that opening it set aside.
        interrupted: the trial that an earlier supervisor of this session died in, or the whole board; None: none.
        installed: versions of the runtimes in the workers' environment, by name, as far as file names tell them.
    """

    agent_sha256: str
    version: str
    python: str
    worker_python: str
    pid: int
    boot_id: str | None
    mono_ns: int
    artifacts: str
    cpus: tuple[int, ...]
    last_seq: int
    cut_bytes: int
    interrupted: InFlight | None = None
    installed: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def from_json(cls, body: Mapping[str, Any]) -> Self:
        """Read the body of a `hello`.

        Raises:
            ProtocolError: something is missing or of the wrong kind.
        """
        journal = body.get("journal")
        try:
            interrupted = _interrupted(body.get("interrupted"))
            installed = {str(name): str(version) for name, version in (body.get("installed") or {}).items()}
            if not isinstance(journal, dict) or not posixpath.isabs(body["artifacts"]):
                raise TypeError("journal or artifacts")
            return cls(
                agent_sha256=str(body["agent_sha256"]),
                version=str(body["version"]),
                python=str(body["python"]),
                worker_python=str(body["worker_python"]),
                pid=int(body["pid"]),
                boot_id=None if body["boot_id"] is None else str(body["boot_id"]),
                mono_ns=int(body["mono_ns"]),
                artifacts=str(body["artifacts"]),
                cpus=tuple(int(cpu) for cpu in body["cpus"]),
                last_seq=int(journal["last_seq"]),
                cut_bytes=int(journal["cut_bytes"]),
                interrupted=interrupted,
                installed=installed,
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ProtocolError(f"the agent's hello lacks {error}") from error


def _interrupted(found: Any) -> InFlight | None:
    if found is None:
        return None
    trial_id, boot_id = found["trial_id"], found["boot_id"]
    if not isinstance(trial_id, str) or not protocol.TRIAL_ID.match(trial_id):
        raise ValueError("a trial that was interrupted")
    return InFlight(trial_id, None if boot_id is None else str(boot_id), int(found["pid"]))
