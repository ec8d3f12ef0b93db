"""The server that the official conformance suite asks for: its tools, resources and prompts, on the lowlevel SDK."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

import mcp_types as types
from mcp.server.lowlevel import Server
from mcp.server.streamable_http import EventCallback, EventMessage, EventStore

from stacks.world import NAME

PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mP8z8BQDwAEhQGAhKmMIQAAAABJRU5ErkJggg=="
WAV = "UklGRiQAAABXQVZFZm10IBAAAAABAAEAQB8AAEAfAAABAAgAZGF0YQAAAAA="
_PAUSE = 0.05  # seconds, as the suite asks: what is sent on the way is to arrive on the way

Content = dict[str, Any]
Tool = Callable[[Any, dict[str, Any]], Awaitable[list[Content]]]


def text(said: str) -> Content:
    return {"type": "text", "text": said}


IMAGE: Content = {"type": "image", "data": PNG, "mimeType": "image/png"}
AUDIO: Content = {"type": "audio", "data": WAV, "mimeType": "audio/wav"}


def resource(uri: str, kind: str, said: str) -> Content:
    return {"type": "resource", "resource": {"uri": uri, "mimeType": kind, "text": said}}


def always(*content: Content) -> Tool:
    async def tool(ctx: Any, arguments: dict[str, Any]) -> list[Content]:
        return list(content)

    return tool


async def fails(ctx: Any, arguments: dict[str, Any]) -> list[Content]:
    raise RuntimeError("This tool intentionally returns an error for testing")


async def logs(ctx: Any, arguments: dict[str, Any]) -> list[Content]:
    for line in ("Tool execution started", "Tool processing data", "Tool execution completed"):
        await ctx.session.send_log_message("info", line, related_request_id=ctx.request_id)
        await asyncio.sleep(_PAUSE)
    return [text("logged")]


async def progresses(ctx: Any, arguments: dict[str, Any]) -> list[Content]:
    for done in (0, 50, 100):
        await ctx.session.report_progress(done, 100)
        await asyncio.sleep(_PAUSE)
    return [text("done")]


async def samples(ctx: Any, arguments: dict[str, Any]) -> list[Content]:
    content = types.TextContent(type="text", text=arguments["prompt"])
    message = types.SamplingMessage(role="user", content=content)
    answer = await ctx.session.create_message([message], max_tokens=100, related_request_id=ctx.request_id)
    return [text(f"LLM response: {answer.content.text}")]


def elicits(**properties: Any) -> Tool:
    async def tool(ctx: Any, arguments: dict[str, Any]) -> list[Content]:
        schema = {
            "type": "object",
            "properties": properties,
            "required": ["username"] if "username" in properties else [],
        }
        answer = await ctx.session.elicit_form(arguments.get("message", "please"), schema, ctx.request_id)
        said = f"action={answer.action}, content={json.dumps(answer.content)}"
        return [text(f"User response: {said}" if "message" in arguments else f"Elicitation completed: {said}")]

    return tool


async def reconnects(ctx: Any, arguments: dict[str, Any]) -> list[Content]:
    if ctx.close_sse_stream is not None:
        await ctx.close_sse_stream()
    await asyncio.sleep(_PAUSE)
    return [text("Reconnection test completed successfully. If you received this, the client properly reconnected.")]


def titled(*values: str) -> list[dict[str, str]]:
    return [{"const": value, "title": f"The {value}"} for value in values]


_OPTIONS = ["option1", "option2", "option3"]
TOOLS: dict[str, Tool] = {
    "test_simple_text": always(text("This is a simple text response for testing.")),
    "test_image_content": always(IMAGE),
    "test_audio_content": always(AUDIO),
    "test_embedded_resource": always(
        resource("test://embedded-resource", "text/plain", "This is an embedded resource content.")
    ),
    "test_multiple_content_types": always(
        text("Multiple content types test:"),
        IMAGE,
        resource("test://mixed-content-resource", "application/json", '{"test":"data","value":123}'),
    ),
    "test_tool_with_logging": logs,
    "test_tool_with_progress": progresses,
    "test_error_handling": fails,
    "test_sampling": samples,
    "test_elicitation": elicits(username={"type": "string"}, email={"type": "string"}),
    "test_elicitation_sep1034_defaults": elicits(
        name={"type": "string", "default": "John Doe"},
        age={"type": "integer", "default": 30},
        score={"type": "number", "default": 95.5},
        status={"type": "string", "enum": ["active", "inactive", "pending"], "default": "active"},
        verified={"type": "boolean", "default": True},
    ),
    "test_elicitation_sep1330_enums": elicits(
        untitledSingle={"type": "string", "enum": _OPTIONS},
        titledSingle={"type": "string", "oneOf": titled("value1", "value2", "value3")},
        legacyEnum={"type": "string", "enum": ["opt1", "opt2"], "enumNames": ["Option One", "Option Two"]},
        untitledMulti={"type": "array", "items": {"type": "string", "enum": _OPTIONS}},
        titledMulti={"type": "array", "items": {"anyOf": titled("value1", "value2", "value3")}},
    ),
    "test_reconnection": reconnects,
    "json_schema_2020_12_tool": always(text("fine")),
}
_SCHEMAS: dict[str, Any] = {
    "test_sampling": {"properties": {"prompt": {"type": "string"}}, "required": ["prompt"]},
    "test_elicitation": {"properties": {"message": {"type": "string"}}, "required": ["message"]},
    "json_schema_2020_12_tool": {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$defs": {
            "address": {
                "type": "object",
                "properties": {"street": {"type": "string"}, "city": {"type": "string"}},
            }
        },
        "properties": {"name": {"type": "string"}, "address": {"$ref": "#/$defs/address"}},
        "additionalProperties": False,
    },
}
RESOURCES = {
    "test://static-text": {"mimeType": "text/plain", "text": "This is the content of the static text resource."},
    "test://static-binary": {"mimeType": "image/png", "blob": PNG},
    "test://watched-resource": {"mimeType": "text/plain", "text": "watched"},
}
PROMPTS: dict[str, tuple[list[str], Callable[..., list[Content]]]] = {
    "test_simple_prompt": ([], lambda: [text("This is a simple prompt for testing.")]),
    "test_prompt_with_arguments": (
        ["arg1", "arg2"],
        lambda arg1, arg2: [text(f"Prompt with arguments: arg1='{arg1}', arg2='{arg2}'")],
    ),
    "test_prompt_with_embedded_resource": (
        ["resourceUri"],
        lambda resourceUri: [  # noqa: N803  # its name in the protocol
            resource(resourceUri, "text/plain", "Embedded resource content for testing."),
            text("Please process the embedded resource above."),
        ],
    ),
    "test_prompt_with_image": ([], lambda: [IMAGE, text("Please analyze the image above.")]),
}


def make() -> Server[Any]:
    """Return the server."""

    async def list_tools(ctx: Any, params: Any) -> Any:
        listed = [
            {"name": n, "description": n, "inputSchema": {"type": "object", **_SCHEMAS.get(n, {})}} for n in TOOLS
        ]
        return types.ListToolsResult.model_validate({"tools": listed})

    async def call_tool(ctx: Any, params: Any) -> Any:
        try:
            found = {"content": await TOOLS[params.name](ctx, params.arguments or {})}
        except Exception as error:  # noqa: BLE001  # the answer says so
            found = {"content": [text(str(error))], "isError": True}
        return types.CallToolResult.model_validate(found)

    async def list_resources(ctx: Any, params: Any) -> Any:
        listed = [
            {"uri": uri, "name": uri, "description": uri, "mimeType": it["mimeType"]} for uri, it in RESOURCES.items()
        ]
        return types.ListResourcesResult.model_validate({"resources": listed})

    async def list_templates(ctx: Any, params: Any) -> Any:
        listed = [{"uriTemplate": "test://template/{id}/data", "name": "template", "description": "a template"}]
        return types.ListResourceTemplatesResult.model_validate({"resourceTemplates": listed})

    async def read_resource(ctx: Any, params: Any) -> Any:
        uri = str(params.uri)
        id = uri.removeprefix("test://template/").removesuffix("/data")
        said = json.dumps({"id": id, "templateTest": True, "data": f"Data for ID: {id}"})
        found = RESOURCES.get(uri, {"mimeType": "application/json", "text": said})
        return types.ReadResourceResult.model_validate({"contents": [{"uri": uri, **found}]})

    async def list_prompts(ctx: Any, params: Any) -> Any:
        def told(name: str) -> dict[str, Any]:
            return {
                "name": name,
                "description": name,
                "arguments": [{"name": it, "required": True} for it in PROMPTS[name][0]],
            }

        return types.ListPromptsResult.model_validate({"prompts": [told(name) for name in PROMPTS]})

    async def get_prompt(ctx: Any, params: Any) -> Any:
        contents = PROMPTS[params.name][1](**(params.arguments or {}))
        messages = [{"role": "user", "content": content} for content in contents]
        return types.GetPromptResult.model_validate({"messages": messages})

    async def complete(ctx: Any, params: Any) -> Any:
        return types.CompleteResult.model_validate({"completion": {"values": ["paris", "park", "party"]}})

    async def nothing(ctx: Any, params: Any) -> Any:
        return types.EmptyResult()

    return Server(
        NAME,
        on_list_tools=list_tools,
        on_call_tool=call_tool,
        on_list_resources=list_resources,
        on_list_resource_templates=list_templates,
        on_read_resource=read_resource,
        on_subscribe_resource=nothing,
        on_unsubscribe_resource=nothing,
        on_list_prompts=list_prompts,
        on_get_prompt=get_prompt,
        on_completion=complete,
        on_set_logging_level=nothing,
    )


class Events(EventStore):
    """What was sent, so that it can be sent again."""

    def __init__(self) -> None:
        self._sent: list[tuple[str, Any]] = []

    async def store_event(self, stream_id: str, message: Any) -> str:
        self._sent.append((stream_id, message))
        return str(len(self._sent))

    async def replay_events_after(self, last_event_id: str, send_callback: EventCallback) -> str | None:
        stream = self._sent[int(last_event_id) - 1][0]
        for number, (of, message) in enumerate(self._sent, 1):
            if number > int(last_event_id) and of == stream and message is not None:
                await send_callback(EventMessage(message, str(number)))
        return stream


def app(server: Server[Any]) -> Any:
    """Return the server as an ASGI app."""
    return server.streamable_http_app(event_store=Events(), retry_interval=100)
