"""See what the tools of your servers can do and what a policy does with them, and build the policy, in a browser.

  mcp-policy explore                                        the servers of the bundled catalogue
  mcp-policy explore --config mcp.json --policy policy.json your servers, and your policy for them
  mcp-policy explore --policy policy.json -- COMMAND        one server
  mcp-policy explore --export site/                         the pages as files, for anybody to read

The pages are served to this machine, to whoever opens the printed address. Nothing is fetched from elsewhere, and
nothing is written but the policy, where you save it. `--store` adds the calls that wait for a person, and keeps what
you decide on them; they belong to the policy of the servers that ask, and under another one they are void.

The exit status is 0, 1 if a server gave no list or nothing can be served or written, 2 if the command line or a file
cannot be read, 3 if a policy to export is not valid, 128 and its number where a signal ends it.
"""

from __future__ import annotations

import argparse
import asyncio
import ipaddress
import sys
import threading
import webbrowser
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from secrets import token_urlsafe
from typing import TYPE_CHECKING, Any, Final

from mcp_policy.errors import PolicyError

from ._exits import FAILED, FINE, INVALID, USAGE, Stop
from ._files import shown
from ._render import printable, visible

if TYPE_CHECKING:
    import socket

    from mcp_policy.engine import PolicyEngine
    from mcp_policy.explorer.saving import PolicyOnDisk
    from mcp_policy.explorer.stack import Stack

_SECONDS: Final = 30.0
_ANYWHERE: Final = "127.0.0.1:0"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's options."""
    parser.usage = "%(prog)s [OPTIONS] [--config FILE | --tools FILE | --server NAME | -- COMMAND...]"
    source = parser.add_argument_group("what to show, one of these (default: the bundled catalogue)")
    source.add_argument("server_command", nargs="*", metavar="COMMAND", help="start this server and ask it, over stdio")
    source.add_argument("--config", metavar="FILE", help="every server in this `mcp.json`, as MCP clients read it")
    source.add_argument("--tools", metavar="FILE", help="a `tools/list` result in a file; nothing is started")
    source.add_argument("--server", metavar="NAME", help="a server that the catalogue knows")
    parser.add_argument("--policy", metavar="FILE", help="the policy to show and build, in JSON; saving makes one")
    parser.add_argument(
        "--store", metavar="URL", help="show the calls that wait in this store: sqlite:///FILE or redis://HOST"
    )
    where = parser.add_argument_group("where")
    where.add_argument("--export", metavar="FOLDER", help="write the pages into this folder instead of serving them")
    where.add_argument(
        "--http", metavar="HOST:PORT", default=_ANYWHERE, help="serve here (default: a free port of this machine)"
    )
    where.add_argument("--no-browser", action="store_true", help="print the address only")


def run(arguments: argparse.Namespace) -> int:
    """Serve the pages until interrupted, or write them, and return the exit status."""
    _check(arguments)
    try:
        from mcp_policy.explorer import app  # noqa: F401
    except ImportError:
        raise Stop(FAILED, "the explorer needs more than the core: pip install 'mcp-policy[web]'") from None
    disk = None if arguments.policy is None else _disk(arguments.policy)
    stack = _stack(arguments)
    failed = any(server.failure for server in stack.servers)
    if arguments.export is not None:
        _export(stack, disk, arguments.export)
        return FAILED if failed else FINE
    return asyncio.run(_serve(stack, disk, arguments))


def _check(arguments: argparse.Namespace) -> None:
    sources = [arguments.server_command or None, arguments.config, arguments.tools, arguments.server]
    if sum(source is not None for source in sources) > 1:
        raise Stop(USAGE, "only one of -- COMMAND, --config, --tools and --server says what to show")
    if arguments.export is not None:
        given = [("--store", arguments.store), ("--http", arguments.http != _ANYWHERE)]
        named = [name for name, value in given if value]
        if named:
            raise Stop(USAGE, f"{' and '.join(named)}: nothing is served with --export")


def _disk(path: str) -> PolicyOnDisk:
    from mcp_policy.explorer.saving import PolicyOnDisk, SaveError

    try:
        disk = PolicyOnDisk(path)
        disk.load()
    except SaveError as error:
        raise Stop(USAGE, str(error)) from None
    return disk


# -- what is shown


def _stack(arguments: argparse.Namespace) -> Stack:
    from mcp_policy.catalogue.lookup import ToolCatalogue
    from mcp_policy.explorer.stack import Listed, of_catalogue, of_listings

    if arguments.server is not None:
        return of_catalogue(ToolCatalogue.bundled(), _known(arguments.server))
    if arguments.config is None and arguments.tools is None and not arguments.server_command:
        return of_catalogue(ToolCatalogue.bundled())
    listings = _listings(arguments)
    source = arguments.config or arguments.tools or " ".join(arguments.server_command)
    if all(listing.failure is not None for listing in listings) and arguments.config is None:
        raise Stop(FAILED, f"the server gave no list of tools: {listings[0].failure}")
    return of_listings(
        Path(source).name if arguments.config or arguments.tools else source,
        [Listed(one.server, one.introduced, one.tools, one.failure or one.note or "") for one in listings],
    )


def _known(name: str) -> str:
    from .check import known_server

    return known_server(name).id


def _listings(arguments: argparse.Namespace) -> Sequence[Any]:
    from . import scan

    asked = argparse.Namespace(
        **{name: getattr(arguments, name) for name in ("server_command", "config", "tools")},
        upstream=None,
        name=None,
        timeout=_SECONDS,
        env=[],
    )
    try:
        return scan.listings(asked, None)
    except scan.UsageError as error:
        raise Stop(USAGE, *str(error).splitlines()) from None
    except ModuleNotFoundError:
        raise Stop(FAILED, "asking a server needs the MCP client: pip install 'mcp-policy[mcp]'") from None


# -- as files


def _export(stack: Stack, disk: PolicyOnDisk | None, folder: str) -> None:
    from mcp_policy.explorer.export import ExportError, export
    from mcp_policy.policy import Policy

    try:
        policy = None if disk is None else Policy.parse(disk.load().text)
    except PolicyError as error:
        assert disk is not None  # noqa: S101  # else nothing was parsed
        raise Stop(INVALID, *(f"{shown(str(disk.path))}:{problem}" for problem in error.problems)) from None
    try:
        count = export(stack, folder, policy)
    except ExportError as error:
        raise Stop(FAILED, f"--export: {error}") from None
    _say(f"wrote {count:,} pages; the first is {Path(folder) / 'index.html'}")


# -- over HTTP


async def _serve(stack: Stack, disk: PolicyOnDisk | None, arguments: argparse.Namespace) -> int:
    from mcp_policy.adapters._page.door import LOOPBACK
    from mcp_policy.explorer.app import explorer

    from ._keeping import login
    from ._serving import address, bound, http_server

    host, port = address(arguments.http)
    async with _approvals(arguments.store, disk) as engine:
        listening = bound(host, port)
        own = ipaddress.ip_address(listening.getsockname()[0])
        if own.is_unspecified:
            listening.close()
            raise Stop(USAGE, "--http takes the address or name that browsers are to use, not all addresses at once")
        name = f"[{host}]" if ":" in host else host
        by = "" if engine is None else login("--store")
        token = token_urlsafe(32)
        hosts = {*LOOPBACK, name} if own.is_loopback else {name}
        app = explorer(stack, disk=disk, token=token, hosts=hosts, approvals=engine, by=by)
        if not own.is_loopback:
            _say("warning: others can reach this address, and nothing that passes between is encrypted")
        where = f"http://{name}:{listening.getsockname()[1]}/?token={token}"
        _say(f"open {where}")
        if not arguments.no_browser and sys.stderr.isatty():
            threading.Thread(target=webbrowser.open, args=(where,), daemon=True).start()  # it may wait for a browser
        return await _until_told(http_server(app), app, listening)


async def _until_told(web: Any, app: Any, listening: socket.socket) -> int:
    """Serve until a signal asks for the end, and return the exit status."""
    from ._serving import signals

    told: list[int] = []

    def stop(number: int) -> None:
        told.append(number)
        app.state.close()
        web.should_exit = True

    loop = asyncio.get_running_loop()
    with signals(lambda number: loop.call_soon_threadsafe(stop, number)):
        await web.serve(sockets=[listening])
    return 128 + told[0] if told else FINE


@asynccontextmanager
async def _approvals(store: str | None, disk: PolicyOnDisk | None) -> AsyncIterator[PolicyEngine | None]:
    """Yield an engine that knows the calls that wait in a store, and follows the policy; None without a store."""
    if store is None:
        yield None
        return
    from mcp_policy.engine import PolicyEngine
    from mcp_policy.policy import Policy
    from mcp_policy.reloading import follow_policy_async

    from ._keeping import open_stores
    from ._watch import EVERY

    opened = open_stores(store)
    following: asyncio.Task[Any] | None = None
    try:
        engine = PolicyEngine(**opened._asdict())
        if disk is not None and (loaded := disk.load()).digest:  # else there is no file yet
            with suppress(PolicyError):
                engine.reload(Policy.parse(loaded.text))  # before anybody can decide
            following = asyncio.create_task(follow_policy_async(engine, disk.path, every=EVERY, say=_say))
        yield engine
    finally:
        if following is not None:
            following.cancel()
        await opened.aclose()


def _say(text: str) -> None:
    print(printable(f"mcp-policy explore: {visible(text)}", sys.stderr), file=sys.stderr, flush=True)
