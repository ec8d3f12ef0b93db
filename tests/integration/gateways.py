"""What the tests of the gateway share: gateways as users run them, and what is left of their children."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

from mcp import Client, StdioServerParameters
from mcp.client.stdio import stdio_client

import mcp_policy

SOURCE = str(Path(mcp_policy.__file__).parent.parent)
SERVER = str(Path(__file__).with_name("gateway_server.py"))
GATEWAY = ["-m", "mcp_policy", "gateway"]


def environment(**more: str) -> dict[str, str]:
    """Return what a gateway is started with."""
    return {**os.environ, "PYTHONPATH": SOURCE, **more}


def server(*tools: str, name: str = "files") -> list[str]:
    """Return the command of a server with these tools; without any, with all."""
    return [sys.executable, SERVER, name, *tools]


def written(file: Path, tree: Any) -> str:
    """Write a JSON file, as another file in its place, and return its name."""
    new = file.with_name(f"{file.name}.new")
    new.write_text(json.dumps(tree))
    new.replace(file)
    return str(file)


def policy(**top: Any) -> dict[str, Any]:
    return {"version": "1", "default": "allow", **top}


@asynccontextmanager
async def connected(
    arguments: list[str],
    era: str = "auto",
    talk: Path | None = None,
    env: dict[str, str] | None = None,
    **settings: Any,
) -> AsyncIterator[Client]:
    """Connect to a gateway over stdio; what it says on standard error goes to `talk`."""
    given = StdioServerParameters(command=sys.executable, args=[*GATEWAY, *arguments], env=env or environment())
    with (talk or Path(os.devnull)).open("w") as errors:
        async with Client(stdio_client(given, errlog=errors), mode=era, cache=None, **settings) as client:
            yield client


@contextmanager
def started(arguments: list[str], env: dict[str, str] | None = None) -> Iterator[subprocess.Popen[str]]:
    """Start a gateway with pipes."""
    process = subprocess.Popen(
        [sys.executable, *GATEWAY, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=env or environment(),
        text=True,
    )
    with process:
        try:
            yield process
        finally:
            process.kill()


HELLO = {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "test", "version": "1"}}


def ask(process: subprocess.Popen[str], method: str, params: dict[str, Any], number: int = 1) -> dict[str, Any]:
    """Send a request by hand and return the answer."""
    send(process, {"id": number, "method": method, "params": params})
    assert process.stdout is not None
    while line := process.stdout.readline():
        answer = json.loads(line)
        if answer.get("id") == number:
            return answer
    raise AssertionError("no answer")


def send(process: subprocess.Popen[str], message: dict[str, Any]) -> None:
    assert process.stdin is not None
    process.stdin.write(json.dumps({"jsonrpc": "2.0", **message}) + "\n")
    process.stdin.flush()


def greet(process: subprocess.Popen[str]) -> dict[str, Any]:
    """Do the handshake."""
    answer = ask(process, "initialize", HELLO)
    send(process, {"method": "notifications/initialized"})
    return answer


def is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    state = Path(f"/proc/{pid}/stat")
    return not state.exists() or ") Z " not in state.read_text()
