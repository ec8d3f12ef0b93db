"""Records for tests: made quickly, read back, and spoilt in every way."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

from mcp_policy import Principal, ToolCall
from mcp_policy.audit import Decided
from mcp_policy.audit.chain import Head, Line, Report, keys, read_head, verify
from mcp_policy.audit.jsonl import JsonLinesSink, set_aside
from mcp_policy.decision import Decision, Effect, Reason, ReasonCode

KEY = b"a key of at least 32 characters, for tests"
ALLOWED = Decision(Effect.ALLOW, (Reason(ReasonCode.ALLOWED, "it is allowed", "/tools/read"),))


def event(arguments: Any = None, *, tool: str = "read", decision: Decision = ALLOWED, **more: Any) -> Decided:
    call = ToolCall(tool, {"a": 1} if arguments is None else arguments, **more)
    return Decided(call, decision, "0" * 64, 0.000_012)


def sink(path: Path, **settings: Any) -> JsonLinesSink:
    return JsonLinesSink(path, key=KEY, **{"clock": lambda: 1_700_000_000.25, **settings})


def written(path: Path, count: int, **settings: Any) -> Path:
    """Make a record of `count` decisions."""
    with sink(path, **settings) as audit:
        for number in range(count):
            audit.record(event({"n": number}, session="s", principal=Principal("ann")))
    return path


def read(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for file in files(path) for line in file.read_bytes().splitlines()]


def files(path: Path) -> list[Path]:
    return [*set_aside(path), path]


def head_of(path: Path) -> bytes:
    return Path(f"{path}.head").read_bytes()


def verified(path: Path, key: bytes = KEY, **settings: Any) -> Report:
    """Verify a record with all its files."""
    return check({file.name: file.read_bytes() for file in files(path)}, head_of(path), key, **settings)


def check(contents: dict[str, bytes], head: bytes, key: bytes = KEY, **settings: Any) -> Report:
    """Verify the contents of files, in order."""
    lines = (
        Line(name, number, line.removesuffix(b"\n"), line.endswith(b"\n"))
        for name, content in contents.items()
        for number, line in enumerate(io.BytesIO(content), 1)
    )
    made: Head | None = read_head(keys(key).head, head)
    return verify(lines, keys(key), made, **settings)
