"""Networks by name: a registry with a decorator, and factories of the user's own packages."""

from __future__ import annotations

import importlib
import inspect
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar, overload

from torch import nn

from hwloop.errors import ModelError

Factory = Callable[..., nn.Module]
_F = TypeVar("_F", bound=Factory)


@dataclass(frozen=True)
class ModelDefaults:
    """What a network of the zoo was published for, and is built for when nobody says otherwise.

    Attributes:
        input_shape: (channels, height, width) of one image; the image is square.
        num_classes: outputs of the classifier.
        prunable: False for networks that are measured only.
    """

    input_shape: tuple[int, int, int] = (3, 32, 32)
    num_classes: int = 10
    prunable: bool = True


_factories: dict[str, Factory] = {}
_defaults: dict[str, ModelDefaults] = {}


@overload
def register_model(factory: _F) -> _F: ...
@overload
def register_model(*, defaults: ModelDefaults) -> Callable[[_F], _F]: ...


def register_model(factory: _F | None = None, *, defaults: ModelDefaults | None = None) -> _F | Callable[[_F], _F]:
    """Register a factory under its own function name (the style of timm).

    Args:
        factory: called with those of `num_classes`, `in_channels` and `image_size` that it has as parameters,
            and with the arguments of the study; returns an untrained network.
        defaults: of a network that was not made for CIFAR-10; then this is the decorator's only argument.

    Returns:
        The factory, unchanged.

    Raises:
        ValueError: The name is taken.
    """
    if factory is None:
        return lambda one: _register(one, defaults or ModelDefaults())
    return _register(factory, ModelDefaults())


def _register(factory: _F, defaults: ModelDefaults) -> _F:
    name = factory.__name__
    if name in _factories:
        raise ValueError(f"a model named {name!r} is registered already (by {_factories[name].__module__})")
    _factories[name], _defaults[name] = factory, defaults
    return factory


def list_models() -> tuple[str, ...]:
    """Return the names that `build_model` knows, sorted."""
    return tuple(sorted(_factories))


def model_defaults(name: str) -> ModelDefaults:
    """What a network of the zoo is built for; a network of the user's own has the defaults of CIFAR-10.

    Raises:
        ModelError: no model of the zoo has this name.
    """
    if ":" in name:
        return ModelDefaults()
    if name not in _defaults:
        raise _unknown(name)
    return _defaults[name]


def build_model(
    name: str,
    *,
    num_classes: int,
    in_channels: int,
    image_size: int | None = None,
    arguments: Mapping[str, Any] | None = None,
    folder: Path | None = None,
) -> nn.Module:
    """Build an untrained network.

    Args:
        name: a name of `list_models()`, or `package.module:factory` of the user.
        num_classes: outputs of the classifier.
        in_channels: channels of the images.
        image_size: height and width of the images; given to factories that have such a parameter.
        arguments: further keyword arguments of the factory; they win over the three above.
        folder: where the user's package is looked for first (the folder of the study file).

    Returns:
        The network, in training mode, initialised from torch's global random state.

    Raises:
        ModelError: Unknown name, a package or factory that cannot be imported, an argument that the factory
            does not take, or a factory that raises or returns something that is no `nn.Module`.
    """
    factory = _imported(name, folder) if ":" in name else _factories.get(name)
    if factory is None:
        raise _unknown(name)
    given = dict(arguments or {})
    offered = {"num_classes": num_classes, "in_channels": in_channels, "image_size": image_size}
    keywords = _accepted(name, factory, offered, given)
    try:
        with _importable(folder):
            module = factory(**keywords)
    except ModelError:
        raise
    except Exception as error:
        raise ModelError(f"model {name!r} cannot be built: {type(error).__name__}: {_line(error)}") from error
    if not isinstance(module, nn.Module):
        raise ModelError(f"model {name!r}: the factory returned {type(module).__name__}, not an nn.Module")
    return module


def _unknown(name: str) -> ModelError:
    return ModelError(
        f"no model is named {name!r}: known are {', '.join(list_models())}, or give your own as "
        "'package.module:factory'"
    )


def _accepted(name: str, factory: Factory, offered: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the keyword arguments for the factory: what it takes of the offered, and all that was given."""
    try:
        parameters = inspect.signature(factory).parameters
    except (TypeError, ValueError):  # a callable without a signature: give it what the user asked for
        return dict(given)
    named = {
        key
        for key, parameter in parameters.items()
        if parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)
    }
    takes_any = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values())
    unknown = sorted(set(given) - named)
    if unknown and not takes_any:
        raise ModelError(f"model {name!r} takes no argument {unknown[0]!r}, only {', '.join(sorted(named)) or 'none'}")
    taken = {key: value for key, value in offered.items() if value is not None and (key in named or takes_any)}
    return taken | dict(given)


def _imported(name: str, folder: Path | None) -> Factory:
    package, _, attribute = name.partition(":")
    if not package or not attribute:
        raise ModelError(f"model {name!r} is not of the form 'package.module:factory'")
    try:
        with _importable(folder):
            found: Any = importlib.import_module(package)
    except Exception as error:  # the user's module may raise anything while it is imported
        raise ModelError(
            f"model {name!r}: cannot import {package!r}: {type(error).__name__}: {_line(error)}"
        ) from error
    for part in attribute.split("."):
        found = getattr(found, part, None)
        if found is None:
            raise ModelError(f"model {name!r}: module {package!r} has no {attribute!r}")
    if not callable(found):
        raise ModelError(f"model {name!r}: {attribute!r} is {type(found).__name__}, not a function or class")
    factory: Factory = found
    return factory


_imported_from: dict[str, dict[str, ModuleType]] = {}
"""The users' modules by the folder that they were imported from."""


@contextmanager
def _importable(folder: Path | None) -> Iterator[None]:
    """Let modules of `folder` be imported inside the block, whatever other folders have under the same names.

    Afterwards they stay where Python looks for them, until another folder's turn comes.
    """
    if folder is None:
        yield
        return
    entry = str(folder.resolve())
    for other, modules in _imported_from.items():
        if other != entry:
            for name, module in modules.items():
                if sys.modules.get(name) is module:
                    del sys.modules[name]
    own = _imported_from.setdefault(entry, {})
    sys.modules.update(own)
    before = {name.partition(".")[0] for name in sys.modules.keys() - own.keys()}
    sys.path.insert(0, entry)
    importlib.invalidate_caches()  # the folder may have changed since Python looked at it
    try:
        yield
    finally:
        sys.path.remove(entry)
        tops = {name for name in sys.modules if name not in before and "." not in name and _lies_in(name, entry)}
        own.update({name: module for name, module in sys.modules.items() if name.partition(".")[0] in tops})


def _lies_in(name: str, entry: str) -> bool:
    """Whether a module is a file or package directly in a folder."""
    spec = getattr(sys.modules[name], "__spec__", None)
    places = [*(getattr(spec, "submodule_search_locations", None) or ()), getattr(spec, "origin", None) or ""]
    return any(str(Path(place).parent) == entry for place in places if place)


def _line(error: BaseException) -> str:
    """Return the first line of an exception's text."""
    return (str(error).strip() or "no further text").splitlines()[0]
