"""The tools, the resource and the prompt of the one server that every stack serves here; each call is noted as it runs."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from stacks.world import World

NOTES = "file:///notes"
TEXT = "what is to be done"


def tools(world: World, add: Callable[[str, Any], Any]) -> dict[str, Any]:
    """Return the tools by name. `add` is how one of them adds another while the server runs."""

    def ls(path: str = "/") -> str:
        world.note("ran", ["ls", {"path": path}])
        return path

    async def rm(path: str) -> str:
        world.note("ran", ["rm", {"path": path}])
        return f"gone {path}"

    def transfer(amount: float) -> str:
        world.note("ran", ["transfer", {"amount": amount}])
        return f"moved {amount:g}"

    def secret() -> str:
        world.note("ran", ["secret", {}])
        return "secret"

    async def slow(path: str = "/") -> str:
        world.note("ran", ["slow", {"path": path}])
        for _ in range(10):
            await asyncio.sleep(0)
        return path

    def failing() -> str:
        world.note("ran", ["failing", {}])
        raise RuntimeError("failed")

    def late() -> str:
        world.note("ran", ["late", {}])
        return "late"

    async def grow() -> str:
        world.note("ran", ["grow", {}])
        add("late", late)
        return "grown"

    return {tool.__name__: tool for tool in (ls, rm, transfer, secret, slow, failing, grow)}


def notes() -> str:
    return TEXT


def greet(who: str) -> str:
    return f"greet {who}"


def schemas(name: str) -> dict[str, Any]:
    """Return the input schema of a tool, for stacks that do not find it out by themselves."""
    number = {"transfer": {"amount": {"type": "number"}}}
    path = {
        "ls": {"path": {"type": "string"}},
        "slow": {"path": {"type": "string"}},
        "rm": {"path": {"type": "string"}},
    }
    properties = {**number, **path}.get(name, {})
    return {"type": "object", "properties": properties, "required": ["path"] if name == "rm" else []}


SAYS = {"type": "object", "properties": {"result": {"type": "string"}}, "required": ["result"]}
"""The output schema of every tool."""


async def run(tool: Any, arguments: dict[str, Any]) -> str:
    """Call a tool, where the stack leaves that to its server."""
    result = tool(**arguments)
    return await result if asyncio.iscoroutine(result) else result
