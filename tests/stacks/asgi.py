"""The policy in front of an ASGI app that knows nothing of it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

from mcp_policy.adapters.approvers import ask_client
from mcp_policy.adapters.asgi import PolicyASGIMiddleware
from stacks.world import NAME, Steered, World


class Asgi(NamedTuple):
    """The app of another stack behind the policy; there is HTTP alone."""

    behind: Any

    @asynccontextmanager
    async def serving(self, world: World, *, guarded: bool, one_client: bool) -> AsyncIterator[Any]:
        async with self.behind.serving(world, guarded=False, one_client=one_client) as server:
            app = self.behind.app(server)
            yield PolicyASGIMiddleware(app, Steered(world), server=NAME, approver=ask_client()) if guarded else app

    def app(self, app: Any) -> Any:
        return app
