"""Witnesses in words: the call that shows a difference, and what is called before it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, Final

from ..call import ToolCall
from .witness import Step

_LONGEST: Final = 300


def call_text(call: ToolCall) -> str:
    """Return a call as people write it; what is not JSON as Python does. Not every character of it need show."""
    who = call.principal
    facts = {
        "server": call.server,
        "session": call.session,
        "category": call.category,
        **({name: value for name, value in who._asdict().items() if value} if who is not None else {}),
        "context": call.context,
    }
    said = "".join(f", {name} {_json(value)}" for name, value in facts.items() if value)
    return f"{call.tool} {_json(call.arguments)}{said}"


def before_text(steps: Sequence[Step]) -> str:
    """Return what is called before the last step, in words; nothing where that is the only one."""
    *before, last = steps
    if not before:
        return ""
    count = sum(step.times for step in before)
    late = f", the last {last.at - before[0].at:g} s after the first" if last.at != before[0].at else ""
    return f" after {count} calls{_others(before, last)}{late}"


def _others(before: Sequence[Step], last: Step) -> str:
    """Return in what the calls before differ from the last."""
    calls = [step.call for step in before if step.call is not last.call]
    what = {
        "sessions": {call.session for call in calls} - {last.call.session},
        "principals": {call.principal and call.principal.id for call in calls}
        - {last.call.principal and last.call.principal.id},
        "tools": {call.tool for call in calls} - {last.call.tool},
    }
    said = [name for name, values in what.items() if values]
    return f" with other {' and '.join(said)}" if said else " like it"


def _json(value: Any) -> str:
    try:
        text = json.dumps(value, ensure_ascii=False, default=str)
    except (TypeError, ValueError):
        text = repr(value)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}… ({len(text):,} characters)"
