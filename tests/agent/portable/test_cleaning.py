"""Old sessions go, and never one with a record that no host has."""

from __future__ import annotations

import os
import tempfile
import time
import unittest
from pathlib import Path
from unittest import mock

from hwloop_agent import cleaning
from hwloop_agent.cleaning import clean_up
from hwloop_agent.sessionstore import SessionStore

RECORD = {"trial_id": "0" * 64 + ":1"}


class Cleaning(unittest.TestCase):
    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.root = folder.name
        self.sessions = Path(self.root, "sessions")

    def session(self, name: str, records: int, acked: int, days: float = 30, size: int = 100) -> None:
        store = SessionStore(self.root, name)
        for _ in range(records):
            store.store(RECORD)
        if acked:
            store.acknowledge(acked)
        store.close()
        Path(store.artifacts, "model.onnx").write_bytes(b"x" * size)
        self.age(name, days)

    def age(self, name: str, days: float) -> None:
        then = time.time() - days * 86400
        for folder, _, files in os.walk(self.sessions / name, topdown=False):
            for file in files:
                os.utime(Path(folder, file), (then, then))
            os.utime(folder, (then, then))

    def clean(self, own: str = "now") -> list:
        return clean_up(str(self.sessions), own, time.time(), time.monotonic)

    def left(self) -> list:
        return sorted(path.name for path in self.sessions.iterdir())

    def test_what_the_host_has_and_nobody_has_used_for_two_weeks_goes(self) -> None:
        self.session("old", 3, 3)
        self.session("empty", 0, 0)
        self.session("unacked", 3, 2)
        self.session("unasked", 1, 0)
        self.session("recent", 3, 3, days=13)
        self.session("now", 3, 3)
        assert sorted(self.clean()) == ["empty", "old"]
        assert self.left() == ["now", "recent", "unacked", "unasked"]
        assert self.clean() == []

    def test_a_damaged_journal_is_nobodys_to_throw_away(self) -> None:
        for name in ("torn", "cut", "forged"):
            self.session(name, 2, 2)
        with (self.sessions / "torn/journal.ndjson").open("ab") as file:
            file.write(b'{"half')
        (self.sessions / "cut/journal.ndjson.cut-7").write_bytes(b"x")
        (self.sessions / "forged/acked").write_bytes(b'{"seq": "9"}')
        for name in ("torn", "cut", "forged"):
            self.age(name, 30)
        assert self.clean() == []

    def test_above_the_cap_the_longest_unused_go_first(self) -> None:
        for number in range(4):
            self.session(f"s{number}", 1, 0 if number == 0 else 1, days=10 - number, size=1000)
        with mock.patch.object(cleaning, "MAX_BYTES", 4000):
            assert self.clean() == ["s1"]
        with mock.patch.object(cleaning, "MAX_BYTES", 0):
            assert self.clean(own="s3") == ["s2"]
        assert self.left() == ["s0", "s3"]

    def test_links_and_other_names_are_left_alone(self) -> None:
        self.session("old", 1, 1)
        outside = Path(self.root, "outside")
        (self.sessions / "old").rename(outside)
        (self.sessions / "link").symlink_to(outside)
        (self.sessions / ".hidden").mkdir()
        (self.sessions / "file").write_text("x")
        assert self.clean() == []
        assert (outside / "journal.ndjson").exists()
        assert clean_up(str(self.sessions / "none"), "now", 0.0, time.monotonic) == []
