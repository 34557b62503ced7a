"""Is this processor real? What the interpreter was built for, and whether something translates it for another one.

Under qemu-user `uname` says what the programs expect, and times mean nothing. The kernel knows better than the
emulator lets programs see: `/proc/self/exe` is rewritten to the translated program, while `/proc/thread-self/exe` still
is the emulator, a program for the machine's own processor.
"""

from __future__ import annotations

import sys
from typing import Any, Dict, Optional

from hwloop_agent.sysfiles import SysFiles, read_fields

ELF_MAGIC = b"\x7fELF"
ELF_MACHINES = {
    3: "i686",
    8: "mips",
    21: "ppc64le",
    22: "s390x",
    40: "armv7l",
    62: "x86_64",
    183: "aarch64",
    243: "riscv64",
    258: "loongarch64",
}
ARM = ("armv7l", "aarch64")
X86 = ("i686", "x86_64")
# What qemu calls a processor that it translates in software; under KVM it shows the host's name.
TRANSLATED = "QEMU TCG CPU"


def elf_machine(path: str) -> Optional[str]:
    """Return the processor that an executable is for, as `uname -m` names it; None when it cannot be told."""
    try:
        with open(path, "rb") as file:
            header = file.read(20)
    except OSError:
        return None
    if len(header) < 20 or header[:4] != ELF_MAGIC:
        return None
    order = "big" if header[5] == 2 else "little"
    return ELF_MACHINES.get(header[18] | header[19] << 8 if order == "little" else header[19] | header[18] << 8)


def read_processor(files: SysFiles, executable: str = sys.executable) -> Dict[str, Any]:
    """Return what the interpreter is built for and whether that is emulated.

    `python_arch`: the interpreter's own processor (a 32-bit system on a 64-bit kernel says another than `uname`), None
    when it cannot be told; `emulated`: True with evidence, which `emulation` names, else False.
    """
    built_for = elf_machine(executable)
    translator = elf_machine(files.proc("thread-self", "exe"))
    fields = read_fields(files.proc("cpuinfo"), ":")
    evidence = ""
    if built_for is not None and translator is not None and built_for != translator:
        evidence = f"a program for {translator} translates {built_for}"
    elif built_for in ARM and "vendor_id" in fields:
        evidence = f"{built_for} on a processor of {fields['vendor_id']}"
    elif built_for in X86 and "CPU implementer" in fields:
        evidence = f"{built_for} on an Arm processor"
    elif TRANSLATED in fields.get("model name", ""):
        evidence = f"the processor calls itself {fields['model name']}"
    return {"python_arch": built_for, "emulated": bool(evidence), "emulation": evidence}
