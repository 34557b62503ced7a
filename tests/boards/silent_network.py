"""Run by `test_dead_peer` in a network namespace of its own: a board whose packets are all dropped, without a reset.

The board's sshd lives in a second namespace, at the other end of a virtual cable. To cut it, the board's address is
mapped to hardware that is not there: frames leave and nobody takes them.
"""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

from hwloop.devices import AgentSession, Deadline
from hwloop.devices.ssh.connection import Limits
from hwloop.errors import TransportError
from hwloop_agent import protocol
from tests.boards.x86 import X86Board, wait_until
from tests.devices.conftest import QUICK

NEAR, FAR, NOBODY = "02:00:00:00:00:01", "02:00:00:00:00:02", "02:00:00:00:00:99"
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


def connect_namespaces(inside: tuple[str, ...], pid: int) -> None:
    ip("link set lo up")
    ip("link set lo up", *inside)
    ip(f"link add near address {NEAR} type veth peer name far address {FAR}")
    ip(f"link set far netns {pid}")
    for name, number, other, prefix in (("near", 1, FAR, ()), ("far", 2, NEAR, inside)):
        ip(f"addr add 10.9.0.{number}/24 dev {name}", *prefix)
        ip(f"link set {name} up", *prefix)
        ip(f"neigh replace 10.9.0.{3 - number} lladdr {other} nud permanent dev {name}", *prefix)


def main(folder: Path) -> None:
    sleeper = subprocess.Popen(["unshare", "-n", "sleep", "1000"])
    own = Path("/proc/self/ns/net").readlink()
    wait_until(lambda: Path(f"/proc/{sleeper.pid}/ns/net").readlink() != own, "the second namespace")
    inside = ("nsenter", "-t", str(sleeper.pid), "-n")
    board = X86Board(folder / "board", host="10.9.0.2", launcher=inside)
    try:
        connect_namespaces(inside, sleeper.pid)
        board.start()
        drop_and_come_back(board)
    finally:
        board.cut()
        board.stop()
        sleeper.kill()
        sleeper.wait()


def drop_and_come_back(board: X86Board) -> None:
    session = AgentSession.open(board.transport(limits=LIMITS), session_id="s")
    trial_id = protocol.trial_id(SPEC)
    session.run_trial(trial_id, SPEC)
    idle = board.transport(limits=LIMITS)
    channel = idle.start(["sleep", "1000"])
    running = threading.active_count()
    ip(f"neigh replace 10.9.0.2 lladdr {NOBODY} nud permanent dev near")
    for name, ask in (("session", session.finished), ("idle channel", lambda: channel.read(1, Deadline(120)))):
        try:
            ask()
        except TransportError as error:
            print(f"{name}: {error}")
    session.close()
    channel.close(1, kill=True)
    idle.close()
    assert threading.active_count() < running
    ip(f"neigh replace 10.9.0.2 lladdr {FAR} nud permanent dev near")
    with AgentSession.open(board.transport(), session_id="s", wait_s=60) as again:
        assert [record["trial_id"] for record in again.finished()] == [trial_id]
    print("came back whole")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
