"""The server of the contract as a process of its own, over stdio: `child.py MODULE STACK FOLDER guarded|bare`."""

from __future__ import annotations

import asyncio
import importlib
import logging
import sys
from pathlib import Path

from stacks.world import World


async def serve(module: str, name: str, folder: str, how: str) -> None:
    stack = getattr(importlib.import_module(f"stacks.{module}"), name)
    async with stack.serving(World(Path(folder)), guarded=how == "guarded", one_client=True) as server:
        await stack.stdio(server)


if __name__ == "__main__":
    logging.disable()
    asyncio.run(serve(*sys.argv[1:]))
