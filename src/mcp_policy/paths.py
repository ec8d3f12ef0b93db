"""Paths: where a condition finds its value.

A path is a root and steps. Only the roots that hold free-form objects (`args`, `context`, `principal.claims`) take
steps: `.key`, `["odd key"]` (a JSON string), `[0]` and `[*]`. Parsing says nothing about where `[*]` is welcome;
ask `has_star`.
"""

from __future__ import annotations

import json
import re
from enum import Enum
from functools import lru_cache
from typing import Final, NamedTuple, TypeAlias

from .errors import readable


class Star(Enum):
    """The step `[*]`: every element of a list."""

    STAR = "*"


STAR: Final = Star.STAR

Step: TypeAlias = str | int | Star


class Path(NamedTuple):
    """A parsed path: a key is a `str` step, an index an `int` step, every element is `STAR`."""

    root: str
    steps: tuple[Step, ...]


OPEN_ROOTS: Final = ("args", "context", "principal.claims")
CLOSED_ROOTS: Final = (
    "principal.id",
    "principal.issuer",
    "principal.client",
    "principal.roles",
    "principal.scopes",
    "session.id",
    "server.name",
    "tool.name",
    "tool.category",
)

_ROOTS = (*OPEN_ROOTS, *CLOSED_ROOTS)
_ROOTS_SPELT = ", ".join(f"`{root}`" for root in _ROOTS)

_BARE = r"""[^\s.\[\]"'*\\]+"""
_QUOTED = r'"(?:[^"\\\x00-\x1f]|\\["\\/bfnrt]|\\u[0-9a-fA-F]{4})*"'
_STEP = rf"\.(?P<bare>{_BARE})|\[(?:(?P<index>0|[1-9][0-9]{{0,17}})|(?P<star>\*)|(?P<quoted>{_QUOTED}))\]"


@lru_cache(maxsize=4096)
def parse_path(text: str) -> Path:
    """Return the path that a text spells. Raises `ValueError`, with the reason as its message."""
    if text in CLOSED_ROOTS:
        return Path(text, ())
    for root in OPEN_ROOTS:
        rest = text[len(root) :]
        if text.startswith(root) and rest[:1] in ("", ".", "["):
            return Path(root, _parse_steps(text, len(root)))
    raise ValueError(_unknown_root(text))


def has_star(path: Path) -> bool:
    """Return whether a path has a `[*]` step."""
    return STAR in path.steps


def _parse_steps(text: str, start: int) -> tuple[Step, ...]:
    steps: list[Step] = []
    while start < len(text):
        match = re.compile(_STEP).match(text, start)
        if match is None:
            raise ValueError(
                f"`{readable(text)}` cannot be read from `{readable(text[start:], 20)}` on: "
                'a step is `.key`, `["any key"]`, `[0]` or `[*]`'
            )
        steps.append(_step(match))
        start = match.end()
    return tuple(steps)


def _step(match: re.Match[str]) -> Step:
    if match["bare"] is not None:
        return match["bare"]
    if match["index"] is not None:
        return int(match["index"])
    if match["star"] is not None:
        return STAR
    key: str = json.loads(match["quoted"])
    try:
        key.encode()
    except UnicodeEncodeError:
        raise ValueError(f"`{readable(match.string)}` holds a lone surrogate, which no text may") from None
    return key


def _unknown_root(text: str) -> str:
    if not text:
        return "a path must not be empty; it begins with " + _ROOTS_SPELT
    for root in CLOSED_ROOTS:
        if text.startswith((root + ".", root + "[")):
            return f"`{readable(text)}`: `{root}` takes no further steps"
    head = re.match(r"\w*(?:\.\w+)?", text)
    guess = head[0] if head else ""
    from difflib import get_close_matches

    near = get_close_matches(guess, _ROOTS, 1) or get_close_matches(guess.partition(".")[0], _ROOTS, 1)
    hint = f"did you mean `{near[0]}`?" if near else "a path begins with " + _ROOTS_SPELT
    return f"`{readable(text)}` is not a known path; {hint}"
