"""Installs a server, starts it twice, and takes down its `tools/list` as the official client sees it.

Rules kept here:

- Every server has an environment of its own; what it requires never meets what another one requires.
- A server gets a fresh home and working folder and none of the caller's settings: what it lists is what it lists to a
  stranger.
- What differs between two starts, in different folders and time zones (a path, a default drawn from a set), marks
  the tool with `varies`: such a definition has no fingerprint to go by. What differs between machines (the system's
  name) a recipe says.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import tempfile
from pathlib import Path
from typing import Any, Final

from mcp import Client, StdioServerParameters
from mcp.client.stdio import stdio_client

from recipes import Recipe

INSTALL_SECONDS: Final = 300
LIST_SECONDS: Final = 60
_ZONES: Final = ("UTC", "Asia/Tokyo")


def take_down(recipe: Recipe, cache: Path) -> dict[str, Any]:
    """Return a server's listing: who it is and every tool as it stands on the wire.

    Raises `subprocess.SubprocessError` where it cannot be installed, and `TimeoutError` or whatever the client raises
    where it does not answer.
    """
    place = cache / f"{recipe.id}-{recipe.release}"
    program = _install(recipe, place)
    first, second = (asyncio.run(_listed(recipe, program, place, zone)) for zone in _ZONES)
    for tool in first["tools"]:
        if tool["name"] in recipe.varies or tool not in second["tools"]:
            tool["varies"] = True
    return {
        "server": recipe.id,
        "server_info": first["server_info"],
        "package": recipe.package,
        "release": recipe.release,
        "tools": first["tools"],
    }


def _install(recipe: Recipe, place: Path) -> list[str]:
    """Return the command that starts a server, installed unless an earlier run has done it."""
    done = place / "installed"
    place.mkdir(parents=True, exist_ok=True)
    if not done.exists():
        (_install_npm if recipe.kind == "npm" else _install_pypi)(recipe, place)
        done.touch()
    program, *arguments = recipe.command or _own_program(recipe, place)
    folder = place / ("node_modules/.bin" if recipe.kind == "npm" else "venv/bin")
    return [str(folder / program), *arguments]


def _own_program(recipe: Recipe, place: Path) -> list[str]:
    if recipe.kind == "pypi":
        return [recipe.project]
    programs = json.loads((place / "node_modules" / recipe.project / "package.json").read_text("utf-8"))["bin"]
    return [recipe.project.rpartition("/")[2]] if isinstance(programs, str) else list(programs)[:1]


def _install_npm(recipe: Recipe, place: Path) -> None:
    (place / "package.json").write_text('{"private": true}\n', "utf-8")
    quiet = ["--no-audit", "--no-fund", "--loglevel=error"]
    _run(["npm", "install", "--ignore-scripts", *quiet, f"{recipe.project}@{recipe.release}", *recipe.pins], place)


def _install_pypi(recipe: Recipe, place: Path) -> None:
    _run(["uv", "venv", "--quiet", "--clear", "--python", recipe.python, "venv"], place)
    into = ["--quiet", "--link-mode=copy", "--python", "venv/bin/python"]
    _run(["uv", "pip", "install", *into, f"{recipe.project}=={recipe.release}", *recipe.pins], place)


def _run(command: list[str], place: Path) -> None:
    subprocess.run(command, cwd=place, check=True, timeout=INSTALL_SECONDS, capture_output=True, text=True)


async def _listed(recipe: Recipe, program: list[str], place: Path, zone: str) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder, (place / "errors.log").open("w") as errors:
        command, *arguments = (part.replace("{folder}", folder) for part in program)
        settings = {key: value.replace("{folder}", folder) for key, value in recipe.environment.items()}
        child = StdioServerParameters(
            command=command,
            args=arguments,
            env={"HOME": folder, "TZ": zone, "PATH": f"{Path(command).parent}:{os.environ['PATH']}", **settings},
            cwd=folder,
        )
        async with asyncio.timeout(LIST_SECONDS):
            async with Client(stdio_client(child, errlog=errors), mode="legacy", cache=None) as client:
                return {"server_info": _who(client), "tools": await _pages(client)}


def _who(client: Client) -> dict[str, str]:
    told = client.server_info
    return {"name": told.name, "version": told.version} if told else {"name": "", "version": ""}


async def _pages(client: Client) -> list[dict[str, Any]]:
    tools: list[dict[str, Any]] = []
    page = await client.list_tools()
    while True:
        tools.extend(tool.model_dump(mode="json", by_alias=True, exclude_unset=True) for tool in page.tools)
        if not page.next_cursor:
            return sorted(tools, key=lambda tool: str(tool["name"]))
        page = await client.list_tools(cursor=page.next_cursor)
