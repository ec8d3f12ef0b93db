"""See a real MCP server behind a policy.

The real `clearml-mcp` server runs unmodified as a child process. A guard stands in front of it, and a real MCP client
talks to the guard. Only the ClearML API, without which the server has nothing to say, is a small stand-in. Nothing
leaves this machine. Every step checks itself; the exit status is 0 only if all of them went as they should.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from mcp_policy.answer import META_KEY
from mcp_policy.engine import PolicyEngine
from mcp_policy.policy import Policy

from ._clearml_api import TASKS, ClearMLApi, clearml_api
from ._story import Story

if TYPE_CHECKING:
    from fastmcp import Client

TOOL: Final = "get_task_metrics"
SEED: Final[dict[str, Any]] = {"version": "1", "default": "deny", "tools": {TOOL: {}}}
LIMITED: Final[dict[str, Any]] = {**SEED, "tools": {TOOL: {"rate_limit": {"max": 10, "window": 60}}}}
ASKING: Final[dict[str, Any]] = {**SEED, "tools": {TOOL: {"action": "approve"}}}

_NEEDS: Final = {"fastmcp": "fastmcp", "clearml_mcp": "clearml-mcp", "clearml": "clearml"}
_SERVER: Final = ["-m", "clearml_mcp.clearml_mcp"]
_SECONDS: Final = 60


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's options."""
    parser.add_argument("-v", "--verbose", action="store_true", help="show what the server and the libraries log")


def run(arguments: argparse.Namespace) -> int:
    """Tell the story and return the exit status."""
    missing = [name for module, name in _NEEDS.items() if find_spec(module) is None]
    if missing:
        print(f'the demo needs {", ".join(missing)}: pip install "mcp-policy[demo]"', file=sys.stderr)
        return 1
    story = Story()
    try:
        asyncio.run(_within_reason(story, verbose=arguments.verbose))
    except KeyboardInterrupt:
        return 130
    story.end()
    return 0 if story.right else 1


async def _within_reason(story: Story, *, verbose: bool) -> None:
    try:
        async with asyncio.timeout(_SECONDS):
            await _tell(story, verbose=verbose)
    except Exception as error:
        if verbose:
            raise
        story.check(False, f"the demo stopped: {type(error).__name__}: {error} (run it with `-v` to see more)")


async def _tell(story: Story, *, verbose: bool) -> None:
    story.title("A real MCP server behind a policy")
    engine = PolicyEngine(Policy.model_validate(SEED))
    with clearml_api() as api:
        async with _guarded_server(engine, api, story, verbose=verbose) as client:
            stage = Stage(story, engine, client, api)
            await _list(stage)
            await _allow(stage)
            await _deny(stage)
            await _limit(stage)
            await _approve(stage)


@asynccontextmanager
async def _guarded_server(
    engine: PolicyEngine, api: ClearMLApi, story: Story, *, verbose: bool
) -> AsyncIterator[Client[Any]]:
    """Start the real server as a child process, put the guard in front of it, and connect a client to the guard."""
    from fastmcp import Client
    from fastmcp.client.transports import StdioTransport
    from fastmcp.server import create_proxy

    from mcp_policy.adapters.fastmcp import PolicyMiddleware

    if not verbose:
        logging.getLogger("fastmcp").setLevel(logging.CRITICAL)
    with tempfile.TemporaryDirectory() as home:
        log = None if verbose else Path(os.devnull)
        child = StdioTransport(sys.executable, _SERVER, env=_environment(api, home), keep_alive=False, log_file=log)
        story.note("api", f"stand-in for the ClearML API, {api.url}, in this process")
        story.note("server", f"clearml-mcp {version('clearml-mcp')}, unmodified: python {' '.join(_SERVER)}")
        async with Client(child) as upstream:
            everything = await upstream.list_tools()
            story.note("", f"a child process over stdio, {len(everything)} tools")
            guard = create_proxy(upstream, name="clearml-mcp")
            guard.add_middleware(PolicyMiddleware(engine))
            story.note("guard", "fastmcp proxy with `PolicyMiddleware(engine)`, in this process")
            async with Client(guard) as client:
                story.note("client", f"fastmcp {version('fastmcp')} client, MCP {client.protocol_version}")
                yield client


def _environment(api: ClearMLApi, home: str) -> dict[str, str]:
    """Return the child's environment: the stand-in instead of the user's own ClearML configuration, and no chatter."""
    quiet = {"FASTMCP_SHOW_SERVER_BANNER": "false", "FASTMCP_CHECK_FOR_UPDATES": "off"}
    private = {"HOME": home, "USERPROFILE": home, "CLEARML_CONFIG_FILE": str(Path(home) / "clearml.conf")}
    return {**quiet, **private, **api.environment}


class Said(NamedTuple):
    """What came back from one call."""

    is_error: bool
    text: str
    facts: dict[str, Any]
    data: Any


class Stage(NamedTuple):
    """All who take part."""

    story: Story
    engine: PolicyEngine
    client: Client[Any]
    api: ClearMLApi

    async def call(self, tool: str, arguments: dict[str, Any], *, silent: bool = False) -> Said:
        """Call a tool as the agent would, and print call and answer."""
        result = await self.client.call_tool_mcp(tool, arguments, timeout=30)
        text = " ".join(getattr(part, "text", "") for part in result.content)
        facts = (result.meta or {}).get(META_KEY, {})
        if not silent:
            self.story.note("call", f"{tool}({', '.join(f'{key}={value!r}' for key, value in arguments.items())})")
            self.story.note("answer", text)
        return Said(result.is_error, text, facts, result.structured_content)

    def policy(self, document: dict[str, Any]) -> None:
        """Put another policy in force."""
        self.story.note("policy", document)
        self.engine.reload(Policy.model_validate(document))

    def reached(self, before: int) -> bool:
        """Return whether the ClearML API was asked since `before`: whether a call got through to the server."""
        return len(self.api.requests) > before


FIRST, SECOND = TASKS


async def _list(stage: Stage) -> None:
    stage.story.step("What the policy does not list does not show")
    stage.story.note("policy", SEED)
    tools = [tool.name for tool in await stage.client.list_tools()]
    stage.story.note("list", ", ".join(tools))
    stage.story.check(tools == [TOOL], "the client lists one tool")


async def _allow(stage: Stage) -> None:
    stage.story.step("A listed tool runs")
    before = len(stage.api.requests)
    said = await stage.call(TOOL, {"task_id": FIRST})
    real = not said.is_error and isinstance(said.data, dict) and "loss" in said.data
    stage.story.check(real and stage.reached(before), "the server answered with the task's metrics")


async def _deny(stage: Stage) -> None:
    stage.story.step("Everything else is refused, with a reason")
    before = len(stage.api.requests)
    said = await stage.call("list_projects", {})
    told = said.is_error and said.text.startswith("[POLICY DENIED] ") and said.facts.get("effect") == "deny"
    stage.story.check(told and not stage.reached(before), "the agent is told why, and the server was never asked")


async def _limit(stage: Stage) -> None:
    stage.story.step("Ten calls a minute, and not one more")
    stage.policy(LIMITED)
    ran = [await stage.call(TOOL, {"task_id": FIRST}, silent=True) for _ in range(10)]
    stage.story.check(not any(said.is_error for said in ran), "ten calls ran")
    before = len(stage.api.requests)
    said = await stage.call(TOOL, {"task_id": FIRST})
    told = said.is_error and said.text.startswith("[POLICY LIMIT] ") and " Retry in " in said.text
    soon = 0 < said.facts.get("retry_after", 0) <= 60
    stage.story.check(told and soon and not stage.reached(before), "the eleventh did not, and was told when to retry")


async def _approve(stage: Stage) -> None:
    stage.story.step("A call that a person has to approve")
    stage.policy(ASKING)
    before = len(stage.api.requests)
    said = await stage.call(TOOL, {"task_id": FIRST})
    approval = said.facts.get("approval_id", "")
    asked = said.text.startswith("[POLICY APPROVAL REQUIRED] ") and approval != "" and approval in said.text
    stage.story.check(asked and not stage.reached(before), "the call waits for approval")
    stage.engine.approve(approval, by="reviewer")
    stage.story.note("reviewer", f"approves {approval}")

    changed = await stage.call(TOOL, {"task_id": SECOND})
    other = changed.is_error and changed.facts.get("approval_id") not in {None, approval}
    stage.story.check(other and not stage.reached(before), "a call with other arguments is not that call")

    same = await stage.call(TOOL, {"task_id": FIRST})
    stage.story.check(not same.is_error and stage.reached(before), "exactly the approved call runs")

    before = len(stage.api.requests)
    again = await stage.call(TOOL, {"task_id": FIRST})
    spent = again.is_error and again.facts.get("effect") == "approve"
    stage.story.check(spent and not stage.reached(before), "once: the approval is used up")
