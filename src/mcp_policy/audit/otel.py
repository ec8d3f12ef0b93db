"""Decisions as OpenTelemetry spans and metrics.

Rules kept here:

* no value of an argument, no message, no identity and no session is sent: sessions are secrets;
* what a caller can invent makes no series of its own: a tool that the policy does not list is counted as `_OTHER`, and
  so is every tool, and every server, after the first `MAX_NAMES`. Texts are sent as one line that every exporter can
  encode;
* attributes have the names of OpenTelemetry's conventions for MCP and for generative AI where there are such, else they
  begin with `mcp_policy.`.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from threading import Lock
from typing import TYPE_CHECKING, Final

from ..decision import ReasonCode
from ..errors import readable
from .event import Answered, Decided, Event

try:
    from opentelemetry import metrics, trace
    from opentelemetry.trace import SpanKind, StatusCode
except ImportError as error:
    raise ImportError('spans and metrics need OpenTelemetry: pip install "mcp-policy[otel]"') from error

if TYPE_CHECKING:
    from opentelemetry.metrics import MeterProvider
    from opentelemetry.trace import TracerProvider

MAX_NAMES: Final = 500
"""How many tools, and how many servers, are counted by their names."""
OTHER: Final = "_OTHER"

_NAME: Final = "mcp_policy"
_OPERATION: Final = "execute_tool"
_MAX_TEXT: Final = 256
_UNLISTED: Final = frozenset(
    {
        ReasonCode.INVALID_CALL,
        ReasonCode.NO_POLICY,
        ReasonCode.HIDDEN,
        ReasonCode.DEFAULT_DENY,
        ReasonCode.DEFAULT_ALLOW,
        ReasonCode.INTERNAL_ERROR,
    }
)
"""Reasons that say of no tool that the policy knows it."""
_SECONDS: Final = (2e-6, 5e-6, 1e-5, 2e-5, 5e-5, 1e-4, 2.5e-4, 5e-4, 1e-3, 2.5e-3, 5e-3, 1e-2, 5e-2, 0.25, 1.0)


class OpenTelemetrySink:
    """Makes a span of each decision, a child of the current one, and counts decisions and answers.

    Without providers the global ones are asked. What becomes of a span is the business of its exporter, which decides
    nothing here.
    """

    def __init__(
        self, tracer_provider: TracerProvider | None = None, meter_provider: MeterProvider | None = None
    ) -> None:
        self._tracer = trace.get_tracer(_NAME, tracer_provider=tracer_provider)
        meter = metrics.get_meter(_NAME, meter_provider=meter_provider)
        self._decisions = meter.create_counter(
            "mcp_policy.decisions", unit="{decision}", description="Decisions on tool calls."
        )
        self._duration = meter.create_histogram(
            "mcp_policy.decision.duration",
            unit="s",
            description="What deciding takes, the stores of limits and approvals included.",
            explicit_bucket_boundaries_advisory=_SECONDS,
        )
        self._answers = meter.create_counter(
            "mcp_policy.approvals.answered", unit="{answer}", description="What people said to calls that waited."
        )
        self._tools, self._servers = _Names(), _Names()

    def record(self, event: Event) -> None:
        """Send an event."""
        if isinstance(event, Decided):
            listed = not any(reason.code in _UNLISTED for reason in event.decision.reasons)
            self._span(event, listed=listed)
            self._count(event, listed=listed)
        else:
            self._answered(event)

    def _span(self, event: Decided, *, listed: bool) -> None:
        end = time.time_ns()
        span = self._tracer.start_span(
            f"{_OPERATION} {_text(event.call.tool)}" if listed else _OPERATION,
            kind=SpanKind.INTERNAL,
            attributes=_attributes(event),
            start_time=end - int(event.seconds * 1e9),
        )
        if not event.decision.allowed:
            span.set_status(StatusCode.ERROR)
        span.end(end)

    def _count(self, event: Decided, *, listed: bool) -> None:
        decision, server = event.decision, event.call.server
        self._decisions.add(
            1,
            {
                "mcp_policy.effect": str(decision.effect),
                "mcp_policy.code": str(decision.reasons[0].code),
                "gen_ai.tool.name": self._tools.bounded(event.call.tool) if listed else OTHER,
                **({"mcp_policy.server": self._servers.bounded(server)} if server else {}),
            },
        )
        self._duration.record(event.seconds, {"mcp_policy.effect": str(decision.effect)})

    def _answered(self, event: Answered) -> None:
        answer = "approved" if event.approved else "rejected"
        attributes = {"mcp_policy.answer": answer, "gen_ai.tool.name": self._tools.bounded(event.approval.tool)}
        self._answers.add(1, attributes)


class _Names:
    """The first so many names, each as it is counted; any other is `OTHER`."""

    def __init__(self) -> None:
        self._known: dict[str, str] = {}
        self._lock = Lock()

    def bounded(self, name: str) -> str:
        known = self._known.get(name)
        if known is not None:
            return known
        with self._lock:
            return self._known.setdefault(name, _text(name)) if len(self._known) < MAX_NAMES else OTHER


def _attributes(event: Decided) -> dict[str, str | Sequence[str]]:
    call, decision = event.call, event.decision
    codes = list(dict.fromkeys(str(reason.code) for reason in decision.reasons))
    found: dict[str, str | Sequence[str]] = {
        "gen_ai.operation.name": _OPERATION,
        "mcp.method.name": "tools/call",
        "gen_ai.tool.name": _text(call.tool),
        "mcp_policy.effect": str(decision.effect),
        "mcp_policy.codes": codes,
        "mcp_policy.rules": [_text(reason.rule) for reason in decision.reasons if reason.rule],
    }
    if not decision.allowed:
        found["error.type"] = codes[0]
    if call.server:
        found["mcp_policy.server"] = _text(call.server)
    if event.policy:
        found["mcp_policy.policy"] = event.policy
    if decision.would_be is not None:
        found["mcp_policy.would_be"] = str(decision.would_be)
    return found


def _text(text: str) -> str:
    return readable(text, _MAX_TEXT)
