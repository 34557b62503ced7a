"""Criteria by name."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, TypeVar

from hwloop.errors import UserError
from hwloop.pruning.criteria.criterion import Criterion

_C = TypeVar("_C", bound=type[Criterion])

_criteria: dict[str, type[Criterion]] = {}


def register_criterion(criterion: _C) -> _C:
    """Register a criterion class under its `name`; a decorator.

    Raises:
        ValueError: The name is taken.
    """
    if criterion.name in _criteria:
        raise ValueError(f"a criterion named {criterion.name!r} is registered already")
    _criteria[criterion.name] = criterion
    return criterion


def list_criteria() -> tuple[str, ...]:
    """Return the names that `get_criterion` knows, sorted."""
    return tuple(sorted(_criteria))


def get_criterion(name: str, settings: Mapping[str, Any] | None = None) -> Criterion:
    """Return a criterion.

    Args:
        name: one of `list_criteria()`.
        settings: of this criterion; what is not given stays at its default.

    Raises:
        UserError: An unknown name or setting, or a setting out of range.
    """
    if name not in _criteria:
        raise UserError(f"there is no criterion {name!r}; known are {', '.join(list_criteria())}")
    kind, given = _criteria[name], dict(settings or {})
    known: tuple[Any, ...] = dataclasses.fields(kind) if dataclasses.is_dataclass(kind) else ()
    unknown = sorted(given.keys() - {field.name for field in known})
    if unknown:
        there = f"it has {', '.join(field.name for field in known)}" if known else "it has none"
        raise UserError(f"criterion {name!r} has no setting {unknown[0]!r}; {there}")
    for field in known:
        if field.name in given:
            given[field.name] = _fitting(name, field.name, field.default, given[field.name])
    return kind(**given)


def _fitting(criterion: str, setting: str, default: object, given: object) -> object:
    """Return a setting as the kind of its default: files know lists and whole numbers where code has others."""
    if isinstance(default, tuple) and isinstance(given, list):
        return tuple(given)
    if isinstance(default, float) and isinstance(given, int) and not isinstance(given, bool):
        return float(given)
    if type(given) is not type(default):
        raise UserError(
            f"criterion {criterion!r}: {setting} is {given!r}, it must be like its default, which is {default!r}"
        )
    return given
