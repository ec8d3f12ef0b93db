"""What the integration tests share: engines from a few rules, and answers as they stand on the wire."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from mcp_policy.answer import META_KEY
from mcp_policy.engine import PolicyEngine
from mcp_policy.policy import Policy

HANDSHAKE, MODERN = "legacy", "2026-07-28"
ERAS = [HANDSHAKE, MODERN]


class Recorder(PolicyEngine):
    """An engine that keeps what it was asked."""

    def __init__(self, tools: Any = None, *, clock: Callable[[], float] = lambda: 1000.0, **top: Any) -> None:
        document = {"version": "1", **({"default": "allow"} if tools is None else {"tools": tools}), **top}
        super().__init__(Policy.model_validate(document), clock=clock)
        self.calls: list[Any] = []
        self.seen: list[Any] = []

    @property
    def judged(self) -> dict[str, Any]:
        return self.calls[-1].arguments

    def authorize(self, call):
        self.calls.append(call)
        return super().authorize(call)

    async def authorize_async(self, call):
        self.calls.append(call)
        return await super().authorize_async(call)

    def visible(self, call):
        self.seen.append(call)
        return super().visible(call)


def wire(result: Any) -> Any:
    """Return a result as it stands on the wire."""
    return json.loads(result.model_dump_json(by_alias=True, exclude_none=True))


def text(result: Any) -> str:
    """Return the text of a result."""
    return "".join(part.text for part in result.content)


def facts(result: Any) -> dict[str, Any] | None:
    """Return the machine-readable decision beside a refusal."""
    return (result.meta or {}).get(META_KEY)


def refused(result: Any, effect: str, *codes: str) -> str:
    """Check that a result is a refusal in the one form that all clients can read, and return its text."""
    told = facts(result)
    assert result.is_error is True
    assert result.structured_content is None
    assert [part.type for part in result.content] == ["text"]
    assert told is not None
    assert told["effect"] == effect
    assert told["codes"] == list(codes)
    return text(result)


def same_as(result: Any, other: Any) -> bool:
    """Return whether two results are the same, byte for byte."""
    return result.model_dump_json(by_alias=True) == other.model_dump_json(by_alias=True)


async def listed_by(client: Any) -> list[str]:
    """Return the names of the tools that a client is shown."""
    return [tool.name for tool in (await client.list_tools()).tools]
