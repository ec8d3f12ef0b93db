"""Catalogue files: what is known of servers' tools, as JSON; the bundled ones, and those that people write.

Rules kept here:

- A file from outside is read as strictly as a policy: no duplicate key, no unknown key, nothing coerced, every problem
  at once, each with its place.
- No two servers of the files that are loaded together answer to one name: which of them would count?
- The bundled files belong to the package. The tests check them; reading them checks nothing and costs little.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final, TypeAlias, cast, get_args

from ..errors import PolicyError, Problem, ProblemCode, Trail, json_type, pointer_of, readable, short
from .profile import CATEGORIES, LEVELS, Source

Tree: TypeAlias = dict[str, Any]

VERSION: Final = "1"
DATA: Final = Path(__file__).parent / "data"


class CatalogueError(ValueError):
    """A catalogue file cannot be used; `path` says which, `problems` holds everything that is wrong with it."""

    def __init__(self, path: str, problems: tuple[Problem, ...]) -> None:
        self.path = path
        self.problems = problems
        super().__init__(path, problems)

    def __str__(self) -> str:
        return "\n".join(f"{self.path}: {problem}" for problem in self.problems)


# -- files from outside


def read_servers(path: str | os.PathLike[str]) -> dict[str, Tree]:
    """Return the servers of a catalogue file. Raises `CatalogueError`, and `OSError` if it is not there."""
    from ..document import scan
    from ..reading import MAX_BYTES

    with Path(path).open("rb") as file:
        data = file.read(MAX_BYTES + 1)
    try:
        reading = scan(data)
    except PolicyError as error:
        raise CatalogueError(os.fspath(path), error.problems) from None
    found = [*reading.problems, *problems(reading.tree)]
    if found:
        places = reading.places({problem.pointer for problem in found})
        placed = [_placed(problem, places) for problem in found]
        placed.sort(key=lambda problem: (problem.line or 0, problem.column or 0))
        raise CatalogueError(os.fspath(path), tuple(placed))
    return cast("dict[str, dict[str, Tree]]", reading.tree)["servers"]


def read_all(*paths: str | os.PathLike[str]) -> dict[str, Tree]:
    """Return the servers of several files. Raises as `read_servers`, also where two files name one server."""
    together: dict[str, Tree] = {}
    claimed: dict[str, str] = {}
    for path in paths:
        servers = read_servers(path)
        found = [
            Problem(pointer, ProblemCode.CONFLICT, f"`{readable(name)}` is a server of `{claimed[name]}` already")
            for name, _, pointer in _claims(servers)
            if name in claimed
        ]
        if found:
            raise CatalogueError(os.fspath(path), tuple(found))
        claimed |= {name: os.fspath(path) for name, *_ in _claims(servers)}
        together |= servers
    return together


def problems(tree: object) -> Iterator[Problem]:
    """Yield everything that is wrong with a catalogue file's content, without line and column."""
    found = list(_FILE(tree, None))
    yield from found
    if not found and isinstance(tree, dict):
        yield from _conflicts(tree["servers"])


def override_problems(tree: object) -> Iterator[Problem]:
    """Yield everything that is wrong with the content of the bundled overrides."""
    yield from _OVERRIDES(tree, None)


def _conflicts(servers: Mapping[str, Tree]) -> Iterator[Problem]:
    owners: dict[str, tuple[str, str]] = {}
    for name, server, pointer in _claims(servers):
        owner, first = owners.setdefault(name, (server, pointer))
        if owner != server:
            yield Problem(pointer, ProblemCode.CONFLICT, f"`{readable(name)}` names a server at `{first}` already")


def _claims(servers: Mapping[str, Tree]) -> Iterator[tuple[str, str, str]]:
    """Yield every name that a server is found by, the server, and where the name stands."""
    for server, entry in servers.items():
        at: Trail = ((None, "servers"), server)
        yield server, server, pointer_of(at)
        for place, name in enumerate(entry.get("names", ())):
            yield name, server, pointer_of(((at, "names"), place))


def _placed(problem: Problem, places: Mapping[str, Any]) -> Problem:
    place = places.get(problem.pointer)
    if place is None or problem.line is not None:
        return problem
    about_key = problem.code is ProblemCode.UNKNOWN_KEY and place.key
    return Problem(problem.pointer, problem.code, problem.message, *(place.key if about_key else place.value))


# -- what a file may say

_Check: TypeAlias = Callable[[object, Trail], Iterator[Problem]]


def _expected(kind: type, what: str) -> _Check:
    def check(value: object, at: Trail) -> Iterator[Problem]:
        if type(value) is not kind:
            yield Problem(pointer_of(at), ProblemCode.WRONG_TYPE, f"found {short(value)}, expected {what}")

    return check


def _share(value: object, at: Trail) -> Iterator[Problem]:
    if type(value) is not int and type(value) is not float:
        yield Problem(pointer_of(at), ProblemCode.WRONG_TYPE, f"found {short(value)}, expected a number")
    elif not 0 <= value <= 1:
        yield Problem(pointer_of(at), ProblemCode.INVALID_VALUE, f"found {short(value)}, expected one from 0 to 1")


def _one_of(known: tuple[str, ...]) -> _Check:
    return _matching("|".join(known), "one of " + ", ".join(f"`{name}`" for name in known))


def _matching(pattern: str, what: str) -> _Check:
    def check(value: object, at: Trail) -> Iterator[Problem]:
        if type(value) is not str:
            yield Problem(pointer_of(at), ProblemCode.WRONG_TYPE, f"found {short(value)}, expected {what}")
        elif re.fullmatch(pattern, value, re.DOTALL) is None:
            yield Problem(pointer_of(at), ProblemCode.INVALID_VALUE, f"found {short(value)}, expected {what}")

    return check


def _list_of(check: _Check) -> _Check:
    def checked(value: object, at: Trail) -> Iterator[Problem]:
        yield from _LIST(value, at)
        for place, item in enumerate(value if isinstance(value, list) else ()):
            yield from check(item, (at, place))

    return checked


def _map_of(check: _Check) -> _Check:
    """Return the check of an object whose keys are names."""

    def checked(value: object, at: Trail) -> Iterator[Problem]:
        yield from _OBJECT(value, at)
        for name, item in value.items() if isinstance(value, dict) else ():
            if not name:
                yield Problem(pointer_of((at, name)), ProblemCode.INVALID_VALUE, "a name must not be empty")
            yield from check(item, (at, name))

    return checked


def _object(members: Mapping[str, _Check], *required: str) -> _Check:
    """Return the check of an object with these keys and no other."""

    def checked(value: object, at: Trail) -> Iterator[Problem]:
        from ..suggestions import hint

        yield from _OBJECT(value, at)
        if not isinstance(value, dict):
            return
        for key in required:
            if key not in value:
                yield Problem(pointer_of(at), ProblemCode.MISSING_KEY, f"the key `{key}` is missing")
        for key, item in value.items():
            if key in members:
                yield from members[key](item, (at, key))
            else:
                message = f"the key `{readable(key)}` is unknown here; {hint(key, tuple(members))}"
                yield Problem(pointer_of((at, key)), ProblemCode.UNKNOWN_KEY, message)

    return checked


def _evidence(value: object, at: Trail) -> Iterator[Problem]:
    if type(value) is not list or len(value) != 3:
        yield Problem(pointer_of(at), ProblemCode.WRONG_TYPE, "expected a list of three: source, quote, category")
        return
    for place, check in enumerate((_one_of(get_args(Source)), _TEXT, _CATEGORY)):
        yield from check(value[place], (at, place))


def _scalar(value: object, at: Trail) -> Iterator[Problem]:
    if isinstance(value, list | dict):
        yield Problem(pointer_of(at), ProblemCode.WRONG_TYPE, f"found {json_type(value)}, expected a plain value")


_TEXT: Final = _expected(str, "a string")
_FLAG: Final = _expected(bool, "a boolean")
_LIST: Final = _expected(list, "a list")
_OBJECT: Final = _expected(dict, "an object")
_NAME: Final = _matching(".+", "a string that is not empty")
_DIGEST: Final = _matching("[0-9a-f]{32}", "32 hexadecimal digits")
_CATEGORY: Final = _one_of(CATEGORIES)
_LEVEL: Final = _one_of(LEVELS)
_PARAMETER: Final = _object({"type": _TEXT, "required": _FLAG, "enum": _list_of(_scalar)})
_PARTS: Final = ("description", "schema", "annotations")
_TOOL: Final = _object(
    {
        "category": _CATEGORY,
        "level": _LEVEL,
        "confidence": _share,
        "evidence": _list_of(_evidence),
        "parameters": _map_of(_PARAMETER),
        "hints": _map_of(_FLAG),
        "summary": _TEXT,
        "fingerprint": _object(dict.fromkeys(_PARTS, _DIGEST), *_PARTS),
    },
    "category",
)
_SERVER: Final = _object(
    {
        "names": _list_of(_NAME),
        **dict.fromkeys(("title", "package", "release", "about"), _TEXT),
        "tools": _map_of(_TOOL),
    },
    "tools",
)
_VERSION: Final = _matching(VERSION, f'`"{VERSION}"`')
_FILE: Final = _object({"version": _VERSION, "servers": _map_of(_SERVER)}, "version", "servers")
_OVERRIDE: Final = _object({"category": _CATEGORY, "level": _LEVEL, "reason": _NAME}, "category", "reason")
_OVERRIDES: Final = _object({"version": _VERSION, "overrides": _map_of(_map_of(_OVERRIDE))}, "version", "overrides")


# -- the bundled files


def bundled_index() -> dict[str, list[str]]:
    """Return the bundled servers, each with the names that it has beside its id."""
    servers = _bundled("index.json")["servers"]
    return {server: facts["names"] for server, facts in servers.items()}


def bundled_server(server: str) -> Tree:
    """Return a bundled server's entry. Raises `KeyError` where the file is another server's."""
    entry: Tree = _bundled(f"servers/{server}.json")["servers"][server]
    return entry


def bundled_overrides() -> dict[str, dict[str, Tree]]:
    """Return the reviewed corrections of the bundled entries, by server and tool."""
    overrides: dict[str, dict[str, Tree]] = _bundled("overrides.json")["overrides"]
    return overrides


def _bundled(name: str) -> Tree:
    tree: Tree = json.loads((DATA / name).read_bytes())
    return tree
