"""The calls that a command line asks about: from its options, or from a file.

Rules kept here:

- A call is read as strictly as a policy: no duplicate keys, no NaN, no unknown key, nothing coerced, size and depth
  bounded. What is not read is never decided.
- Of several calls, one that cannot be read does not keep the others from being decided: it is refused, in its place.
- Standard input is read once.
"""

from __future__ import annotations

import argparse
import io
import re
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeAlias

from ._exits import USAGE, Stop

if TYPE_CHECKING:
    from mcp_policy.call import ToolCall
    from mcp_policy.errors import PolicyError, Problem

LATEST: Final = 10**12
"""The largest number of seconds that a clock may show."""


class Asked(NamedTuple):
    """A call to decide: `at` is the time in seconds, None where it does not say; `line` is where a file has it."""

    call: ToolCall
    at: float | None
    line: int | None


class Refused(NamedTuple):
    """What a file has in the place of a call, and why that is none."""

    why: str
    line: int


Calls: TypeAlias = "Asked | Iterator[Asked | Refused]"
"""One call, or as many as a file has."""


def add_arguments(parser: argparse.ArgumentParser, *, many: bool) -> None:
    """Declare the policy and the options that say what is called, and by whom."""
    from mcp_policy.call import CATEGORIES, UNKNOWN

    parser.add_argument("policy", metavar="POLICY", help="the policy file; `-` is standard input")
    call = parser.add_argument_group("the call")
    call.add_argument("--tool", metavar="NAME", help="the tool that is called")
    call.add_argument("--args", metavar="JSON", help="its arguments, a JSON object; @FILE reads a file, @- input")
    call.add_argument("--server", metavar="NAME", help="the server, as the policy calls it")
    call.add_argument("--session", metavar="ID", help="the session")
    call.add_argument("--context", metavar="JSON", help="what the host adds, a JSON object or @FILE")
    call.add_argument("--category", choices=(*CATEGORIES, UNKNOWN), help="what the tool is (default: by the catalogue)")
    caller = parser.add_argument_group("who calls")
    caller.add_argument("--principal", metavar="ID", help="the authenticated caller")
    caller.add_argument("--issuer", metavar="NAME", help="who has authenticated the caller")
    caller.add_argument("--client", metavar="NAME", help="the authenticated client application")
    caller.add_argument("--role", metavar="NAME", action="append", help="a role of the caller; repeatable")
    caller.add_argument("--scope", metavar="NAME", action="append", help="a scope of the caller; repeatable")
    caller.add_argument("--claims", metavar="JSON", help="claims about the caller, a JSON object or @FILE")
    whence = parser.add_argument_group("calls from a file" if many else "a call from a file")
    each = "a JSON object, or several with each on a line of its own" if many else "a JSON object"
    whence.add_argument("--calls", metavar="FILE", help=f"{each}; `-` is standard input")


def seconds(text: str) -> float:
    """Read a time from a command line. Raises `ArgumentTypeError`."""
    try:
        found = float(text)
    except ValueError:
        found = -1.0
    if not 0 <= found <= LATEST:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of seconds from 0 to {LATEST:,}")
    return found


def read_calls(arguments: argparse.Namespace) -> Calls:
    """Return what a command line asks about. Raises `Stop` where it does not say that, or not in a readable way."""
    _check_sources(arguments)
    if arguments.calls is None:
        return _one(lambda: _told(_from_options(arguments), None))
    from ._files import read_bytes

    data = read_bytes(arguments.calls)
    if len(re.findall(rb"^\{", data, re.MULTILINE)) > 1:
        return _lines(data)
    if not data.strip():
        raise Stop(USAGE, f"{_name(arguments.calls)} holds no call")
    line = 1 + data[: len(data) - len(data.lstrip())].count(b"\n")
    return _one(lambda: _told(_parsed(data), line), _name(arguments.calls))


_CALL_OPTIONS: Final = ("args", "server", "session", "context", "category")
_CALLER_OPTIONS: Final = ("principal", "issuer", "client", "role", "scope", "claims")


def _check_sources(arguments: argparse.Namespace) -> None:
    own = [f"--{name}" for name in ("tool", *_CALL_OPTIONS, *_CALLER_OPTIONS) if getattr(arguments, name) is not None]
    if arguments.calls is not None and own:
        raise Stop(USAGE, f"`--calls` says everything about the calls: leave `{own[0]}` out, or `--calls`")
    if arguments.calls is None and arguments.tool is None:
        raise Stop(USAGE, "nothing is called: `--tool NAME` names a tool, `--calls FILE` a file of calls")
    inputs = [arguments.policy == "-", arguments.calls == "-"]
    inputs += [getattr(arguments, name) == "@-" for name in ("args", "context", "claims")]
    if sum(inputs) > 1:
        raise Stop(USAGE, "standard input is named twice, and can be read once")


def _one(read: Callable[[], Asked], source: str = "") -> Asked:
    try:
        return read()
    except _Unreadable as error:
        raise Stop(USAGE, f"{source}: {error}" if source else str(error)) from None


def _lines(data: bytes) -> Iterator[Asked | Refused]:
    for number, line in enumerate(io.BytesIO(data), 1):
        if line.strip():
            try:
                yield _told(_parsed(line.rstrip(b"\r\n")), number)
            except _Unreadable as error:
                yield Refused(str(error), number)


def _name(path: str) -> str:
    from ._files import shown

    return shown(path)


# -- JSON


class _Unreadable(ValueError):
    """Something that is no call; the message says why."""


_MOST: Final = 3  # problems that one message tells


def _parsed(data: bytes | str) -> object:
    """Return what JSON says, read as strictly as a policy. Raises `_Unreadable`."""
    from mcp_policy.document import scan
    from mcp_policy.errors import PolicyError

    try:
        reading = scan(data)
    except PolicyError as error:
        raise _unreadable(error) from None
    if reading.problems:
        raise _unreadable(PolicyError(reading.problems))
    return reading.tree


def _unreadable(error: PolicyError) -> _Unreadable:
    return _Unreadable("; ".join(_said(problem) for problem in error.problems[:_MOST]))


def _said(problem: Problem) -> str:
    from mcp_policy.errors import readable

    where = f"`{readable(problem.pointer)}`: " if problem.pointer else ""
    if problem.column is not None:
        line = f"line {problem.line}, " if problem.line != 1 else ""
        where = f"{line}column {problem.column}: {where}"
    return f"{where}{problem.message}"


# -- options


def _from_options(arguments: argparse.Namespace) -> dict[str, Any]:
    """Return the call of the options as a file would have it."""
    call = {"tool": arguments.tool, "arguments": _object("args", arguments)}
    call |= {name: getattr(arguments, name) for name in ("server", "session", "category")}
    call["context"] = _object("context", arguments)
    if any(getattr(arguments, name) is not None for name in _CALLER_OPTIONS):
        call["principal"] = {
            "id": arguments.principal,
            "issuer": arguments.issuer,
            "client": arguments.client,
            "roles": arguments.role,
            "scopes": arguments.scope,
            "claims": _object("claims", arguments),
        }
    for name in ("tool", "server", "session", "principal", "issuer", "client", "role", "scope"):
        _check_text(name, getattr(arguments, name))
    return call


def _object(option: str, arguments: argparse.Namespace) -> object:
    """Return the JSON object of an option, which may be in a file."""
    from mcp_policy.errors import json_type
    from mcp_policy.reading import MAX_BYTES

    from ._files import read_bytes

    given: str | None = getattr(arguments, option)
    if given is None:
        return None
    try:
        found = _parsed(read_bytes(given[1:], MAX_BYTES) if given.startswith("@") else given)
    except _Unreadable as error:
        raise _Unreadable(f"`--{option}`: {error}") from None
    if type(found) is not dict:
        raise _Unreadable(f"`--{option}` has to be a JSON object, found {json_type(found)}")
    return found


def _check_text(option: str, given: str | list[str] | None) -> None:
    for text in [given] if isinstance(given, str) else given or ():
        try:
            text.encode()
        except UnicodeEncodeError:  # Python's way to keep bytes that are none
            raise _Unreadable(f"`--{option}` is not UTF-8") from None


# -- what a call may say


class _Kind(NamedTuple):
    """What a value has to be, in words, and whether one is it."""

    name: str
    takes: Callable[[Any], bool]


_TEXT: Final = _Kind("a string", lambda value: type(value) is str)
_OBJECT: Final = _Kind("an object", lambda value: type(value) is dict)
_TEXTS: Final = _Kind(
    "a list of strings", lambda value: type(value) is list and all(type(member) is str for member in value)
)
_TIME: Final = _Kind(
    f"a number of seconds from 0 to {LATEST:,}", lambda value: type(value) in (int, float) and 0 <= value <= LATEST
)
_CALL: Final = {
    "tool": _TEXT,
    "arguments": _OBJECT,
    "server": _TEXT,
    "session": _TEXT,
    "principal": _OBJECT,
    "context": _OBJECT,
    "category": _TEXT,
    "at": _TIME,
}
_PRINCIPAL: Final = {
    "id": _TEXT,
    "issuer": _TEXT,
    "client": _TEXT,
    "roles": _TEXTS,
    "scopes": _TEXTS,
    "claims": _OBJECT,
}


def _told(tree: object, line: int | None) -> Asked:
    """Return the call that a tree tells of; null is as good as nothing. Raises `_Unreadable`."""
    from mcp_policy.call import Principal, ToolCall
    from mcp_policy.errors import json_type

    if type(tree) is not dict:
        more = ": of several calls, each stands on a line of its own" if type(tree) is list else ""
        raise _Unreadable(f"a call is an object, found {json_type(tree)}{more}")
    flaws = [*_flaws(tree, _CALL, ""), *_flaws(tree.get("principal"), _PRINCIPAL, "principal.")]
    if tree.get("tool") is None:
        flaws.append("`tool` is missing, which names what is called")
    if flaws:
        raise _Unreadable("; ".join(flaws[:_MOST]))
    said = {name: value for name, value in tree.items() if value is not None}
    at = said.pop("at", None)
    if "principal" in said:
        said["principal"] = Principal(**{key: value for key, value in said["principal"].items() if value is not None})
    call = ToolCall(**said)
    if call.flaw is not None:
        raise _Unreadable(call.flaw)
    return Asked(call, at, line)


def _flaws(tree: object, known: Mapping[str, _Kind], before: str) -> Iterator[str]:
    from mcp_policy.errors import readable, short
    from mcp_policy.suggestions import hint

    for key, value in tree.items() if type(tree) is dict else ():
        if key not in known:
            yield f"`{before}{readable(key)}` is not a key of a call: {hint(key, tuple(known))}"
        elif value is not None and not known[key].takes(value):
            yield f"`{before}{key}` has to be {known[key].name}, found {short(value)}"
