"""Who is asked to leave, and who never is."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

from hwloop_agent.lease import Lease, LeaseHeldError, ask_to_leave, is_predecessor

OWNER = {"who": "ann", "host": "desk", "session": "s1", "instance": "ab12", "pid": "1", "since": "now"}

WAITS = "import signal; signal.signal(signal.SIGHUP, signal.SIG_DFL); print(flush=True); input()"


class Predecessor(unittest.TestCase):
    def test_only_the_same_session_of_the_same_host_process_is_one(self) -> None:
        assert is_predecessor(OWNER, {**OWNER, "pid": "2", "since": "later"})
        for name in ("who", "host", "session", "instance"):
            assert not is_predecessor(OWNER, {**OWNER, name: "other"}), name
        assert not is_predecessor({**OWNER, "instance": ""}, {**OWNER, "instance": ""})
        assert not is_predecessor({}, OWNER)

    def start(self, *words: str) -> subprocess.Popen:
        process = subprocess.Popen([sys.executable, "-c", WAITS, *words], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        process.stdout.readline()  # it is deaf to SIGHUP until then where these tests run under nohup
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)
        self.addCleanup(process.stdin.close)
        self.addCleanup(process.stdout.close)
        return process

    def test_a_supervisor_of_that_session_is_told_and_nothing_else_is(self) -> None:
        supervisor = self.start("serve", "--session", "s1")
        other_session = self.start("serve", "--session", "s2")
        stranger = self.start()
        for process in (other_session, stranger):
            ask_to_leave({**OWNER, "pid": str(process.pid)})
        ask_to_leave({**OWNER, "pid": str(supervisor.pid)})
        assert supervisor.wait(30) == -signal.SIGHUP
        assert other_session.poll() is None
        assert stranger.poll() is None
        for pid in ("0", "1", "-1", "x", "", "99999999"):
            ask_to_leave({**OWNER, "pid": pid})


class TheLock(unittest.TestCase):
    def test_it_is_never_taken_from_a_holder(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            path = str(Path(folder, "lease"))
            first = Lease.take(path, OWNER)
            for _ in range(2):
                try:
                    Lease.take(path, {**OWNER, "pid": str(os.getpid())}).release()
                except LeaseHeldError as held:
                    assert held.owner == OWNER  # noqa: PT017  # plain unittest, without pytest
                else:
                    self.fail("the lock was taken from its holder")
            first.release()
            Lease.take(path, OWNER).release()
