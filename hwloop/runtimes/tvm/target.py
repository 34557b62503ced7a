"""For which processor TVM compiles: LLVM's triple and processor name, and what its vector unit holds."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from hwloop.errors import UserError
from hwloop.runtimes.tvm.extra import load
from hwloop.runtimes.tvm.schedule import VectorUnit

TRIPLES = {
    "x86_64": "x86_64-linux-gnu",
    "aarch64": "aarch64-linux-gnu",
    "armv7l": "armv7l-linux-gnueabihf",
}
"""By the name of the machine that `uname` gives."""
X86_LEVELS = (
    ("x86-64-v4", frozenset({"avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"})),
    ("x86-64-v3", frozenset({"avx2", "fma", "bmi2", "f16c", "movbe"})),
    ("x86-64-v2", frozenset({"sse4_2", "popcnt", "cx16"})),
)
"""The levels of the x86-64 psABI, and flags of /proc/cpuinfo that tell them."""
ARM_PARTS = {
    "0xd03": "cortex-a53",
    "0xd04": "cortex-a35",
    "0xd05": "cortex-a55",
    "0xd07": "cortex-a57",
    "0xd08": "cortex-a72",
    "0xd09": "cortex-a73",
    "0xd0a": "cortex-a75",
    "0xd0b": "cortex-a76",
    "0xd0c": "neoverse-n1",
    "0xd40": "neoverse-v1",
    "0xd41": "cortex-a78",
    "0xd42": "cortex-a78ae",
    "0xd49": "neoverse-n2",
}
"""Parts of the implementer Arm (0x41), as the Main ID Register and /proc/cpuinfo give them."""
ARM = "0x41"
GENERIC = {"x86_64": "x86-64", "aarch64": "generic", "armv7l": "generic"}
"""What runs on every processor of the kind."""
WIDE_X86 = ("avx512f", 16, 32), ("avx2", 8, 16), ("avx", 8, 16)
"""Feature, lanes of float32, registers."""


@dataclass(frozen=True)
class TvmTarget:
    """A processor to compile for.

    Attributes:
        arch: as `uname -m` says it.
        cpu: LLVM's name of the processor.
        unit: its vector registers.
        host: whether it is this machine, whose own linker fits and where schedules can be timed.
    """

    arch: str
    cpu: str
    unit: VectorUnit
    host: bool = False

    @property
    def triple(self) -> str:
        """LLVM's name of the platform."""
        return TRIPLES[self.arch]

    @property
    def text(self) -> str:
        """For people and records: "x86_64-linux-gnu znver3"."""
        return f"{self.triple} {self.cpu}"

    def to_tvm(self) -> Any:
        """The `tvm.target.Target`."""
        return load().target.Target({"kind": "llvm", "mtriple": self.triple, "mcpu": self.cpu})


@cache
def host_target() -> TvmTarget:
    """This machine, as LLVM knows it.

    Raises:
        UserError: TVM is not installed, or there is no target for this machine.
    """
    codegen = load("tvm.target.codegen")
    return _target(platform.machine(), str(codegen.llvm_get_system_cpu()), host=True)


def target_from_facts(facts: Mapping[str, Any]) -> TvmTarget:
    """The target for a board.

    Args:
        facts: what its agent says; uses `python_arch` or `arch`, and of the processor `cpu_flags` (x86),
            `cpu_implementer` and `cpu_part` (Arm). Without these the code is for any processor of the kind.

    Raises:
        UserError: no target for this kind of processor.
    """
    arch = str(facts.get("python_arch") or facts.get("arch"))
    return _target(arch, processor(arch, facts))


def processor(arch: str, facts: Mapping[str, Any]) -> str:
    """LLVM's name for a board's processor, or the generic one."""
    if arch == "x86_64":
        flags = frozenset(str(facts.get("cpu_flags") or "").split())
        return next((level for level, needed in X86_LEVELS if needed <= flags), GENERIC[arch])
    if facts.get("cpu_implementer") == ARM:
        return ARM_PARTS.get(str(facts.get("cpu_part")), GENERIC.get(arch, ""))
    return GENERIC.get(arch, "")


def _target(arch: str, cpu: str, *, host: bool = False) -> TvmTarget:
    if arch not in TRIPLES:
        raise UserError(
            f"hwloop compiles with TVM for {', '.join(TRIPLES)}, not for {arch}; measure with another runtime"
        )
    return TvmTarget(arch, cpu, _vector_unit(arch, cpu), host)


def _vector_unit(arch: str, cpu: str) -> VectorUnit:
    if arch == "aarch64":
        return VectorUnit(lanes=4, registers=32)
    if arch != "x86_64":
        return VectorUnit(lanes=4, registers=16)
    codegen = load("tvm.target.codegen")
    with load().target.Target({"kind": "llvm", "mtriple": TRIPLES[arch], "mcpu": cpu}):
        features = codegen.llvm_get_cpu_features()
    for feature, lanes, registers in WIDE_X86:
        if feature in features:
            return VectorUnit(lanes, registers)
    return VectorUnit(lanes=4, registers=16)
