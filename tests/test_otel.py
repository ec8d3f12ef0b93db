"""Decisions as spans and metrics, through OpenTelemetry's own SDK."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from mcp_policy import Policy, PolicyEngine, Principal, ToolCall
from mcp_policy.audit.otel import MAX_NAMES, OTHER, OpenTelemetrySink

POLICY = Policy.model_validate(
    {
        "version": "1",
        "hide": ["secret_*"],
        "tools": {
            "ls": {"rate_limit": {"max": 1, "window": 60}},
            "read_*": {},
            "rm": {"deny_if": [{"path": "args.path", "op": "starts_with", "value": "/etc", "reason": "not in /etc"}]},
            "pay": {"action": "approve"},
            "tried": {"mode": "shadow", "deny_if": [{"path": "args.path", "op": "exists", "value": True}]},
        },
    }
)


class World:
    """An engine that reports to OpenTelemetry, and what arrives there."""

    def __init__(self, policy: Policy | None = POLICY) -> None:
        self.spans_kept, self.reader = InMemorySpanExporter(), InMemoryMetricReader()
        self.tracers = TracerProvider(shutdown_on_exit=False)
        self.tracers.add_span_processor(SimpleSpanProcessor(self.spans_kept))
        self.meters = MeterProvider([self.reader], shutdown_on_exit=False)
        self.engine = PolicyEngine(policy, audit=OpenTelemetrySink(self.tracers, self.meters), clock=lambda: 0.0)

    def close(self) -> None:
        self.tracers.shutdown()
        self.meters.shutdown()

    def call(self, tool: str, server: str | None = "files", **arguments: Any) -> bool:
        return self.engine.authorize(ToolCall(tool, arguments, session="hush", server=server)).allowed

    @property
    def span(self) -> ReadableSpan:
        return self.spans_kept.get_finished_spans()[-1]

    def points(self, name: str) -> list[Any]:
        data = self.reader.get_metrics_data()
        assert data is not None
        found = [m for r in data.resource_metrics for s in r.scope_metrics for m in s.metrics if m.name == name]
        return [point for metric in found for point in metric.data.data_points]

    def counts(self, name: str = "mcp_policy.decisions", key: str = "gen_ai.tool.name") -> dict[str, int]:
        counted: dict[str, int] = {}
        for point in self.points(name):
            counted[point.attributes[key]] = counted.get(point.attributes[key], 0) + point.value
        return counted


@pytest.fixture
def world() -> Iterator[World]:
    made = World()
    yield made
    made.close()


# -- spans


def test_an_allowed_call_is_a_span(world: World) -> None:
    assert world.call("ls")
    assert (world.span.name, world.span.kind) == ("execute_tool ls", SpanKind.INTERNAL)
    assert world.span.status.status_code is StatusCode.UNSET
    assert dict(world.span.attributes or {}) == {
        "gen_ai.operation.name": "execute_tool",
        "mcp.method.name": "tools/call",
        "gen_ai.tool.name": "ls",
        "mcp_policy.server": "files",
        "mcp_policy.effect": "allow",
        "mcp_policy.codes": ("allowed",),
        "mcp_policy.rules": ("/tools/ls",),
        "mcp_policy.policy": POLICY.digest,
    }


@pytest.mark.parametrize(
    ("tool", "arguments", "effect", "code", "rule"),
    [
        ("rm", {"path": "/etc/passwd"}, "deny", "deny_if", "/tools/rm/deny_if/0"),
        ("rm", {"path": 1}, "deny", "type_mismatch", "/tools/rm/deny_if/0"),
        ("pay", {}, "approve", "approval_required", "/tools/pay"),
        ("secret_x", {}, "deny", "hidden", "/hide/0"),
    ],
    ids=["denied", "wrong type", "to be approved", "hidden"],
)
def test_what_stops_a_call_is_the_type_of_an_error(
    world: World, tool: str, arguments: dict[str, Any], effect: str, code: str, rule: str
) -> None:
    assert not world.call(tool, **arguments)
    attributes = world.span.attributes or {}
    assert (attributes["mcp_policy.effect"], attributes["error.type"]) == (effect, code)
    assert attributes["mcp_policy.rules"] == (rule,)
    assert world.span.status.status_code is StatusCode.ERROR
    assert world.span.status.description is None


def test_a_used_up_limit_is_one_too(world: World) -> None:
    world.call("ls")
    world.call("ls")
    attributes = world.span.attributes or {}
    assert (attributes["mcp_policy.effect"], attributes["error.type"]) == ("limit", "rate_limited")


def test_a_shadow_rule_says_what_would_be(world: World) -> None:
    assert world.call("rm", path="x")
    assert "mcp_policy.would_be" not in (world.span.attributes or {})
    assert world.call("tried", path="x")
    assert (world.span.attributes or {})["mcp_policy.would_be"] == "deny"


def test_without_a_policy_there_is_no_digest_of_one() -> None:
    world = World(None)
    assert not world.call("ls")
    assert "mcp_policy.policy" not in (world.span.attributes or {})
    assert (world.span.attributes or {})["error.type"] == "no_policy"
    world.close()


def test_a_span_is_the_child_of_the_current_one_and_takes_as_long_as_deciding(world: World) -> None:
    with world.tracers.get_tracer("host").start_as_current_span("a request") as parent:
        world.call("ls")
        (span,) = world.spans_kept.get_finished_spans()
    assert span.parent is not None
    assert span.parent.span_id == parent.get_span_context().span_id
    assert span.start_time is not None
    assert span.end_time is not None
    (point,) = world.points("mcp_policy.decision.duration")
    assert (span.end_time - span.start_time) / 1e9 == pytest.approx(point.sum, abs=2e-9)


def test_nothing_of_a_call_is_sent_that_is_not_for_everybody(world: World) -> None:
    caller = Principal("ann@example.org", issuer="idp", client="cli", claims={"team": "t-7"})
    world.engine.authorize(ToolCall("rm", {"path": "/etc/hush"}, session="hush", principal=caller))
    sent = world.span.to_json() + repr([world.points(n) for n in ("mcp_policy.decisions",)])
    for secret in ("hush", "ann@", "idp", "t-7", "not in /etc", "args.path"):
        assert secret not in sent


@pytest.mark.parametrize("name", ["\ud800", "x" * 1_000, "two\nlines"], ids=["surrogate", "long", "lines"])
def test_a_name_that_a_caller_invents_can_be_sent(world: World, name: str) -> None:
    world.call(name)
    sent = (world.span.attributes or {})["gen_ai.tool.name"]
    assert isinstance(sent, str)
    assert len(sent.encode()) < 300
    assert sent.isprintable()
    assert world.span.name == "execute_tool"


# -- metrics


def test_decisions_are_counted_by_what_became_of_them(world: World) -> None:
    for path in ("/etc/a", "/etc/b", "/tmp/c"):
        world.call("rm", path=path)
    found = {tuple(sorted(point.attributes.items())): point.value for point in world.points("mcp_policy.decisions")}
    shared = {"gen_ai.tool.name": "rm", "mcp_policy.server": "files"}
    assert found == {
        tuple(sorted({**shared, "mcp_policy.effect": "deny", "mcp_policy.code": "deny_if"}.items())): 2,
        tuple(sorted({**shared, "mcp_policy.effect": "allow", "mcp_policy.code": "allowed"}.items())): 1,
    }


def test_durations_are_in_seconds(world: World) -> None:
    world.call("ls")
    (point,) = world.points("mcp_policy.decision.duration")
    assert point.count == 1
    assert 0 < point.sum < 10
    assert dict(point.attributes) == {"mcp_policy.effect": "allow"}
    assert point.explicit_bounds[0] < 1e-5


@pytest.mark.parametrize(
    "document",
    [
        {"version": "1"},
        {"version": "1", "default": "allow"},
        {"version": "1", "hide": ["*"]},
        {"version": "1", "default": "allow", "all_tools": {"action": "deny"}},
        {"version": "1", "tools": {"*": {}}},
        None,
    ],
    ids=["unlisted", "allowed by default", "hidden", "denied with all", "a pattern", "no policy"],
)
def test_invented_names_make_no_series_of_their_own(document: dict[str, Any] | None) -> None:
    world = World(None if document is None else Policy.model_validate(document))
    for number in range(MAX_NAMES + 300):
        world.call(f"invented_{number}")
    counts = world.counts()
    assert sum(counts.values()) == MAX_NAMES + 300
    assert counts[OTHER] >= 300
    assert len(counts) <= MAX_NAMES + 1
    world.close()


def test_servers_are_bounded_as_well_and_told_apart_where_the_tool_is_not() -> None:
    world = World()
    for number in range(MAX_NAMES + 300):
        world.call("rm" if number % 2 else "nope", server=f"server_{number}")
    servers = world.counts(key="mcp_policy.server")
    assert sum(servers.values()) == MAX_NAMES + 300
    assert servers.pop(OTHER) == 300
    assert set(servers.values()) == {1}
    assert world.counts() == {"rm": (MAX_NAMES + 300) // 2, OTHER: (MAX_NAMES + 300) // 2}
    world.close()


def test_a_call_without_a_server_has_none(world: World) -> None:
    world.call("ls", server=None)
    assert "mcp_policy.server" not in (world.span.attributes or {})
    (point,) = world.points("mcp_policy.decisions")
    assert "mcp_policy.server" not in point.attributes


def test_a_malformed_call_is_counted_as_any_other(world: World) -> None:
    malformed: Any = 5
    world.engine.authorize(ToolCall(malformed, session="s"))
    assert (world.span.attributes or {})["error.type"] == "invalid_call"
    assert world.counts() == {OTHER: 1}
    assert world.engine.unrecorded == 0


def test_answers_of_people_are_counted(world: World) -> None:
    for number in range(3):
        waiting = world.engine.authorize(ToolCall("pay", {"n": number}, session="s")).approval
        assert waiting is not None
        (world.engine.approve if number else world.engine.reject)(waiting.id, by="ann", note="hush")
    assert world.counts("mcp_policy.approvals.answered", "mcp_policy.answer") == {"approved": 2, "rejected": 1}
    assert world.counts("mcp_policy.approvals.answered") == {"pay": 3}


# -- what does not matter


class Broken(SpanExporter):
    """An exporter that always fails."""

    def export(self, spans: Any) -> SpanExportResult:
        raise OSError("nobody is there")

    def shutdown(self) -> None:
        pass


def test_an_exporter_that_fails_changes_no_decision(caplog: pytest.LogCaptureFixture) -> None:
    tracers = TracerProvider(shutdown_on_exit=False)
    tracers.add_span_processor(SimpleSpanProcessor(Broken()))
    engine = PolicyEngine(POLICY, audit=OpenTelemetrySink(tracers), audit_required=True)
    assert engine.authorize(ToolCall("ls", session="s")).allowed
    assert not engine.authorize(ToolCall("nope", session="s")).allowed
    assert engine.unrecorded == 0
    assert caplog.records  # the SDK says so
    tracers.shutdown()


def test_without_an_sdk_nothing_is_sent_and_all_is_decided() -> None:
    engine = PolicyEngine(POLICY, audit=OpenTelemetrySink(), audit_required=True)
    assert engine.authorize(ToolCall("ls", session="s")).allowed


def test_the_missing_extra_is_named() -> None:
    code = "import sys; sys.modules['opentelemetry'] = None; import mcp_policy.audit.otel"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert 'ImportError: spans and metrics need OpenTelemetry: pip install "mcp-policy[otel]"' in done.stderr
