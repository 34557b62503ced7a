"""From an ONNX model to a shared library: import, simplify, put in the kernels, compile, link."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import onnx

from hwloop.errors import ModelError, UserError
from hwloop.runtimes.tvm.extra import REMEDY, load
from hwloop.runtimes.tvm.rewrite import Choose, find_sites, rewrite
from hwloop.runtimes.tvm.simplify import simplify
from hwloop.runtimes.tvm.target import TvmTarget
from hwloop.runtimes.tvm.task import Task

GLIBC = "2.28"
"""What libraries for other machines ask of the C library there: that of Debian 10, older than Python 3.8's boards."""
LINK_SECONDS = 300


def import_onnx(model: onnx.ModelProto, shapes: Mapping[str, Sequence[int]], label: str) -> Any:
    """Read an ONNX model into Relax, simplified.

    Args:
        model: opset 7 or newer.
        shapes: of every input.
        label: for errors.

    Raises:
        ModelError: TVM cannot read it; the text is TVM's own.
    """
    frontend = load("tvm.relax.frontend.onnx")
    try:
        module = frontend.from_onnx(model, shape_dict={name: list(shape) for name, shape in shapes.items()})
        return load("tvm.relax").transform.DecomposeOpsForInference()(simplify(module))
    except Exception as error:  # TVM raises whatever its converters do
        raise ModelError(f"TVM cannot read {label}: {_line(error)}") from error


def tasks_of(module: Any) -> list[Task]:
    """The tasks of a module as imported, in order; equal ones as often as they occur."""
    return [site.task for site in find_sites(module)]


def compile_module(module: Any, target: TvmTarget, choose: Choose | None, label: str) -> bytes:
    """Compile a module as imported.

    Args:
        module: of `import_onnx`.
        target: processor.
        choose: schedule of each task; None leaves convolutions and products to TVM's default schedules.
        label: for errors.

    Returns:
        A shared library that TVM's virtual machine loads; the same module and schedules give the same bytes.

    Raises:
        ModelError: TVM cannot compile it; the text is TVM's own.
        UserError: there is no linker for the target.
    """
    tvm = load()
    transform = load("tvm.relax").transform
    try:
        if choose is not None:
            module = rewrite(module, choose, target.unit.lanes)
        with target.to_tvm():
            passes = tvm.transform.Sequential(
                [
                    # Exponentials by polynomials, as vectors; otherwise every value is a call of the C library.
                    transform.FastMathTransform(),
                    transform.LegalizeOps(),
                    transform.AnnotateTIROpPattern(),
                    transform.FoldConstant(),
                    transform.FuseOps(),
                    transform.FuseTIR(),
                    transform.DeadCodeElimination(),
                ]
            )
            compiled = tvm.compile(passes(module), target.to_tvm())
    except Exception as error:  # whatever a pass of TVM or LLVM raises
        raise ModelError(f"TVM cannot compile {label}: {_line(error)}") from error
    return _library(compiled, target)


def _library(compiled: Any, target: TvmTarget) -> bytes:
    with tempfile.TemporaryDirectory(prefix="hwloop-tvm-") as folder:
        path = Path(folder) / "library.so"

        def link(output: str, objects: Sequence[str] | str, **_: Any) -> None:
            files = [objects] if isinstance(objects, str) else list(objects)
            # Without a build id and symbols the bytes do not depend on names of temporary files.
            command = [*_linker(target), "-shared", "-fPIC", "-s", "-Wl,--build-id=none", "-o", output, *files]
            done = subprocess.run(command, capture_output=True, text=True, timeout=LINK_SECONDS, check=False)
            if done.returncode:
                raise UserError(f"{command[0]} cannot link for {target.text}: {done.stderr.strip()[:300]}")

        link.object_format = "o"  # type: ignore[attr-defined]
        compiled.export_library(str(path), fcompile=link, workspace_dir=folder)
        return path.read_bytes()


def _linker(target: TvmTarget) -> list[str]:
    """The machine's own compiler for itself, zig's for all others."""
    own = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if target.host and own:
        return [own]
    try:
        load("ziglang")
    except UserError as error:
        raise UserError(f"there is no linker for {target.text}; {REMEDY}") from error
    return [sys.executable, "-m", "ziglang", "cc", "-target", f"{target.triple}.{GLIBC}"]


def _line(error: BaseException) -> str:
    """The last line of TVM's text that says something: it begins with a stack and ends with the reason."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[-1] if lines else type(error).__name__)[:300]
