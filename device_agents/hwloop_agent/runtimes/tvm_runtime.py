"""TVM's runtime on the CPU: a compiled library in Relax's virtual machine, called as `vm["main"](*inputs)`.

Of the package apache-tvm only its runtime library is loaded, by tvm_ffi: importing `tvm` would load the compiler too,
400 MB and seconds that have nothing to do with running a network. `tvm.runtime.vm.VirtualMachine` makes the same calls.
"""

from __future__ import annotations

import ctypes
import os
import platform
import struct
import sys
import time
from functools import partial
from importlib import util
from typing import Any, Callable, Dict, List

from hwloop_agent.runtimes import InvalidArtifactError, Output, Runtime, UnsupportedError

# What the host tells about the library besides its bytes; nothing here changes how it is run.
OPTIONS = frozenset(["schedule", "schedules", "source", "target", "trials", "tvm"])
RUNTIME_LIBRARY = "libtvm_runtime.so"
ALIGNMENT = 64  # bytes; TVM's kAllocAlignment
CPU, POOLED = 1, 2  # DLPack's number of the device, TVM's of the allocator
ELF_HEADER = struct.Struct("<4sBBB9xHHIQQQIHHHHHH")
ELF_MACHINES = {62: "x86_64", 183: "aarch64"}
AFTER = "after"


class TvmRuntime(Runtime):
    """See `Runtime`; the options describe the artifact and are recorded."""

    name = "tvm"
    _calls: Any = None

    def prepare(self, options: Dict[str, Any]) -> None:
        """See `Runtime.prepare`."""
        unknown = sorted(set(options) - OPTIONS)
        if unknown:
            raise UnsupportedError("tvm has no option " + ", ".join(unknown))

    def import_(self) -> None:
        """See `Runtime.import_`."""
        found = util.find_spec("tvm")
        if found is None or not found.origin:
            raise ModuleNotFoundError("apache-tvm is not installed", name="tvm")
        library = os.path.join(os.path.dirname(found.origin), "lib", RUNTIME_LIBRARY)
        if not os.path.exists(library):
            raise ModuleNotFoundError(f"this apache-tvm has no {RUNTIME_LIBRARY}", name="tvm")
        self._ffi = _import_ffi()
        ctypes.CDLL(library, ctypes.RTLD_GLOBAL)

        # Not before the runtime: this imports numpy, whose import belongs to this phase too.
        import numpy

        from hwloop_agent.runtimes import inputs

        self._numpy: Any = numpy
        self._draw, self._describe = inputs.draw, inputs.describe

    def version(self) -> str:
        """See `Runtime.version`."""
        from importlib import metadata

        return metadata.version("apache-tvm")

    def load(self, path: str, inputs: List[Dict[str, Any]], threads: int, options: Dict[str, Any]) -> None:
        """See `Runtime.load`."""
        check_library(path)
        os.environ["TVM_NUM_THREADS"] = str(threads)
        # The worker is pinned already; TVM would pin its threads to cores that the worker may not use.
        os.environ["TVM_BIND_THREADS"] = "0"
        try:
            library = self._ffi.load_module(path)
            machine = library["vm_load_executable"]()
            machine["vm_initialization"](CPU, 0, POOLED)
            names = [
                machine["get_function_param_name"]("main", at) for at in range(machine["get_function_arity"]("main"))
            ]
        except (RuntimeError, AttributeError) as error:
            text = " ".join(str(error).split())[:300]
            raise (UnsupportedError if "version" in text else InvalidArtifactError)(text) from error
        given = {one["name"]: one for one in inputs}
        if set(names) != set(given):
            raise UnsupportedError(f"the library's inputs are {sorted(names)}, the spec feeds {sorted(given)}")
        self._feed = [self._ffi.from_dlpack(self._aligned(self._draw(given[name]))) for name in names]
        self._held = library, machine  # a function does not keep alive what it runs on
        self._main = machine["main"]
        if self._calls is not None:
            machine["set_instrument"](self._ffi.convert(self._note))
        self._settings = {"threads": threads, "bind_threads": False, "allocator": "pooled", **options}

    def _aligned(self, array: Any) -> Any:
        """Return a copy where TVM's code may load whole vectors: it relies on that, and numpy does not see to it."""
        room = self._numpy.empty(array.nbytes + ALIGNMENT, "uint8")
        start = -room.ctypes.data % ALIGNMENT
        copy = room[start : start + array.nbytes].view(array.dtype).reshape(array.shape)
        copy[...] = array
        return copy

    def settings(self) -> Dict[str, Any]:
        """See `Runtime.settings`."""
        return self._settings

    def runner(self) -> Callable[[], object]:
        """See `Runtime.runner`."""
        return partial(self._main, *self._feed)

    def outputs(self) -> List[Output]:
        """See `Runtime.outputs`."""
        result = self._main(*self._feed)
        values = [result] if isinstance(result, self._ffi.Tensor) else list(result)
        arrays = [(f"output_{at}", self._numpy.from_dlpack(value)) for at, value in enumerate(values)]
        return [output for output in (self._describe(name, array) for name, array in arrays) if output is not None]

    def start_profile(self, folder: str) -> None:
        """See `Runtime.start_profile`."""
        self._calls = []

    def _note(self, function: Any, name: str, before: bool, result: Any, *arguments: Any) -> int:
        """TVM calls this before and after each function that the virtual machine runs."""
        now = time.perf_counter_ns()
        if before:
            self._calls.append([name, now])
        else:
            self._calls[-1] = (self._calls[-1][0], now - self._calls[-1][1])
        return 0

    def profile(self) -> Dict[str, Any]:
        """See `Runtime.profile`; what only allocates, or gives a tensor another shape, is no operator."""
        self._calls.clear()
        self._main(*self._feed)
        inference = len(self._calls)
        runs = 10
        for _ in range(runs):
            self._main(*self._feed)
        rows = []
        for at in range(inference):
            name = self._calls[at][0]
            times = sorted(self._calls[run * inference + at][1] for run in range(1, runs + 1))
            if not name.startswith("vm.builtin."):
                rows.append({"name": name, "op": name.rstrip("0123456789_"), "ns": times[runs // 2], "calls": 1})
        return {"method": "tvm vm instrument", "runs": runs, "rows": rows}


def _import_ffi() -> Any:
    """Import tvm_ffi without torch, which it would import wherever it is installed, for conversions not needed here."""
    absent = "torch" not in sys.modules
    if absent:
        sys.modules["torch"] = None  # type: ignore[assignment]  # None: an import of it fails
    try:
        import tvm_ffi

        return tvm_ffi
    finally:
        if absent:
            del sys.modules["torch"]


def check_library(path: str) -> None:
    """Look at a shared library before the dynamic loader does, which dies of a damaged one.

    Raises:
        InvalidArtifactError: it is no ELF file, or not all of one.
        UnsupportedError: it is for another kind of processor.
    """
    with open(path, "rb") as file:
        head = file.read(ELF_HEADER.size)
        size = file.seek(0, os.SEEK_END)
    if len(head) < ELF_HEADER.size or not head.startswith(b"\x7fELF\x02\x01"):
        raise InvalidArtifactError("is not a 64-bit ELF library")
    fields = ELF_HEADER.unpack(head)
    machine, sections, entry, count = fields[5], fields[9], fields[14], fields[15]
    if sections + entry * count > size:
        raise InvalidArtifactError("is a part of an ELF library")
    wanted = ELF_MACHINES.get(machine, str(machine))
    if wanted != platform.machine():
        raise UnsupportedError(f"the library is for {wanted}, this machine is {platform.machine()}")
