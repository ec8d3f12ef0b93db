"""Snapshots: what a policy decides on a table of calls, kept as JSON beside the test, to be reviewed like a policy.

Rules kept here:

- Each call is decided by itself (`evaluate`): nothing is taken from a limit, no approval is asked for.
- A row says the effect, and the code and rule of each reason; messages may be worded anew without a change here.
- A decision stands on one line, so that a change of one decision is a change of one line. What is compared is what the
  file says: it may be laid out in any way.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from difflib import SequenceMatcher
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from ..call import ToolCall
from ..decision import Decision, Effect, Reason
from .report import shown

if TYPE_CHECKING:
    from ..engine import PolicyEngine

FOLDER: Final = "__policy_snapshots__"
"""Where snapshots are kept, beside the test that they belong to."""

_LONGEST: Final = 100
_KEYS: Final = {"call", "decision"}


class Row(NamedTuple):
    """One call and what is decided on it, both as JSON can hold them."""

    call: dict[str, Any]
    decision: dict[str, Any]


def table_of(engine: PolicyEngine, calls: Iterable[ToolCall]) -> list[Row]:
    """Return what an engine decides on each of the calls.

    Raises `TypeError` for what is no call, and `ValueError` where there is none.
    """
    return [Row(_call(call), _decision(engine.evaluate(call))) for call in _calls(calls)]


def file_of(test_file: Path, name: str, number: int = 1) -> Path:
    """Return where the snapshot of a test is kept; `name` is the test's within its file, `number` counts from 1.

    Different names have different files, whatever their characters.
    """
    plain = re.sub(r"[^A-Za-z0-9_.-]+", "-", name.replace("::", "."))[:_LONGEST].strip("-")
    if plain != name:
        plain += f"-{sha256(name.encode(errors='replace')).hexdigest()[:8]}"
    again = f".{number}" if number > 1 else ""
    return test_file.parent / FOLDER / test_file.stem / f"{plain}{again}.json"


def write(path: Path, table: Iterable[Row]) -> None:
    """Keep a table as a snapshot. Raises `OSError`."""
    rows = (f'  {{\n    "call": {_json(row.call)},\n    "decision": {_json(row.decision)}\n  }}' for row in table)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("[\n" + ",\n".join(rows) + "\n]\n", encoding="utf-8", newline="\n")


def difference(path: Path, table: Iterable[Row]) -> list[str] | None:
    """Return how a table differs from its snapshot, as lines: `-` is kept, `+` is decided now. Empty if it does not,
    None where there is no snapshot.

    Raises `OSError` and `ValueError` for a snapshot that cannot be read.
    """
    try:
        kept = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    return list(_changes(_read(kept), list(table)))


def _read(text: str) -> list[Row]:
    try:
        rows = json.loads(text)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    if type(rows) is not list or not all(type(row) is dict and set(row) == _KEYS for row in rows):
        raise ValueError("expected a list of objects with `call` and `decision`")
    if not all(type(part) is dict for row in rows for part in row.values()):
        raise ValueError("expected an object as each `call` and `decision`")
    return [Row(**row) for row in rows]


# -- what changed


def _changes(kept: list[Row], now: list[Row]) -> Iterator[str]:
    """Yield what changed: below its call where that is in both tables."""
    calls = SequenceMatcher(None, [_json(row.call) for row in kept], [_json(row.call) for row in now], autojunk=False)
    for what, start, end, now_start, now_end in calls.get_opcodes():
        old, new = kept[start:end], now[now_start:now_end]
        if what != "equal":
            yield from _whole("-", old)
            yield from _whole("+", new)
            continue
        for before, after in zip(old, new, strict=True):
            if before.decision != after.decision:
                yield _label(before.call)
                yield from _fields(before.decision, after.decision)


def _whole(sign: str, rows: Iterable[Row]) -> Iterator[str]:
    for row in rows:
        yield f"{sign} {_label(row.call)}"
        yield from (f"{sign}   {key}: {_said(value)}" for key, value in row.decision.items())


def _fields(before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[str]:
    for key in dict.fromkeys((*before, *after)):
        if before.get(key) == after.get(key):
            yield f"    {key}: {_said(after.get(key))}"
        else:
            yield f"  - {key}: {_said(before.get(key))}"
            yield f"  + {key}: {_said(after.get(key))}"


def _said(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(shown(item) or "the document" for item in value) or "none"
    if isinstance(value, dict):
        return ", ".join(f"{shown(key)} {_said(item)}" for key, item in value.items())
    return shown(value)


def _label(call: Mapping[str, Any]) -> str:
    if "malformed" in call:
        return shown(f"malformed: {call['malformed']}")
    about = "".join(f", {key} {_json(value)}" for key, value in call.items() if key not in ("tool", "arguments"))
    return shown(f"{call.get('tool')} {_json(call.get('arguments', {}))}{about}")


# -- rows


def _calls(calls: Iterable[ToolCall]) -> list[ToolCall]:
    if isinstance(calls, ToolCall):
        raise TypeError("a table is of several calls: pass a list of `ToolCall`")
    found = list(calls)
    for call in found:
        if not isinstance(call, ToolCall):
            raise TypeError(f"a table is of calls: expected a `ToolCall`, found {type(call).__name__}")
    if not found:
        raise ValueError("a table needs a call: one without any would never differ")
    return found


def _call(call: ToolCall) -> dict[str, Any]:
    """Return a call as case files write it."""
    if call.flaw is not None:
        return {"malformed": call.flaw}
    more = {
        "server": call.server,
        "session": call.session,
        "principal": call.principal and {key: value for key, value in call.principal._asdict().items() if value},
        "context": call.context,
        "category": call.category,
    }
    said = {"tool": call.tool, "arguments": call.arguments, **{key: value for key, value in more.items() if value}}
    held: dict[str, Any] = json.loads(_json(said))  # as a file gives it back: a tuple is a list there
    return held


def _decision(decision: Decision) -> dict[str, Any]:
    said = _reasoned(decision.effect, decision.reasons)
    if decision.would_be is not None:
        said["would_be"] = _reasoned(decision.would_be, decision.shadow)
    return said


def _reasoned(effect: Effect, reasons: tuple[Reason, ...]) -> dict[str, Any]:
    # a code and a rule for each reason, in their order: which code goes with which rule is part of it
    return {
        "effect": str(effect),
        "codes": [str(reason.code) for reason in reasons],
        "rules": [reason.rule for reason in reasons],
    }


def _json(value: Any) -> str:
    """Return JSON on one line, in which every character can be seen."""
    text = json.dumps(value, ensure_ascii=False, default=lambda odd: f"<{type(odd).__name__}>")
    return text if text.isprintable() else "".join(c if c.isprintable() else json.dumps(c)[1:-1] for c in text)
