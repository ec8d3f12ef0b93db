"""Put a policy in front of MCP servers that you cannot change.

Starts a server, or connects to one, and serves its tools over standard input and output, so that an MCP client needs
one other command, or over HTTP. The policy is read again whenever its file changes.

  mcp-policy gateway --policy policy.json -- npx -y @modelcontextprotocol/server-filesystem /srv/data
  mcp-policy gateway --policy policy.json --config mcp.json --http 127.0.0.1:8000

A server that is started gets PATH, HOME and the like of the environment, and what --pass-env and its entry in --config
name. The exit status is that of the server where it was started, is the only one, and ended by itself; 0 where the
client left; 1 where a server cannot be reached, 2 for a command line or a file that cannot be read, 3 for a policy that
is not valid, and 128 and its number for a signal.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import re
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from . import _keeping as keeping
from ._exits import FAILED, FINE, USAGE, Stop

if TYPE_CHECKING:
    from mcp_policy.adapters.gateway import Upstream, UpstreamError

    from ._files import PolicyFile
    from ._process import Children
    from ._servers import Server

_NEVER: Final = frozenset(
    {
        *("connection", "keep-alive", "proxy-authenticate", "proxy-authorization", "proxy-connection", "te", "trailer"),
        *("transfer-encoding", "upgrade", "host", "content-length", "content-type", "content-encoding", "accept"),
        *("accept-encoding", "expect", "last-event-id"),
    }
)
_HEADER: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_PREFIX: Final = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_GRACE: Final = 0.2  # seconds, for answers that are on their way when a server ends
_LOGGERS: Final = ("asyncio", "fastmcp", "httpcore2", "httpx2", "mcp", "starlette", "uvicorn")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's options."""
    parser.usage = "%(prog)s --policy FILE [OPTIONS] (-- COMMAND... | --upstream URL | --config FILE)"
    parser.add_argument("--policy", metavar="FILE", required=True, help="the policy; read again when it changes")
    source = parser.add_argument_group("what to stand in front of, one of these")
    source.add_argument("server_command", nargs="*", metavar="COMMAND", help="start this server, and talk over stdio")
    source.add_argument("--upstream", metavar="URL", help="the server at this address (streamable HTTP; SSE at /sse)")
    source.add_argument("--config", metavar="FILE", help="every server in this `mcp.json`, as MCP clients read it")
    how = parser.add_argument_group("how")
    how.add_argument("--http", metavar="HOST:PORT", help="serve streamable HTTP at /mcp; port 0 takes a free one")
    how.add_argument("--name", help="what the policy calls the server (default: the command, or the host of the URL)")
    how.add_argument("--prefix", action="store_true", help="with --config: call tools SERVER_TOOL")
    how.add_argument(
        "--pass-env", metavar="NAME", action="append", default=[], help="hand this variable on to servers; repeatable"
    )
    how.add_argument(
        "--pass-header",
        metavar="NAME",
        action="append",
        default=[],
        help="with --http: hand this request header on to servers at addresses; repeatable",
    )
    keeping.add_arguments(parser)


def run(arguments: argparse.Namespace) -> int:
    """Serve until the client leaves, the server ends or a signal comes, and return the exit status."""
    _check(arguments)
    if find_spec("fastmcp") is None:
        raise Stop(FAILED, 'the gateway needs fastmcp: pip install "mcp-policy[gateway]"')
    from ._files import read_policy

    file = read_policy(arguments.policy)
    servers = _servers(arguments)
    _note_sections(arguments, file, servers)
    try:
        return asyncio.run(_Gateway(arguments, file, servers).serve())
    except (ImportError, RuntimeError) as error:  # another fastmcp than the adapter is for
        raise Stop(FAILED, str(error)) from error


# -- the command line


def _check(arguments: argparse.Namespace) -> None:
    given = [arguments.server_command or None, arguments.upstream, arguments.config]
    if sum(source is not None for source in given) != 1:
        raise Stop(USAGE, "say what to stand in front of: one of -- COMMAND, --upstream URL and --config FILE")
    if arguments.policy == "-":
        raise Stop(USAGE, "--policy: standard input is the client's; name a file")
    if arguments.config is None and arguments.prefix:
        raise Stop(USAGE, "--prefix goes with --config: there is one server")
    if arguments.config is not None and arguments.name is not None:
        raise Stop(USAGE, "--name goes with one server; those in --config have names")
    if arguments.upstream is not None and arguments.pass_env:
        raise Stop(USAGE, "--pass-env goes with servers that are started")
    if arguments.pass_header and (arguments.http is None or arguments.server_command):
        raise Stop(USAGE, "--pass-header goes with --http and with servers at addresses: elsewhere are no headers")
    for name in arguments.pass_header:
        if not _HEADER.fullmatch(name):
            raise Stop(USAGE, "--pass-header takes the name of a header")  # the text itself may be a secret
        if name.lower() in _NEVER or name.lower().startswith("mcp-"):
            raise Stop(USAGE, f"--pass-header: `{name}` belongs to one connection, and is never passed on")
    if arguments.http is not None:
        from ._serving import address

        address(arguments.http)
    keeping.check(arguments)


def _servers(arguments: argparse.Namespace) -> list[Server]:
    from urllib.parse import urlsplit

    from ._servers import from_url, handed_on

    more = {name: os.environ[name] for name in arguments.pass_env if name in os.environ}
    for name in arguments.pass_env:
        if name not in os.environ:
            say(f"--pass-env: `{name}` is not set")
    if arguments.config is not None:
        return _configured(arguments, more)
    if arguments.upstream is not None:
        parts = urlsplit(arguments.upstream)
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise Stop(USAGE, "--upstream takes an address that begins with http:// or https://")
        server = from_url(arguments.name or parts.hostname, arguments.upstream, {})
        return [server._replace(kind="sse" if parts.path.rstrip("/").endswith("/sse") else "http")]
    from ._servers import Server

    command = tuple(arguments.server_command)
    return [Server(arguments.name or Path(command[0]).name, "stdio", command, handed_on(os.environ) | more)]


def _configured(arguments: argparse.Namespace, more: dict[str, str]) -> list[Server]:
    from mcp_policy.document import read
    from mcp_policy.errors import PolicyError

    from ._files import read_bytes, shown
    from ._servers import from_config

    file = arguments.config
    try:
        tree = read(read_bytes(file))[0]
        found = from_config(tree, os.environ, Path(file).parent, more)
    except PolicyError as error:
        raise Stop(USAGE, *(f"{file}:{problem}" for problem in error.problems)) from None
    except ValueError as error:
        raise Stop(USAGE, f"{shown(file)}: {error}") from None
    wrong = [f"{shown(file)}: `{server.name}`: {server.problem}" for server in found if server.problem is not None]
    if arguments.prefix:
        odd = [server.name for server in found if not _PREFIX.fullmatch(server.name)]
        wrong += [f"{shown(file)}: `{name}` cannot be a prefix: letters, digits, `_`, `-`, `.` can" for name in odd]
    if wrong:
        raise Stop(USAGE, *wrong)
    servers = [server for server in found if server.note is None]
    if not servers:
        raise Stop(USAGE, f"{shown(file)}: every server is disabled")
    return servers


def _note_sections(arguments: argparse.Namespace, file: PolicyFile, servers: Sequence[Server]) -> None:
    """Say where a section of the policy is for no server: a name that is not quite right would restrict nothing."""
    sections = set(file.policy.document.get("servers") or {})
    unused = sorted(sections - {server.name for server in servers})
    if unused and (arguments.config is not None or unused == sorted(sections)):
        listed = ", ".join(f"`{name}`" for name in unused)
        calls = ", ".join(f"`{server.name}`" for server in servers)
        say(f"warning: the policy has a section for {listed}, and here is only {calls}")


def _be_quiet() -> None:
    """Keep the libraries' logs away: what an operator should know is said here."""
    for name in _LOGGERS:
        logging.getLogger(name).setLevel(logging.CRITICAL + 1)


def say(text: str) -> None:
    """Tell the operator."""
    from ._render import visible

    print(f"mcp-policy gateway: {visible(text)}", file=sys.stderr, flush=True)


# -- serving


class _End(NamedTuple):
    """Why the gateway ends before its client left."""

    status: int
    line: str | None = None


class _Gateway:
    """One run of the gateway."""

    def __init__(self, arguments: argparse.Namespace, file: PolicyFile, servers: Sequence[Server]) -> None:
        self._arguments, self._file, self._servers = arguments, file, servers
        self._ends_with_child = arguments.http is None and arguments.config is None
        self._serving = False

    async def serve(self) -> int:
        from mcp_policy.reloading import follow_policy_async

        from ._process import Children
        from ._serving import signals
        from ._watch import EVERY

        loop = asyncio.get_running_loop()
        self._end: asyncio.Future[_End] = loop.create_future()
        self._children: Children = Children()
        self._statuses: dict[str, int] = {}
        async with keeping.kept_by(self._arguments, self._file.policy, say) as engine:
            following = asyncio.create_task(follow_policy_async(engine, self._arguments.policy, every=EVERY, say=say))
            with signals(lambda number: loop.call_soon_threadsafe(self._signalled, number)):
                serving = asyncio.create_task(self._serve(engine))
                try:
                    await self._until(serving)
                    if not serving.done() and not self._serving:
                        serving.cancel()
                    await asyncio.wait({serving})
                finally:
                    following.cancel()
        if not self._end.done():
            serving.result()
            return FINE
        end = self._end.result()
        if end.line is not None:
            raise Stop(end.status, end.line)
        return end.status

    async def _until(self, serving: asyncio.Task[None]) -> None:
        """Wait until the serving has ended, or is to end."""
        both: set[asyncio.Future[Any]] = {serving, self._end}
        await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)

    def _signalled(self, number: int) -> None:
        self._children.signal(number)
        self._finish(_End(128 + number))

    def _child_ended(self, server: Server, status: int) -> None:
        self._statuses[server.name] = status
        if self._end.done() or not self._serving:
            return
        if self._ends_with_child:
            self._finish(_End(status, f"`{server.name}` ended with status {status}"))
        else:
            say(f"`{server.name}` ended with status {status}")

    def _finish(self, end: _End) -> None:
        if not self._end.done():
            self._end.set_result(end)

    async def _serve(self, engine: Any) -> None:
        from mcp_policy.adapters.gateway import ClashError, UpstreamError, gateway

        _be_quiet()
        prefixed = None if self._arguments.config is None else self._arguments.prefix
        upstreams = [self._upstream(server) for server in self._servers]
        try:
            async with (
                keeping.served_page(self._arguments, engine, say) as page,
                gateway(
                    upstreams,
                    engine,
                    one_client=self._arguments.http is None,
                    prefixed=prefixed,
                    approver=keeping.approver_of(self._arguments, page),
                    say=say,
                ) as server,
            ):
                self._serving = True
                await (self._over_stdio(server) if self._arguments.http is None else self._over_http(server))
        except UpstreamError as error:
            raise self._unreachable(error) from None
        except ClashError as error:
            raise Stop(USAGE, f"{error}; --prefix puts the servers' names in front") from None

    async def _over_stdio(self, server: Any) -> None:
        from ._serving import over_stdio, standard_input

        with standard_input() as source:
            serving = asyncio.create_task(over_stdio(server, source))
            await self._until(serving)
            if not serving.done():
                await asyncio.sleep(_GRACE)
                source.end()
            await serving

    async def _over_http(self, server: Any) -> None:
        from ._serving import address, bound, over_http, told

        host, port = address(self._arguments.http)
        listening = bound(host, port)
        web = over_http(server, host)
        where, is_local = told(listening)
        say(f"serving on {where}")
        if not is_local:
            say("warning: others can reach this address, and nobody who calls is asked who they are")
        serving = asyncio.create_task(web.serve(sockets=[listening]))
        await self._until(serving)
        web.should_exit = True
        await serving

    def _unreachable(self, error: UpstreamError) -> Stop:
        from ._listing import _told

        server = next(server for server in self._servers if server.name == error.upstream.name)
        status = self._statuses.get(server.name)
        if status is not None:
            return Stop(
                (status or FAILED) if self._ends_with_child else FAILED,
                f"`{server.name}` ended with status {status} before it was asked anything",
            )
        why = error.__cause__
        while why is not None and why.__cause__ is not None:
            why = why.__cause__
        return Stop(FAILED, f"`{server.name}` cannot be reached: {_told(why or error, server)}")

    def _upstream(self, server: Server) -> Upstream:
        from mcp_policy.adapters.gateway import Upstream

        from ._process import ChildTransport
        from ._upstreams import http_transport

        def child() -> ChildTransport:
            if self._end.done():
                raise RuntimeError("the gateway ends")
            return ChildTransport(server, self._children, self._child_ended)

        if server.kind == "stdio":
            return Upstream(server.name, child, is_process=True)
        passed = frozenset(name.lower() for name in self._arguments.pass_header)
        return Upstream(server.name, lambda: http_transport(server, passed), per_caller=bool(passed))
