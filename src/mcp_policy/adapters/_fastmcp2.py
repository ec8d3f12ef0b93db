"""How fastmcp 2 resolves a tool, through the servers that are mounted; and its background tasks, which are shut.

fastmcp 2 puts a call that asks for a background task into its queue before any middleware sees it, and says of a tool
that takes none that it does not, before any middleware can hide it. So on a server with a guard, or one that a guarded
server is mounted on, no call goes there: it runs at once, through the middleware.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from fastmcp import FastMCP as _FastMCP
from fastmcp.exceptions import NotFoundError
from fastmcp.tools.tool import ToolResult  # type: ignore[import-not-found]  # where fastmcp 2 has it
from mcp import types as _types

FastMCP: Any = _FastMCP  # of a version that types are not checked against
types: Any = _types

_guards: tuple[type, ...] = ()


class Refusal(ToolResult):  # type: ignore[misc]  # as above
    """A result that is an error, which fastmcp 2 cannot say of its own results."""

    def to_mcp_result(self) -> Any:
        """Return the result as it goes to the client."""
        return types.CallToolResult(content=self.content, isError=True, _meta=self.meta)


def server_of(outermost: Any, guard: object) -> Any:
    """Return the server that `guard` stands on: fastmcp 2 tells the middleware of a mounted one of the outermost only.

    Raises `RuntimeError` where it stands on several: which of them is called could not be told.
    """
    found = [server for server in _within(outermost) if any(one is guard for one in server.middleware)]
    if len(found) > 1:
        names = " and ".join(f"`{server.name}`" for server in found)
        raise RuntimeError(f"one `PolicyMiddleware` stands on {names}: on fastmcp 2 each server needs its own")
    return found[0] if found else outermost


def _within(server: Any) -> list[Any]:
    return [server, *(inner for mounted in server._mounted_servers for inner in _within(mounted.server))]


async def names(server: Any) -> list[str]:
    """Return the names of all tools of a server, mounted ones included, whatever its middleware would hide."""
    return list(await server.get_tools())


async def find(server: Any, name: str) -> Any:
    """Return the tool that a call of `name` reaches; None: no such tool."""
    at: Any = server
    for mounted, within in _ways(at, name):
        tool = await _get(mounted.server, within)
        if tool is not None and at._should_enable_component(tool):
            return tool.model_copy(key=name)
    try:
        tool = await at._tool_manager.get_tool(name)
    except NotFoundError:
        return None
    return tool if at._should_enable_component(tool) else None


async def hops(server: Any, name: str) -> tuple[tuple[object, str], ...]:
    """Return the mounted servers that a call of `name` passes, and the names by which it does."""
    at: Any = server
    for mounted, within in _ways(at, name):
        tool = await _get(mounted.server, within)
        if tool is not None and at._should_enable_component(tool):
            return ((mounted.server, within), *await hops(mounted.server, within))
    return ()


def shut_tasks(guard: type) -> None:
    """Have servers with a middleware of class `guard` run every call through their middleware."""
    global _guards  # noqa: PLW0603  # once, when the adapter is imported
    if not _guards:
        original = FastMCP._get_tool_with_task_config

        async def get_tool_with_task_config(self: Any, key: str) -> Any:
            return None if _is_guarded(self) else await original(self, key)

        FastMCP._get_tool_with_task_config = get_tool_with_task_config
    _guards = (*_guards, guard)


def _is_guarded(server: Any) -> bool:
    return any(isinstance(one, _guards) for inner in _within(server) for one in inner.middleware)


def _ways(server: Any, name: str) -> Iterator[tuple[Any, str]]:
    """Yield the mounted servers that are tried for a name, later ones first, and the name they are asked for."""
    for mounted in reversed(server._mounted_servers):
        within = {override: key for key, override in reversed((mounted.tool_names or {}).items())}.get(name)
        if within is None:
            prefix = f"{mounted.prefix}_" if mounted.prefix else ""
            if not name.startswith(prefix):
                continue
            within = name[len(prefix) :]
        yield mounted, within


async def _get(server: Any, name: str) -> Any:
    try:
        return await server.get_tool(name)
    except NotFoundError:
        return None
