"""The one place that imports what only the extra `graphs` brings: torch-geometric and scikit-image."""

from __future__ import annotations

from functools import cache
from importlib import import_module
from typing import Any

from hwloop.errors import UserError

REMEDY = "install the extra: pip install 'hwloop[graphs]'"


@cache
def load(module: str) -> Any:
    """Import a module of the extra, such as "torch_geometric.data".

    Raises:
        UserError: it is not installed, or does not import; the text says how to get it.
    """
    try:
        return import_module(module)
    except (ImportError, OSError, RuntimeError) as error:
        raise UserError(f"{module.partition('.')[0]} cannot be used here ({error}); {REMEDY}") from error
