"""Runs under every Python from 3.8: reads its own memory on a real /proc."""

# Old Pythons have no pytest here, so these are unittest's assertions, and the code is what 3.8 can do.
# ruff: noqa: PT009

import os
import tempfile
import unittest

from hwloop_agent import memory
from hwloop_agent.sysfiles import SysFiles

SIZE = 64 << 20


def touch():
    held = bytearray(SIZE)
    held[:: os.sysconf("SC_PAGE_SIZE")] = b"x" * len(held[:: os.sysconf("SC_PAGE_SIZE")])
    return held


class MemoryTest(unittest.TestCase):
    def check(self, meter):
        """A phase's peak sees what the phase touched and freed, and the next phase does not."""
        self.assertTrue(meter.start())
        quiet = meter.peak()
        meter.start()
        held = touch()
        self.assertGreaterEqual(len(held), SIZE)
        if meter.method != "VmHWM":
            __import__("time").sleep(0.1)
        loud = meter.peak()
        del held
        meter.start()
        after = meter.peak()
        self.assertGreater(loud, quiet + SIZE * 0.9)
        self.assertLess(after, quiet + SIZE * 0.5)

    def test_the_high_water_mark(self):
        meter = memory.HighWaterMeter(SysFiles())
        if not meter.start():
            self.skipTest("this kernel does not let /proc/self/clear_refs be written")
        self.check(meter)

    def test_the_sampling_helper(self):
        meter = memory.SamplingMeter(SysFiles())
        self.check(meter)
        meter.pause()
        self.assertGreater(meter.peak(), 0)
        meter.close()

    def test_the_helper_is_used_where_the_mark_cannot_be_reset(self):
        with tempfile.TemporaryDirectory() as folder:
            meter = memory.open_meter(SysFiles(proc_root=folder))
            self.assertIsInstance(meter, memory.SamplingMeter)
            meter.start()
            self.assertIsNone(meter.peak())
            meter.close()
        self.assertIsNone(memory.resident_bytes(SysFiles(proc_root="/nowhere")))


if __name__ == "__main__":
    unittest.main()
