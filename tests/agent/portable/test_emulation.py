"""Whether the processor is real."""

from __future__ import annotations

import struct
import sys
import tempfile
import unittest
from pathlib import Path

from hwloop_agent.emulation import elf_machine, read_processor
from hwloop_agent.sysfiles import SysFiles

X86, ARM, AARCH64 = 62, 40, 183


def header(machine: int, big: bool = False) -> bytes:
    order, name = (">HH", b"\x02") if big else ("<HH", b"\x01")
    return b"\x7fELF\x02" + name + bytes(10) + struct.pack(order, 2, machine)


class Emulation(unittest.TestCase):
    def setUp(self) -> None:
        self.folder = tempfile.TemporaryDirectory()
        self.addCleanup(self.folder.cleanup)

    def write(self, name: str, data: bytes) -> str:
        path = Path(self.folder.name, name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        return str(path)

    def read(self, python: int, kernel_sees: int, cpuinfo: bytes = b""):
        executable = self.write("python", header(python))
        self.write("proc/thread-self/exe", header(kernel_sees))
        self.write("proc/cpuinfo", cpuinfo)
        return read_processor(SysFiles(str(Path(self.folder.name, "proc"))), executable)

    def test_a_program_for_another_processor_that_runs_this_one_is_an_emulator(self) -> None:
        found = self.read(AARCH64, X86)
        assert found["python_arch"] == "aarch64"
        assert found["emulated"]
        assert "x86_64 translates aarch64" in found["emulation"]

    def test_a_32_bit_python_on_a_64_bit_kernel_is_real(self) -> None:
        found = self.read(ARM, ARM, b"CPU implementer\t: 0x41\n")
        assert (found["python_arch"], found["emulated"], found["emulation"]) == ("armv7l", False, "")

    def test_the_kernels_own_description_is_evidence_too(self) -> None:
        assert "AuthenticAMD" in self.read(AARCH64, AARCH64, b"vendor_id\t: AuthenticAMD\n")["emulation"]
        assert self.read(X86, X86, b"CPU implementer\t: 0x41\n")["emulated"]
        assert self.read(X86, X86, b"model name\t: QEMU TCG CPU version 2.5+\n")["emulated"]
        assert not self.read(X86, X86, b"vendor_id\t: GenuineIntel\nmodel name\t: Xeon\n")["emulated"]

    def test_what_is_no_program_is_for_no_processor(self) -> None:
        assert elf_machine(self.write("a", b"#!/bin/sh\n")) is None
        assert elf_machine(self.write("b", b"")) is None
        assert elf_machine("/nowhere") is None
        assert elf_machine(self.write("c", header(22, big=True))) == "s390x"

    def test_this_machine_is_real(self) -> None:
        found = read_processor(SysFiles(), sys.executable)
        assert not found["emulated"]
        assert found["python_arch"] is not None


if __name__ == "__main__":
    unittest.main()
