"""What differs between fastmcp 2, 3 and 4, under one set of names.

fastmcp 3 and 4 resolve tools alike; 2 has its own way, which `_fastmcp2` follows. 2 and 3 stand on the MCP SDK 1.x, 4
on 2.x, so the protocol's types and what a session is differ.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import fastmcp
from fastmcp import FastMCP

from mcp_policy.answer import Answer

from ._common import handshake_session, issued_session
from .approvers import NotYet

KNOWN: Final = {2: 14, 3: 4, 4: 0}
"""The major versions that are known, each from which minor on."""


def checked(version: str) -> int:
    """Return the major version of fastmcp. Raises `RuntimeError` for one that nobody has looked at."""
    major, minor = (int(part) if part.isdigit() else -1 for part in f"{version}.".split(".")[:2])
    if minor < KNOWN.get(major, 10**9):
        known = ", ".join(f"{major} (from {major}.{minor})" for major, minor in KNOWN.items())
        raise RuntimeError(f"this adapter is made for fastmcp {known}, and {version} is installed")
    return major


MAJOR: Final = checked(fastmcp.__version__)

types: Any
ToolResult: Any
if MAJOR >= 4:
    import mcp_types as types
    from fastmcp.tools.base import InputRequiredToolResult
else:
    from mcp import types
if MAJOR >= 3:
    from fastmcp.server.providers.addressing import parse_hashed_backend_name
    from fastmcp.server.transforms.catalog import CatalogTransform
    from fastmcp.tools.base import ToolResult
    from fastmcp.utilities.versions import VersionSpec
else:
    from . import _fastmcp2

Hop = tuple[object, str]  # a mounted server, and the name by which its tool is called


def server_of(at: Any, guard: object) -> Any:
    """Return the server that `guard` stands on, in the context of a request."""
    return at.fastmcp if MAJOR >= 3 else _fastmcp2.server_of(at.fastmcp, guard)


def listed_name(tool: Any) -> str:
    """Return the name under which its server lists a tool."""
    return str(tool.name if MAJOR >= 3 else tool.key)


def asked_version(message: Any) -> Any:
    """Return the version of a tool that a call asks for by itself: it need not be the one that is listed."""
    if MAJOR < 3:
        return None
    meta = message.meta or {}
    about = (meta if isinstance(meta, Mapping) else meta.model_dump()).get("fastmcp")
    asked = about.get("version") if isinstance(about, Mapping) else None
    if isinstance(asked, Mapping):  # a range, which only the host's own code can ask for
        return VersionSpec(**asked)
    return VersionSpec(eq=asked) if isinstance(asked, str) and asked else None


async def find(server: FastMCP[Any], name: str, version: Any = None) -> Any:
    """Resolve a name as fastmcp does when it calls: by the listed name, then by the hashed one; None: no such tool."""
    if MAJOR < 3:
        return await _fastmcp2.find(server, name)
    tool = await server.get_tool(name, version)
    if tool is None and (hashed := parse_hashed_backend_name(name)) is not None:
        tool = await server.get_tool_by_hash(*hashed)
    return tool


async def hops(server: FastMCP[Any], tool: Any) -> tuple[Hop, ...]:
    """Return the way that a call of this tool takes through mounted servers; what cannot be told is judged again."""
    if MAJOR < 3:
        return await _fastmcp2.hops(server, listed_name(tool))
    found: list[Hop] = []
    at: Any = tool
    while at is not None:
        at = getattr(at, "parent_tool", None) or at
        child, name = getattr(at, "_server", None), getattr(at, "_original_name", None)
        if not isinstance(child, FastMCP) or not isinstance(name, str):
            break
        found.append((child, name))
        at = await child.get_tool(name)
    return tuple(found)


async def names(server: FastMCP[Any]) -> list[str]:
    """Return the names of all tools of a server, mounted ones included, whatever its middleware would hide."""
    if MAJOR < 3:
        return await _fastmcp2.names(server)
    return [listed_name(tool) for tool in await server.list_tools(run_middleware=False)]


def calls_by_name(server: Any) -> bool:
    """Tell whether a server's transforms add a tool that calls the others by name, as search and code mode do."""
    return MAJOR >= 3 and any(isinstance(transform, CatalogTransform) for transform in server.transforms)


def shut_tasks(guard: type) -> None:
    """Close the way past a guard that fastmcp 2 has."""
    if MAJOR < 3:
        _fastmcp2.shut_tasks(guard)


def session_of(session: Any) -> str | None:
    """Return what stands for a session over HTTP, if a stateful server keeps one."""
    return issued_session(session) if MAJOR >= 4 else handshake_session(session)


def refusal(said: Answer) -> Any:
    """Return a result that is an error, with text and `_meta`."""
    content = [types.TextContent(type="text", text=said.text)]
    if MAJOR < 3:
        return _fastmcp2.Refusal(content=content, meta=said.meta)
    return ToolResult(content=content, meta=said.meta, is_error=True)


def question(asked: NotYet) -> Any:
    """Return what ends a call with a question, which the client answers when it calls again (fastmcp 4)."""
    params: Any
    if asked.schema is not None:
        params = types.ElicitRequestFormParams(message=asked.message, requested_schema=dict(asked.schema))
    else:
        params = types.ElicitRequestURLParams(message=asked.message, url=str(asked.url))
    request = types.ElicitRequest(params=params)
    return InputRequiredToolResult(types.InputRequiredResult(input_requests={asked.key: request}))
