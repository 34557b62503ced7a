"""The one place that imports TVM: an extra, which takes seconds to import and is not installed everywhere."""

from __future__ import annotations

from functools import cache
from importlib import import_module
from typing import Any

from hwloop.errors import UserError

REMEDY = "install the extra: pip install 'hwloop[tvm]'"


@cache
def load(module: str = "tvm") -> Any:
    """Import a module of TVM.

    Args:
        module: full name, such as "tvm.relax".

    Raises:
        UserError: TVM is not installed, or does not import; the text says how to get it.
    """
    try:
        return import_module(module)
    except (ImportError, OSError, RuntimeError) as error:
        raise UserError(f"TVM cannot be used here ({error}); {REMEDY}") from error


def script() -> Any:
    """TVM's builder of TIR functions, where a Python loop writes straight-line code and `serial` writes a loop."""
    return load("tvm.tirx.script.builder")
