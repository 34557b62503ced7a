"""A cable between two network namespaces that can drop every packet without a word to either end.

The board's sshd lives in a second namespace, at the other end of a virtual cable. To cut it, each end's address is
mapped to hardware that is not there: frames leave and nobody takes them. Whoever makes a `SilentCable` is in a network
namespace of its own already (`unshare --net`).

Run as a program (by `test_dead_peer`), it shows that a session notices and that another one goes on.
"""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path
from types import TracebackType
from typing import Self

from hwloop.devices import AgentSession, Deadline
from hwloop.devices.ssh.connection import Limits
from hwloop.errors import TransportError
from hwloop_agent import protocol
from tests.boards.x86 import X86Board, wait_until
from tests.timing import QUICK

NEAR, FAR, NOBODY = "02:00:00:00:00:01", "02:00:00:00:00:02", "02:00:00:00:00:99"
NEAR_ADDRESS, FAR_ADDRESS = "10.9.0.1", "10.9.0.2"
LIMITS = Limits(dead_s=4.0)
SPEC = {
    "artifact": None,
    "runtime": "null",
    "options": {},
    "inputs": [],
    "threads": 1,
    "timing": QUICK,
    "replicate": 0,
}


def ip(words: str, *prefix: str) -> None:
    subprocess.run([*prefix, "ip", *words.split()], check=True)


class SilentCable:
    """Two namespaces and the cable between them; `inside` before a command line runs it at the far end."""

    def __init__(self) -> None:
        self._sleeper = subprocess.Popen(["unshare", "--net", "sleep", "infinity"])
        try:
            own = Path("/proc/self/ns/net").readlink()
            wait_until(lambda: Path(f"/proc/{self._sleeper.pid}/ns/net").readlink() != own, "the second namespace")
            self.inside = ("nsenter", "-t", str(self._sleeper.pid), "-n")
            self._lay()
        except BaseException:
            self.close()
            raise

    def _lay(self) -> None:
        ip("link set lo up")
        ip("link set lo up", *self.inside)
        ip(f"link add near address {NEAR} type veth peer name far address {FAR}")
        ip(f"link set far netns {self._sleeper.pid}")
        for name, address, prefix in (("near", NEAR_ADDRESS, ()), ("far", FAR_ADDRESS, self.inside)):
            ip(f"addr add {address}/24 dev {name}", *prefix)
            ip(f"link set {name} up", *prefix)
        self.mend()

    def _map(self, far: str, near: str) -> None:
        ip(f"neigh replace {FAR_ADDRESS} lladdr {far} nud permanent dev near")
        ip(f"neigh replace {NEAR_ADDRESS} lladdr {near} nud permanent dev far", *self.inside)

    def cut(self) -> None:
        """Drop everything, both ways."""
        self._map(NOBODY, NOBODY)

    def mend(self) -> None:
        """Carry everything."""
        self._map(FAR, NEAR)

    def close(self) -> None:
        """Take the second namespace away, and the cable with it."""
        self._sleeper.kill()
        self._sleeper.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


def main(folder: Path) -> None:
    with SilentCable() as cable:
        board = X86Board(folder / "board", host=FAR_ADDRESS, launcher=cable.inside)
        try:
            board.start()
            drop_and_come_back(board, cable)
        finally:
            board.cut()
            board.stop()


def drop_and_come_back(board: X86Board, cable: SilentCable) -> None:
    session = AgentSession.open(board.transport(limits=LIMITS), session_id="s")
    trial_id = protocol.trial_id(SPEC)
    session.run_trial(trial_id, SPEC)
    idle = board.transport(limits=LIMITS)
    channel = idle.start(["sleep", "1000"])
    running = threading.active_count()
    cable.cut()
    for name, ask in (("session", session.finished), ("idle channel", lambda: channel.read(1, Deadline(120)))):
        try:
            ask()
        except TransportError as error:
            print(f"{name}: {error}")
    session.close()
    channel.close(1, kill=True)
    idle.close()
    assert threading.active_count() < running
    cable.mend()
    with AgentSession.open(board.transport(), session_id="s", wait_s=60) as again:
        assert [record["trial_id"] for record in again.finished()] == [trial_id]
    print("came back whole")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
