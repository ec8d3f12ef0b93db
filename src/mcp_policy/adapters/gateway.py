"""A guarded proxy, for servers that cannot be changed: fastmcp's proxy with `PolicyMiddleware` in front of each server.

- Each server is judged under its own name and by its own tools' names, whatever clients see them as.
- A session of a client has a connection of its own to each server; it ends with the session. Clients of 2026-07-28 over
  HTTP have no sessions: to a server that has, each of their requests is a session of its own; a child process they
  share, and then nothing that it sends unasked reaches any of them.
- A connection speaks the client's protocol era where the server does, so that questions of the server's reach the
  client.
- A name that two servers list is served by neither, and said so.
- A server that cannot be reached is an error to the caller, with no word of why; the operator is told.

Resources and prompts pass as fastmcp's proxy passes them: a policy is about tools.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final, NamedTuple

try:
    import mcp_types as types
    from fastmcp import FastMCP
    from fastmcp.client.transports import ClientTransport  # noqa: TC002  # hosts may ask for the types of these functions
    from fastmcp.exceptions import NotFoundError, ToolError
    from fastmcp.server.middleware import CallNext, Middleware, MiddlewareContext
    from fastmcp.server.providers.proxy import ProxyMetadataMiddleware, ProxyProvider
    from fastmcp.tools.base import Tool, ToolResult
    from fastmcp.utilities.versions import VersionSpec  # noqa: TC002
    from mcp import MCPError
except ImportError as error:
    raise ImportError('the gateway needs fastmcp 4: pip install "mcp-policy[gateway]"') from error

from mcp_policy.engine import PolicyEngine
from mcp_policy.errors import readable

from ._lanes import Lanes, is_lost
from .approvers import Approver
from .fastmcp import CallContext, CallTool, ListContext, ListTools, PolicyMiddleware

log: Final = logging.getLogger("mcp_policy")

_KEPT: Final = 60.0  # seconds for which a list is used to find tools, where the server does not say that it changed

Say = Callable[[str], None]


class Upstream(NamedTuple):
    """A server to stand in front of.

    `name` is what the policy calls it. `transport` makes a new connection each time; `is_process` tells that one is
    dear, as it starts a process. `per_caller` tells that a connection differs by who calls, as with passed headers.
    """

    name: str
    transport: Callable[[], ClientTransport]
    is_process: bool = False
    per_caller: bool = False


class ClashError(Exception):
    """Two servers list a tool of the same name."""


class Names:
    """Which server lists which names, as clients see them."""

    def __init__(self) -> None:
        self.say: Say | None = None  # while the servers start, nobody is told one by one
        self._of: dict[str, frozenset[str]] = {}
        self.clashing: frozenset[str] = frozenset()

    def put(self, server: str, names: Iterable[str]) -> None:
        """Note what a server lists now."""
        now = frozenset(names)
        if self._of.get(server) == now:
            return
        self._of[server] = now
        seen: set[str] = set()
        twice: set[str] = set()
        for listed in self._of.values():
            twice |= seen & listed
            seen |= listed
        new, self.clashing = sorted(twice - self.clashing), frozenset(twice)
        for name in new:
            if self.say is not None:
                self.say(f"{self.told(name)}: it is served by neither")

    def told(self, name: str) -> str:
        """Return in words who lists a name."""
        servers = " and ".join(f"`{readable(server)}`" for server, names in sorted(self._of.items()) if name in names)
        return f"the tool `{readable(name)}` is listed by {servers}"

    def may_serve(self, server: str, name: str) -> bool:
        """Tell whether nobody else lists a name."""
        return not any(name in names for other, names in self._of.items() if other != server)


class GuardedTools(ProxyProvider):
    """What one server lists, but for the names that others list too. They show with `prefix` in front."""

    def __init__(self, upstream: Upstream, lanes: Lanes, names: Names, prefix: str) -> None:
        super().__init__(lanes.client, cache_ttl=0 if upstream.per_caller else _KEPT)
        self._server, self._names, self._prefix = upstream.name, names, prefix
        lanes.on_change = self.forget

    def forget(self) -> None:
        """Ask the server anew before anything is looked up."""
        self._tools_cache = self._resources_cache = self._templates_cache = self._prompts_cache = None

    async def _list_tools(self) -> Sequence[Tool]:
        tools = await super()._list_tools()
        self._names.put(self._server, (self._prefix + tool.name for tool in tools))
        return [tool for tool in tools if self._is_served(tool)]

    async def _get_tool(self, name: str, version: VersionSpec | None = None) -> Tool | None:
        if not self._names.may_serve(self._server, self._prefix + name):
            return None
        return self._if_served(await super()._get_tool(name, version))

    async def _get_tool_by_hash(self, tool_hash: str, tool_name: str) -> Tool | None:
        return self._if_served(await super()._get_tool_by_hash(tool_hash, tool_name))

    def _is_served(self, tool: Tool) -> bool:
        return self._names.may_serve(self._server, self._prefix + tool.name)

    def _if_served(self, tool: Tool | None) -> Tool | None:
        return tool if tool is not None and self._is_served(tool) else None


class _Failures(Middleware):
    """Tells callers that a server cannot be reached, and nothing else about it."""

    def __init__(self, lanes: Lanes, server: str, say: Say) -> None:
        self._lanes, self._server, self._say = lanes, server, say

    async def __call__(self, context: MiddlewareContext[Any], call_next: CallNext[Any, Any]) -> Any:
        try:
            return await call_next(context)
        except Exception as error:
            if not is_lost(error):
                raise
            text = await self._note(error)
            if context.method == "tools/call":
                return ToolResult(content=[types.TextContent(type="text", text=text)], is_error=True)
            raise MCPError(code=types.INTERNAL_ERROR, message=text) from error

    async def _note(self, error: Exception) -> str:
        await self._lanes.failed(error)
        self._say(f"`{readable(self._server)}`: the connection failed ({type(error).__name__})")
        return f"the server `{readable(self._server)}` cannot be reached, or did not answer"


class _OneVoice(Middleware):
    """In front of several servers: whichever of them a name might be of, an unknown tool is answered alike."""

    def __init__(self, names: Names) -> None:
        self._names = names

    async def on_call_tool(self, context: CallContext, call_next: CallTool) -> Any:
        name = context.message.name
        try:
            return await call_next(context)
        except (NotFoundError, ToolError) as error:
            if isinstance(error, NotFoundError) or isinstance(error.__cause__, NotFoundError):  # as mounts wrap it
                raise NotFoundError(f"Unknown tool: {name!r}") from None
            raise

    async def on_list_tools(self, context: ListContext, call_next: ListTools) -> list[Tool]:
        tools = await call_next(context)  # the servers were asked side by side: one may have answered before a clash
        return [tool for tool in tools if tool.name not in self._names.clashing]


@asynccontextmanager
async def gateway(
    upstreams: Sequence[Upstream],
    engine: PolicyEngine,
    *,
    one_client: bool,
    prefixed: bool | None = None,
    approver: Approver | None = None,
    say: Say = log.warning,
) -> AsyncIterator[FastMCP[Any]]:
    """Connect to all `upstreams` and yield the server that stands in front of them, guarded by `engine`.

    `one_client` tells that everything comes from one client, as over stdio. `prefixed` None serves the one server as
    if it were this one; True and False serve several, with and without their names in front of their tools' names.
    `say` is told what an operator should know. Raises `ClashError` where two servers list the same name, and whatever
    a server that cannot be reached makes its transport raise; `UpstreamError` says which one that was.
    """
    names = Names()
    parts = [_part(upstream, engine, names, one_client, prefixed, approver, say) for upstream in upstreams]
    try:
        await _gathered(_started(upstream, lanes, tools) for upstream, lanes, tools, _ in parts)
        if names.clashing:
            raise ClashError("; ".join(names.told(name) for name in sorted(names.clashing)))
        names.say = say
        yield parts[0][3] if prefixed is None else _front(parts, names, prefixed=prefixed)
    finally:
        await asyncio.shield(asyncio.gather(*(lanes.aclose() for _, lanes, _, _ in parts), return_exceptions=True))


class UpstreamError(Exception):
    """A server could not be reached. `upstream` is which; `__cause__` is why."""

    def __init__(self, upstream: Upstream) -> None:
        super().__init__(f"the server `{readable(upstream.name)}` cannot be reached")
        self.upstream = upstream


_Part = tuple[Upstream, Lanes, GuardedTools, FastMCP[Any]]


def _part(
    upstream: Upstream,
    engine: PolicyEngine,
    names: Names,
    one_client: bool,
    prefixed: bool | None,
    approver: Approver | None,
    say: Say,
) -> _Part:
    lanes = Lanes(upstream.transport, one_client=one_client, is_process=upstream.is_process)
    tools = GuardedTools(upstream, lanes, names, f"{upstream.name}_" if prefixed else "")
    server: FastMCP[Any] = FastMCP(upstream.name)
    server.provider_error_strategy = "raise"  # a server that cannot be reached is no server without tools
    server.add_provider(tools)
    server.add_middleware(PolicyMiddleware(engine, server=upstream.name, approver=approver))
    server.add_middleware(_Failures(lanes, upstream.name, say))
    server.add_middleware(ProxyMetadataMiddleware(tools, identity="upstream"))
    return upstream, lanes, tools, server


def _front(parts: Sequence[_Part], names: Names, *, prefixed: bool) -> FastMCP[Any]:
    front: FastMCP[Any] = FastMCP("mcp-policy gateway")
    for upstream, _, _, server in parts:
        front.mount(server, namespace=upstream.name if prefixed else None)
    front.add_middleware(_OneVoice(names))
    return front


async def _started(upstream: Upstream, lanes: Lanes, tools: GuardedTools) -> None:
    try:
        await lanes.start()
        await tools.list_tools()
    except Exception as error:
        raise UpstreamError(upstream) from error


async def _gathered(starting: Iterable[Any]) -> None:
    """Await all of them, and raise the first failure once all have ended."""
    for result in await asyncio.gather(*starting, return_exceptions=True):
        if isinstance(result, BaseException):
            raise result
