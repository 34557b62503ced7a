"""Which packages a runtime is, on which machine; what cannot work is refused before any download. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from packaging.version import InvalidVersion, Version

from hwloop.devices.provisioning.target import Target
from hwloop.errors import UserError

KNOWN_RUNTIMES = ("litert", "onnxruntime", "torch", "tvm")
DEFAULT_RUNTIMES = ("onnxruntime",)

# Packages that people name when they mean a runtime.
PACKAGE_RUNTIMES = {
    "ai-edge-litert": "litert",
    "tflite": "litert",
    "tflite-runtime": "litert",
    "apache-tvm": "tvm",
}
WANTED = re.compile(r"([a-z][a-z0-9-]*)(?:==([A-Za-z0-9][A-Za-z0-9.+!]*))?\Z")
CPU_TORCH = "torch<2.11"
NUMPY_2_TORCH = Version("2.3")  # older ones were built against numpy 1
SIXTY_FOUR_BITS = ("aarch64", "x86_64")


@dataclass(frozen=True, order=True)
class Wanted:
    """One runtime that a device shall have.

    Attributes:
        runtime: one of `KNOWN_RUNTIMES`.
        version: of its package; "" for the newest that runs there.
        package: asked for by name; "" for the one that fits.
    """

    runtime: str
    version: str = ""
    package: str = ""

    @property
    def text(self) -> str:
        """As `parse_wanted` reads it."""
        return (self.package or self.runtime) + (f"=={self.version}" if self.version else "")


def parse_wanted(texts: Iterable[str]) -> tuple[Wanted, ...]:
    """Read `onnxruntime` or `onnxruntime==1.23.2`, sorted by runtime.

    Raises:
        UserError: a text is not of this form, names no known runtime, or names one twice.
    """
    found: dict[str, Wanted] = {}
    for text in texts:
        match = WANTED.match(text.strip().lower().replace("_", "-"))
        if match is None:
            raise UserError(f"{text!r} is not a runtime; write NAME or NAME==VERSION, for example onnxruntime==1.23.2")
        name, version = match[1], match[2] or ""
        if version and not _is_version(version):
            raise UserError(f"{version!r} is not a version; write {name} or, for example, {name}==1.2.3")
        runtime = PACKAGE_RUNTIMES.get(name, name)
        if runtime not in KNOWN_RUNTIMES:
            raise UserError(f"there is no runtime {name} (known: {', '.join(KNOWN_RUNTIMES)})")
        if runtime in found:
            raise UserError(f"{runtime} is asked for twice: {found[runtime].text} and {text}")
        package = name if name.endswith(("-litert", "-runtime")) else ""
        found[runtime] = Wanted(runtime, version, package)
    return tuple(sorted(found.values()))


def _is_version(text: str) -> bool:
    try:
        Version(text)
    except InvalidVersion:
        return False
    return True


def requirements_for(wanted: Wanted, target: Target) -> tuple[str, ...]:
    """Return what pip must be asked for, so that `wanted` runs on `target`.

    Raises:
        UserError: nobody builds it for such a machine; one line that says what would do.
    """
    if wanted.runtime == "litert":
        package, more = _litert(wanted, target)
    else:
        _check(wanted, target)
        package = {"tvm": "apache-tvm"}.get(wanted.runtime, wanted.runtime)
        more = _torch(wanted, target) if wanted.runtime == "torch" else ()
    return (package + (f"=={wanted.version}" if wanted.version else ""), *more)


def _check(wanted: Wanted, target: Target) -> None:
    if target.machine not in SIXTY_FOUR_BITS:
        raise _unsupported(wanted, target, "it needs a 64-bit system; litert has wheels for 32-bit ones")
    if wanted.runtime == "tvm" and target.python < (3, 10):
        raise _unsupported(wanted, target, "apache-tvm needs Python 3.10 or newer")
    if wanted.runtime == "tvm" and target.glibc < (2, 27):
        raise _unsupported(wanted, target, "apache-tvm needs glibc 2.27 or newer")
    if wanted.runtime == "onnxruntime" and target.glibc < (2, 17):
        raise _unsupported(wanted, target, "onnxruntime needs glibc 2.17 or newer")


def _torch(wanted: Wanted, target: Target) -> tuple[str, ...]:
    """What torch is asked for with: the agent feeds it through numpy, which its wheels do not ask for.

    Who names no version does not want the gigabytes of CUDA that the index' newer wheels need on Arm as well.
    """
    numpy = "numpy<2" if wanted.version and Version(wanted.version) < NUMPY_2_TORCH else "numpy"
    return (numpy,) if wanted.version or target.machine != "aarch64" else (CPU_TORCH, numpy)


def _litert(wanted: Wanted, target: Target) -> tuple[str, tuple[str, ...]]:
    """ai-edge-litert where it has wheels, else its predecessor with the same interface."""
    has_litert = target.machine in SIXTY_FOUR_BITS and target.python >= (3, 9)
    has_tflite = target.python <= (3, 11)
    package = wanted.package or ("ai-edge-litert" if has_litert else "tflite-runtime")
    if package == "ai-edge-litert" and not has_litert:
        raise _unsupported(wanted, target, "ai-edge-litert needs Python 3.9 and 64 bits; ask for tflite-runtime")
    if package == "tflite-runtime" and not has_tflite:
        remedy = "ask for litert" if has_litert else "only Python 3.11 and older have one on 32-bit systems"
        raise _unsupported(wanted, target, f"tflite-runtime ends with Python 3.11; {remedy}")
    # tflite-runtime was built against numpy 1 and dies on import beside numpy 2.
    return package, ("numpy<2",) if package == "tflite-runtime" else ()


def _unsupported(wanted: Wanted, target: Target, why: str) -> UserError:
    return UserError(f"{wanted.text} has no wheel for {target.name}: {why}")
