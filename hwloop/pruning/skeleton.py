"""A copy of a network that shares no tensor with it, made without copying the tensors that are replaced.

`copy.deepcopy` of a ResNet-56 takes several times as long as slicing it: most of that is bookkeeping for the small
dictionaries that every module has. A module that says itself how it is copied is copied that way.
"""

from __future__ import annotations

import copy
from collections import OrderedDict
from collections.abc import Mapping
from functools import lru_cache
from types import BuiltinFunctionType, FunctionType, MappingProxyType
from typing import Any

import torch
from torch import Tensor, nn

_UNCHANGEABLE = frozenset(
    {
        bool,
        bytes,
        complex,
        float,
        int,
        str,
        type(None),
        type,
        BuiltinFunctionType,
        FunctionType,
        torch.Size,
        torch.device,
        torch.dtype,
    }
)
_NOTHING: Mapping[int, nn.Module] = MappingProxyType({})
_CONTAINERS = frozenset({dict, list, set, tuple, OrderedDict})


def copied(
    module: nn.Module, replaced: Mapping[int, Tensor], substitutes: Mapping[int, nn.Module] = _NOTHING
) -> tuple[nn.Module, dict[int, Any]]:
    """Copy a network.

    Args:
        module: the network; left untouched.
        replaced: by `id` of a tensor of the network, what stands in its place in the copy.
        substitutes: by `id` of a module of the network, the module whose copy stands in its place; it may hold modules
            of the network.

    Returns:
        The copy, and a mapping from `id` of each original module to its copy.
    """
    memo: dict[int, Any] = dict(replaced)
    for owner, substitute in substitutes.items():
        memo[owner] = _module(substitute, memo)
    return _module(module, memo), memo


def _module(module: nn.Module, memo: dict[int, Any]) -> nn.Module:
    known = memo.get(id(module))
    if known is not None:
        found: nn.Module = known
        return found
    kind: Any = type(module)  # mypy takes classes of modules for unhashable
    if _copies_itself(kind):
        own: nn.Module = copy.deepcopy(module, memo)
        return own
    twin: nn.Module = kind.__new__(kind)
    memo[id(module)] = twin
    attributes = twin.__dict__
    for key, value in module.__dict__.items():
        if type(value) in _UNCHANGEABLE:
            attributes[key] = value
        elif key != "_compiled_call_impl":  # compiled for the original's shapes; nn.Module leaves it out as well
            attributes[key] = _value(value, memo)
    return twin


@lru_cache(maxsize=256)
def _copies_itself(kind: type) -> bool:
    """Return whether a class says how it is copied, in another way than every module does."""
    return any(
        name in parent.__dict__
        for parent in kind.__mro__
        if parent not in (object, nn.Module)
        for name in ("__deepcopy__", "__getstate__", "__reduce__", "__reduce_ex__")
    )


def _value(value: Any, memo: dict[int, Any]) -> Any:
    kind = type(value)
    if kind in _UNCHANGEABLE:
        return value
    if kind in _CONTAINERS and not value:
        return kind()
    known = memo.get(id(value))
    if known is not None:
        return known
    if isinstance(value, nn.Module):
        return _module(value, memo)
    if kind is nn.Parameter:
        memo[id(value)] = nn.Parameter(value.detach().clone(), value.requires_grad)
    elif kind is Tensor:
        memo[id(value)] = value.detach().clone()
    elif kind is dict or kind is OrderedDict:
        memo[id(value)] = kind([(key, _value(item, memo)) for key, item in value.items()])
    elif kind is list:
        memo[id(value)] = [_value(item, memo) for item in value]
    elif kind is tuple and all(type(item) in _UNCHANGEABLE for item in value):
        return value
    else:
        return copy.deepcopy(value, memo)
    return memo[id(value)]
