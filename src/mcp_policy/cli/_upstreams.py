"""Connections to servers at addresses; of a caller's request they get the headers that the operator named.

Headers that the configuration gives a server stand above a caller's: nobody can replace an operator's credentials.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fastmcp.client.transports import ClientTransport, SSETransport, StreamableHttpTransport
from fastmcp.server.dependencies import get_http_headers
from mcp.shared._httpx_utils import create_mcp_http_client

from ._servers import Server

if TYPE_CHECKING:
    import httpx2


def http_transport(server: Server, passed: frozenset[str]) -> ClientTransport:
    """Return a new connection to a server, which gets the headers in `passed` from the request at hand each time."""
    own = {name.lower() for name in server.headers}

    async def add(request: httpx2.Request) -> None:
        for name, value in get_http_headers(include_all=True).items():
            if name in passed and name not in own:
                request.headers[name] = value

    def client(**settings: Any) -> httpx2.AsyncClient:
        settings.pop("follow_redirects", None)  # the SDK follows within the origin
        made = create_mcp_http_client(**settings)
        if passed:
            made.event_hooks["request"].append(add)
        return made

    kind: Any = SSETransport if server.kind == "sse" else StreamableHttpTransport
    transport: ClientTransport = kind(server.url, headers=dict(server.headers), httpx_client_factory=client)
    return transport
