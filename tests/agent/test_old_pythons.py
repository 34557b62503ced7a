"""The agent runs on boards with Python 3.8: its files parse as that, and its portable tests run under real ones."""

import ast
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import hwloop_agent

PACKAGE = Path(hwloop_agent.__file__).parent
PORTABLE = Path(__file__).parent / "portable"
SOURCES = sorted(path.relative_to(PACKAGE).as_posix() for path in PACKAGE.rglob("*.py"))


# What the worker's side imports, when it is asked to.
RUNTIMES = {
    "runtimes/inputs.py": {"numpy"},
    "runtimes/onnxruntime_runtime.py": {"numpy", "onnxruntime"},
    "runtimes/torch_runtime.py": {"numpy", "torch"},
    "runtimes/tvm_runtime.py": {"numpy", "tvm_ffi"},
}


@pytest.mark.parametrize("name", SOURCES)
def test_every_agent_file_is_python_3_8(name: str) -> None:
    ast.parse((PACKAGE / name).read_text(), feature_version=(3, 8))


@pytest.mark.parametrize("name", SOURCES)
def test_the_supervisors_side_imports_only_the_standard_library(name: str) -> None:
    known = set(sys.stdlib_module_names) | {"hwloop_agent"} | RUNTIMES.get(name, set())
    for node in ast.walk(ast.parse((PACKAGE / name).read_text())):
        modules = []
        if isinstance(node, ast.Import):
            modules = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            modules = [node.module or ""]
        assert {module.split(".")[0] for module in modules} <= known


@pytest.mark.parametrize("python", ["python3.8", "python3.13"])
def test_the_portable_tests_pass_under(python: str) -> None:
    interpreter = shutil.which(python)
    answers = interpreter and subprocess.run([interpreter, "--version"], capture_output=True).returncode == 0
    if not interpreter or not answers:
        pytest.skip(f"no working {python} on PATH")
    environment = dict(os.environ, PYTHONPATH=str(PACKAGE.parent), PYTHONDONTWRITEBYTECODE="1")
    done = subprocess.run(
        [interpreter, "-W", "error::ResourceWarning", "-m", "unittest", "discover", "-s", str(PORTABLE)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    assert "OK" in done.stderr
