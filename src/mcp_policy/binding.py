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
from inspect import Parameter
from typing import Any, Final, NamedTuple

from .snapshot import is_context, snapshot

_INJECTORS: Final = frozenset({"fastmcp", "uncalled_for"})
_LISTED: Final = Parameter.VAR_POSITIONAL
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
    injected = frozenset(p.name for p in parameters if type(p.default).__module__.partition(".")[0] in _INJECTORS)
    with_receiver = frozenset({parameters[0].name} if receiver else ()) | injected

    def bind(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Bound:
        skipped = with_receiver if args else injected
        bound = signature.bind(*args, **kwargs)
        bound.apply_defaults()
        for name, value in bound.arguments.items():
            if name not in skipped:
                bound.arguments[name] = snapshot(value)
        return Bound(_arguments(signature, bound.arguments, skipped), bound.args, bound.kwargs)

    own = parameters[receiver:]
    if injected or any(p.kind not in _NAMED for p in own):
        return bind
    return _quick(bind, own, int(receiver))


def _quick(bind: Binder, parameters: list[Parameter], receivers: int) -> Binder:
    """Return a quicker binder for handlers whose arguments all have names; what it does not take is left to `bind`."""
    names = frozenset(p.name for p in parameters)
    ordered = [p.name for p in parameters if p.kind is Parameter.POSITIONAL_OR_KEYWORD]
    defaults = {p.name: p.default for p in parameters if p.default is not Parameter.empty}

    def quick(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Bound:
        given = {**defaults, **kwargs}
        if placed := ordered[: max(0, len(args) - receivers)]:
            given.update(zip(placed, args[receivers:], strict=False))
        fits = given.keys() == names and receivers <= len(args) == receivers + len(placed)
        if not fits or (placed and not kwargs.keys().isdisjoint(placed)):
            return bind(args, kwargs)
        held = {name: snapshot(value) for name, value in given.items()}
        contexts = [name for name, value in held.items() if is_context(value)]
        judged = {name: value for name, value in held.items() if name not in contexts} if contexts else held
        return Bound(judged, args[:receivers], held)

    return quick


def _arguments(signature: inspect.Signature, values: Mapping[str, Any], skipped: frozenset[str]) -> dict[str, Any]:
    arguments: dict[str, Any] = {}
    for name, value in values.items():
        kind = signature.parameters[name].kind
        if name in skipped:
            continue
        named = value if kind is Parameter.VAR_KEYWORD else {name: list(value) if kind is _LISTED else value}
        given = {key: item for key, item in named.items() if not is_context(item)}
        if twice := arguments.keys() & given.keys():
            raise TypeError(f"argument `{min(twice)}` is given twice, by position and by name")
        arguments.update(given)
    return arguments
