"""A server with everything that the official conformance suite asks of one, built with the 2.x SDK; it knows no policy."""

from __future__ import annotations

import base64
from typing import Any, Literal

import mcp_types as types
from mcp.server.mcpserver import Context, MCPServer
from mcp.server.mcpserver.prompts.base import UserMessage
from pydantic import BaseModel, Field

PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
SILENCE = base64.b64encode(b"RIFF$\x00\x00\x00WAVEfmt \x10\x00\x00\x00\x01\x00\x01\x00").decode()


class Answer(BaseModel):
    """What a user is asked for."""

    username: str = Field(default="", description="your name")
    email: str = Field(default="", description="your address")


class Defaults(BaseModel):
    """Fields that have values already."""

    name: str = "John Doe"
    age: int = 30
    score: float = 95.5
    status: Literal["active", "inactive", "pending"] = "active"
    verified: bool = True


class Enums(BaseModel):
    """A choice."""

    untitled: Literal["option1", "option2", "option3"] = "option1"


class Address(BaseModel):
    """Where somebody lives."""

    street: str = ""
    city: str = ""


def server() -> MCPServer:
    """Return the server."""
    made = MCPServer("conformance", log_level="CRITICAL")
    _tools(made)
    _talking_tools(made)
    _resources(made)
    _prompts(made)
    return made


def _embedded() -> types.EmbeddedResource:
    text = types.TextResourceContents(uri="test://embedded", mime_type="text/plain", text="embedded text")
    return types.EmbeddedResource(type="resource", resource=text)


def _tools(made: MCPServer) -> None:
    def test_simple_text() -> str:
        return "This is a simple text response for testing."

    def test_image_content() -> types.ImageContent:
        return types.ImageContent(type="image", data=PIXEL, mime_type="image/png")

    def test_audio_content() -> types.AudioContent:
        return types.AudioContent(type="audio", data=SILENCE, mime_type="audio/wav")

    def test_multiple_content_types() -> list[Any]:
        return [types.TextContent(type="text", text="Multiple content types test:"), test_image_content(), _embedded()]

    def test_error_handling() -> str:
        raise RuntimeError("This tool intentionally returns an error for testing")

    for tool in (test_simple_text, test_image_content, test_audio_content, test_multiple_content_types):
        made.add_tool(tool, description=tool.__name__, structured_output=False)
    made.add_tool(_embedded, name="test_embedded_resource", description="a resource", structured_output=False)
    made.add_tool(test_error_handling, description="fails")


def _talking_tools(made: MCPServer) -> None:
    async def test_tool_with_logging(ctx: Context) -> str:
        for text in ("Tool execution started", "Tool processing data", "Tool execution completed"):
            await ctx.session.send_log_message("info", text, related_request_id=ctx.request_id)
        return "logged"

    async def test_tool_with_progress(ctx: Context) -> str:
        for done in (0, 50, 100):
            await ctx.report_progress(done, 100)
        return "done"

    async def test_sampling(prompt: str, ctx: Context) -> str:
        message = types.SamplingMessage(role="user", content=types.TextContent(type="text", text=prompt))
        answer = await ctx.session.create_message([message], max_tokens=100, related_request_id=ctx.request_id)
        return f"LLM response: {answer.content}"

    async def test_elicitation(message: str, ctx: Context) -> str:
        answer = await ctx.elicit(message, Answer)
        return f"User response: {answer.action}"

    async def test_reconnection(ctx: Context) -> str:
        return "Reconnection test completed successfully"

    async def test_elicitation_sep1330_enums(ctx: Context) -> str:
        answer = await ctx.elicit("choose", Enums)
        return f"Elicitation completed: {answer.action}"

    async def json_schema_2020_12_tool(name: str = "", address: Address | None = None) -> str:
        return f"{name} {address}"

    async def test_elicitation_sep1034_defaults(ctx: Context) -> str:
        answer = await ctx.elicit("please look at the defaults", Defaults)
        return f"Elicitation completed: {answer.action}"

    for tool in (
        test_tool_with_logging,
        test_tool_with_progress,
        test_sampling,
        test_elicitation,
        test_reconnection,
        test_elicitation_sep1330_enums,
        json_schema_2020_12_tool,
        test_elicitation_sep1034_defaults,
    ):
        made.add_tool(tool, description=tool.__name__)


def _resources(made: MCPServer) -> None:
    @made.resource("test://static-text", mime_type="text/plain")
    def text() -> str:
        return "This is the content of the static text resource."

    @made.resource("test://static-binary", mime_type="image/png")
    def binary() -> bytes:
        return base64.b64decode(PIXEL)

    @made.resource("test://template/{id}/data", mime_type="application/json")
    def template(id: str) -> str:
        return f'{{"id": "{id}", "templateTest": true}}'


def _prompts(made: MCPServer) -> None:
    @made.prompt(description="a prompt")
    def test_simple_prompt() -> str:
        return "This is a simple prompt for testing."

    @made.prompt(description="a prompt")
    def test_prompt_with_arguments(arg1: str, arg2: str) -> str:
        return f"Prompt with arguments: arg1='{arg1}', arg2='{arg2}'"

    @made.prompt(description="a prompt")
    def test_prompt_with_embedded_resource(resourceUri: str) -> list[Any]:  # noqa: N803  # the suite's name
        return [UserMessage(_embedded()), UserMessage(f"see {resourceUri}")]

    @made.prompt(description="a prompt")
    def test_prompt_with_image() -> list[Any]:
        return [UserMessage(types.ImageContent(type="image", data=PIXEL, mime_type="image/png"))]

    @made.completion()
    async def complete(ref: Any, argument: Any, context: Any) -> types.Completion:
        return types.Completion(values=["one", "two"])
