"""From a Python call to the arguments that a policy judges, and back.

- Arguments are bound to their names by the handler's signature, defaults filled in; what cannot be bound never runs.
- `**kwargs` are merged in by name, `*args` stand as a list under theirs. A name that would be given twice is refused.
- The receiver of a method is no argument. Nor is what a framework puts in by itself (its context, its dependencies): no
  agent can send those.
- The handler is called with the very copies that were judged.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from functools import lru_cache
from inspect import Parameter
from typing import Any, Final, NamedTuple

from .snapshot import snapshot

_FRAMEWORKS: Final = frozenset({"mcp", "fastmcp"})
_CONTEXTS: Final = frozenset({"Context", "RequestContext", "ServerRequestContext", "FastMCPRequestContext"})
_INJECTORS: Final = frozenset({"fastmcp", "uncalled_for"})
_NAMED: Final = (Parameter.POSITIONAL_OR_KEYWORD, Parameter.KEYWORD_ONLY)


class Bound(NamedTuple):
    """A call taken apart: `arguments` to judge, `args` and `kwargs` to run."""

    arguments: dict[str, Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]


Binder = Callable[[tuple[Any, ...], dict[str, Any]], Bound]


def binder(handler: Callable[..., Any], *, receiver: bool) -> Binder:
    """Return what binds calls of `handler`; `receiver` says that its first argument is a method's own object.

    That comes by position; what is given by its name is an argument. The binder raises `TypeError` for a call that
    `handler` could not take, and `TooDeep`.
    """
    signature = inspect.signature(handler)
    parameters = list(signature.parameters.values())
    injected = frozenset(p.name for p in parameters if _root(type(p.default)) in _INJECTORS)
    with_receiver = frozenset({parameters[0].name} if receiver else ()) | injected

    def bind(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Bound:
        skipped = with_receiver if args else injected
        bound = signature.bind(*args, **kwargs)
        bound.apply_defaults()
        for name, value in bound.arguments.items():
            if name not in skipped and not is_context(value):
                bound.arguments[name] = snapshot(value)
        return Bound(_arguments(signature, bound.arguments, skipped), bound.args, bound.kwargs)

    own = parameters[receiver:]
    if injected or any(p.kind not in _NAMED for p in own):
        return bind
    return _by_name(bind, own, int(receiver))


def _by_name(bind: Binder, parameters: list[Parameter], receivers: int) -> Binder:
    """Return a quicker binder for the way frameworks call: every argument by its name."""
    names = frozenset(p.name for p in parameters)
    required = frozenset(p.name for p in parameters if p.default is Parameter.empty)
    defaults = {p.name: p.default for p in parameters if p.default is not Parameter.empty}

    def quick(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Bound:
        if len(args) != receivers or not required <= kwargs.keys() <= names:
            return bind(args, kwargs)
        given = {**defaults, **kwargs}
        contexts = {name: value for name, value in given.items() if is_context(value)}
        judged = {name: snapshot(value) for name, value in given.items() if name not in contexts}
        return Bound(judged, args, {**judged, **contexts})

    return quick


def _arguments(signature: inspect.Signature, values: Mapping[str, Any], skipped: frozenset[str]) -> dict[str, Any]:
    arguments: dict[str, Any] = {}
    for name, value in values.items():
        kind = signature.parameters[name].kind
        if name in skipped or is_context(value):
            continue
        given = value if kind is Parameter.VAR_KEYWORD else {name: value}
        if kind is Parameter.VAR_POSITIONAL:
            given = {name: list(value)}
        if twice := arguments.keys() & given.keys():
            raise TypeError(f"argument `{min(twice)}` is given twice, by position and by name")
        arguments.update(given)
    return arguments


def is_context(value: object) -> bool:
    """Return whether `value` is a framework's own context, which no agent can send."""
    kind: Any = type(value)
    return _is_context(kind)


@lru_cache(maxsize=512)
def _is_context(kind: Any) -> bool:
    return any(_root(base) in _FRAMEWORKS and base.__name__ in _CONTEXTS for base in kind.__mro__)


def _root(kind: type) -> str:
    return str(kind.__module__).partition(".")[0]
