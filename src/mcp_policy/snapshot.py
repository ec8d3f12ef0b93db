"""A copy of the arguments that nobody else holds, so that what was judged is what runs.

Plain containers are copied all the way down, pydantic models and dataclasses field by field. Any other object is passed
on as it is, its own code is never run to copy it; so is a framework's own context, which is no value. What is nested
deeper than `MAX_DEPTH` is refused, cycles included.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from pydantic import BaseModel

MAX_DEPTH: Final = 200
_FRAMEWORKS: Final = frozenset({"mcp", "fastmcp"})
_CONTEXTS: Final = frozenset({"Context", "RequestContext", "ServerRequestContext", "FastMCPRequestContext"})
_ATOMS: Final = frozenset({str, int, float, bool, type(None), bytes})


class TooDeep(ValueError):
    """The arguments are nested too deep to be copied, or hold themselves."""


def snapshot(value: Any, depth: int = 0) -> Any:
    """Return a copy of `value` that later changes to the original do not reach. Raises `TooDeep`."""
    kind = type(value)
    if kind in _ATOMS:
        return value
    if depth > MAX_DEPTH:
        raise TooDeep(f"the arguments are nested deeper than {MAX_DEPTH} levels")
    if kind is dict:
        return {_exact(key): snapshot(item, depth + 1) for key, item in value.items()}
    if kind is list:
        return [snapshot(item, depth + 1) for item in value]
    return _rarer(value, depth + 1)


def _exact(key: Any) -> Any:
    """Return a key as the plain text that it holds: one with a hash of its own would be there and not be found."""
    return str.__str__(key) if type(key) is not str and isinstance(key, str) else key


def _rarer(value: Any, depth: int) -> Any:
    if isinstance(value, dict):
        return _refill(copy.copy(value), dict.items(value), dict.__setitem__, depth)
    if isinstance(value, list):
        return _refill(copy.copy(value), enumerate(list.__iter__(value)), list.__setitem__, depth)
    if type(value) is tuple or (isinstance(value, tuple) and hasattr(value, "_fields")):
        return tuple.__new__(type(value), [snapshot(item, depth) for item in tuple.__iter__(value)])
    if is_context(value):
        return value
    if isinstance(value, set | bytearray):
        return copy.copy(value)
    if _is_model(value):
        return _model(value, depth)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        names = [field.name for field in dataclasses.fields(value) if hasattr(value, field.name)]
        return _refill(copy.copy(value), [(n, getattr(value, n)) for n in names], object.__setattr__, depth)
    if isinstance(value, Mapping):  # judged as an object, so it has to be a copy as well
        return {_exact(key): snapshot(value[key], depth) for key in value}
    return value


def _refill(held: Any, items: Iterable[tuple[Any, Any]], put: Any, depth: int) -> Any:
    for key, item in list(items):
        put(held, key, snapshot(item, depth))
    return held


def _is_model(value: object) -> bool:
    from pydantic import BaseModel  # a tenth of a second, for those who bring objects

    return isinstance(value, BaseModel)


def _model(value: BaseModel, depth: int) -> BaseModel:
    held = value.model_copy()
    for fields in (held.__dict__, held.__pydantic_extra__):
        if fields:
            _refill(fields, fields.items(), dict.__setitem__, depth)
    return held


def snapshot_mapping(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return `snapshot` of a mapping, as a plain dict. Raises `TooDeep`."""
    return {_exact(key): snapshot(item, 1) for key, item in arguments.items()}


def is_context(value: object) -> bool:
    """Return whether `value` is a framework's own context, which no agent can send."""
    kind: Any = type(value)
    return kind not in _ATOMS and _is_context(kind)


@lru_cache(maxsize=512)
def _is_context(kind: Any) -> bool:
    roots = {base.__module__.partition(".")[0] for base in kind.__mro__ if base.__name__ in _CONTEXTS}
    return not roots.isdisjoint(_FRAMEWORKS)
