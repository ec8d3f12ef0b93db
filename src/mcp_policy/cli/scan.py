"""See what the tools of MCP servers can do, and keep it that way.

Lists the tools of one server, or of all servers in the file that MCP clients read, with the official client. Nothing is
called. Prints a table with the most dangerous tools first, and warns of definitions that are not what they seem.

The exit status is 0 where every server gave its list, 1 where one did not, 2 where a file could not be read or written,
4 where --check found a difference.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import os
import signal
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from ..errors import PolicyError
from ._render import add_format, printable, visible, write

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ..policy import Policy
    from ._findings import Findings
    from ._listing import Listing
    from ._servers import Server

_SECONDS: Final = 30.0
_AT_ONCE: Final = 4  # servers; each may start a package manager
_FAILED, _USAGE, _DRIFTED = 1, 2, 4


class UsageError(Exception):
    """What was asked for cannot be done; the message is for people."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's options."""
    parser.usage = "%(prog)s [OPTIONS] (-- COMMAND... | --upstream URL | --config FILE | --tools FILE)"
    source = parser.add_argument_group("what to scan, one of these")
    source.add_argument("server_command", nargs="*", metavar="COMMAND", help="start this server and ask it, over stdio")
    source.add_argument("--upstream", metavar="URL", help="ask the server at this address (streamable HTTP or SSE)")
    source.add_argument("--config", metavar="FILE", help="every server in this `mcp.json`, as MCP clients read it")
    source.add_argument("--tools", metavar="FILE", help="a `tools/list` result in a file; nothing is started")
    how = parser.add_argument_group("how")
    how.add_argument("--header", metavar="NAME=VALUE", action="append", default=[], help="with --upstream; repeatable")
    how.add_argument("--env", metavar="NAME", action="append", default=[], help="with --config: hand this variable on")
    how.add_argument("--name", help="what the policy and the lock file call the server")
    how.add_argument(
        "--timeout", metavar="SECONDS", type=_positive, default=_SECONDS, help="for each server (default: %(default)g)"
    )
    out = parser.add_argument_group("what to do with it")
    add_format(out)  # type: ignore[arg-type]  # a group takes arguments as a parser does
    out.add_argument("--write", metavar="FILE", help="write the recommended policy")
    out.add_argument("--lock", metavar="FILE", help="write the tools' fingerprints, for --check")
    out.add_argument("--check", metavar="FILE", help="compare with a lock file; exit status 4 where anything changed")
    out.add_argument("--force", action="store_true", help="let --write and --lock replace a file")


def run(arguments: argparse.Namespace) -> int:
    """Scan, print, write what was asked for, and return the exit status."""
    if arguments.tools is None and find_spec("mcp") is None:
        _say('asking a server needs the MCP client: pip install "mcp-policy[mcp]"')
        return _FAILED
    try:
        return _run(arguments)
    except UsageError as error:
        _say(str(error))
        return _USAGE
    except KeyboardInterrupt:
        return 130


def _run(arguments: argparse.Namespace) -> int:
    _check_arguments(arguments)
    lock = _tree(arguments.check) if arguments.check is not None else None
    if lock is not None:
        _check_lock(arguments.check, lock)
    findings = _findings(listings(arguments, lock), lock)
    from ._findings import as_data, as_report

    write(as_report(findings), as_data(findings), arguments.format)
    written = _write_files(arguments, findings)
    if lock is not None and findings.changes:
        return _DRIFTED
    return _FAILED if findings.failed or not written else 0


def _findings(listings: Sequence[Listing], lock: object) -> Findings:
    from ..catalogue.drift import drifted
    from ..catalogue.judging import judge
    from ._findings import found

    if lock is None:
        return found(listings)
    asked = (listing for listing in listings if listing.note is None)
    now = {listing.server: None if listing.failure is not None else listing.tools for listing in asked}
    return found(listings, drifted(lock, now, judge))


# -- the command line


def _positive(text: str) -> float:
    seconds = float(text)
    if not 0 < seconds <= 86_400:
        raise ValueError(text)
    return seconds


def _check_arguments(arguments: argparse.Namespace) -> None:
    given = [arguments.server_command or None, arguments.upstream, arguments.config, arguments.tools]
    if sum(source is not None for source in given) != 1:
        raise UsageError("say what to scan: one of -- COMMAND, --upstream URL, --config FILE and --tools FILE")
    if arguments.header and arguments.upstream is None:
        raise UsageError("--header goes with --upstream")
    if arguments.config is None and arguments.env:
        raise UsageError("--env goes with --config; a COMMAND has the whole environment")
    if arguments.config is not None and arguments.name is not None:
        raise UsageError("--name goes with one server; those in --config have names")
    for option in ("write", "lock"):
        file = getattr(arguments, option)
        if file is not None and not arguments.force and Path(file).exists():
            raise UsageError(f"--{option}: `{file}` is there already; --force replaces it")


def _headers(texts: Sequence[str]) -> dict[str, str]:
    headers: dict[str, str] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise UsageError("--header takes NAME=VALUE")  # the text itself may be a secret
        headers[name.strip()] = value.strip()
    return headers


def _tree(file: str) -> Any:
    """Return the content of a JSON file."""
    from ..document import read
    from ._files import read_bytes

    try:
        return read(read_bytes(file))[0]
    except PolicyError as error:
        raise UsageError("\n".join(f"{file}:{problem}" for problem in error.problems)) from None


def _check_lock(file: str, tree: object) -> None:
    from ..catalogue.drift import read_lock

    try:
        read_lock(tree)
    except ValueError as error:
        raise UsageError(f"`{file}`: {error}") from None


# -- the servers


def listings(arguments: argparse.Namespace, lock: Any) -> tuple[Listing, ...]:
    """Return what the servers list that were asked for. Raises `UsageError`."""
    if arguments.tools is not None:
        return (from_file(arguments.tools, arguments.name),)
    servers = _servers(arguments)
    with _interruptible(), _quiet():
        listings = asyncio.run(_ask(servers, arguments.timeout))
    if arguments.config is not None:
        return listings
    (listing,) = listings
    known = list(lock["servers"]) if lock is not None else []
    alone = known[0] if listing.failure is not None and len(known) == 1 else ""  # it could not say its name
    return (listing._replace(server=arguments.name or listing.introduced or alone or listing.server),)


def _servers(arguments: argparse.Namespace) -> tuple[Server, ...]:
    from urllib.parse import urlsplit

    from ._servers import from_command, from_config, from_url

    if arguments.config is None:
        if arguments.upstream is not None:
            name = arguments.name or urlsplit(arguments.upstream).hostname or "server"
            return (from_url(name, arguments.upstream, _headers(arguments.header)),)
        command = arguments.server_command
        return (from_command(arguments.name or Path(command[0]).name, command, os.environ),)
    file = Path(arguments.config)
    more = {name: os.environ[name] for name in arguments.env if name in os.environ}
    try:
        return from_config(_tree(arguments.config), os.environ, file.parent, more)
    except ValueError as error:
        raise UsageError(f"`{file}`: {error}") from None


async def _ask(servers: Sequence[Server], seconds: float) -> tuple[Listing, ...]:
    from ._listing import list_all
    from ._progress import progress

    with progress([server.name for server in servers]) as report:
        return await list_all(servers, seconds=seconds, at_once=_AT_ONCE, report=report)


def from_file(file: str, name: str | None) -> Listing:
    """Return the list of tools in a file. Raises `UsageError`."""
    from ._listing import Listing, ListingError, check

    tree = _tree(file)
    said = tree.get("server") if isinstance(tree, dict) else None
    if isinstance(tree, dict) and isinstance(tree.get("result"), dict):  # the whole answer
        tree = tree["result"]
    if isinstance(tree, dict) and tree.get("nextCursor") is not None:
        raise UsageError(
            f"`{file}`: has a `nextCursor`: its list is not whole; put the tools of all pages into one list"
        )
    tools: Any = tree.get("tools") if isinstance(tree, dict) else tree
    try:
        check(tools)
    except ListingError as error:
        raise UsageError(f"`{file}`: {error}") from None
    server = name or (said if isinstance(said, str) and said else Path(file).stem)
    return Listing(server, tuple(tools))


@contextmanager
def _interruptible() -> Iterator[None]:
    """Let SIGTERM end the scan as Ctrl-C does: with its children."""
    before = signal.getsignal(signal.SIGTERM)
    with suppress(ValueError):  # in a thread, signals are somebody else's
        signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))
    try:
        yield
    finally:
        with suppress(ValueError):
            signal.signal(signal.SIGTERM, before)


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep what the client logs of a server's faults away: they are reported."""
    loggers = [logging.getLogger(name) for name in ("mcp", "httpx2", "httpcore2", "asyncio")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


# -- what is written


def _write_files(arguments: argparse.Namespace, findings: Findings) -> bool:
    """Write the files that were asked for; tell whether all of them could be."""
    right = True
    missing = ", ".join(f"`{visible(name)}`" for name in findings.failed)
    if arguments.write is not None and not findings.answered:
        _say(f"{arguments.write} was not written: no server gave its list")
        right = False
    elif arguments.write is not None:
        _put(arguments.write, _text(_policy(arguments, findings).document), force=arguments.force)
        without = f"; denied as a whole, for want of a list: {missing}" if missing else ""
        _say(f"wrote the recommended policy to {arguments.write}{without}")
    if arguments.lock is not None and missing:
        _say(f"{arguments.lock} was not written: it has to know every server, and there is no list of {missing}")
        right = False
    elif arguments.lock is not None:
        right = _write_lock(arguments, findings) and right
    return right


def _write_lock(arguments: argparse.Namespace, findings: Findings) -> bool:
    """Write the lock file, or say why --check could not read it: too large, or a server has odd names."""
    from ..catalogue.drift import locked, read_lock
    from ..catalogue.judging import judge
    from ..document import read

    text = _text(locked(findings.answered, judge))
    try:
        read_lock(read(text)[0])
    except ValueError as error:
        _say(f"{arguments.lock} was not written, as --check could not read it: {error}")
        return False
    _put(arguments.lock, text, force=arguments.force)
    _say(f"wrote the fingerprints of {len(findings.rows)} tools to {arguments.lock}")
    return True


def _text(tree: Mapping[str, Any]) -> str:
    return json.dumps(tree, indent=2) + "\n"


def _policy(arguments: argparse.Namespace, findings: Findings) -> Policy:
    """Return the recommendation: for the one server of the command line, or with a section for each."""
    from ..catalogue.merging import merge
    from ..catalogue.recommendation import recommend_judged

    sections = arguments.config is not None or arguments.name is not None
    try:
        parts = [
            recommend_judged(judged, server=name if sections else None) for name, judged in findings.judged.items()
        ]
        return parts[0] if len(parts) == 1 else merge(parts, listing="any")
    except ValueError as error:
        raise UsageError(f"no policy can be written: {error}") from None


def _put(file: str, text: str, *, force: bool) -> None:
    """Write a file as a whole or not at all, and never through a link."""
    path = Path(file)
    partial = None
    try:
        number, partial = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".partial", dir=path.parent)
        with os.fdopen(number, "w", encoding="utf-8") as opened:
            opened.write(text)
        Path(partial).chmod(0o644)
        if force:
            Path(partial).replace(path)
            partial = None
        else:
            os.link(partial, path)  # fails where something is there already
    except FileExistsError:
        raise UsageError(f"`{file}` cannot be written: it is there already; --force replaces it") from None
    except OSError as error:
        raise UsageError(f"`{file}` cannot be written: {error.strerror or error}") from None
    finally:
        if partial is not None:
            Path(partial).unlink(missing_ok=True)


def _say(text: str) -> None:
    lines = (visible(line) for line in text.splitlines())
    print(printable("\n".join(f"mcp-policy scan: {line}" for line in lines), sys.stderr), file=sys.stderr, flush=True)
