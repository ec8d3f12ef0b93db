"""Snapshots: what a policy decides on a table of calls, kept as a text beside the test, to be reviewed like a policy.

Rules kept here:

- Each call is decided by itself (`evaluate`): nothing is taken from a limit, no approval is asked for.
- A row says the effect, and the code and rule of each reason; messages may be worded anew without a change here.
- A line says one thing and none is padded, so that a change of one decision is a change of one line.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from difflib import SequenceMatcher
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from ..call import ToolCall
from ..decision import Decision, Reason
from .report import shown

if TYPE_CHECKING:
    from ..engine import PolicyEngine

FOLDER: Final = "__snapshots__"
"""Where snapshots are kept, beside the test that they belong to."""

_HEAD: Final = (
    "# What a policy decides, written by `pytest --policy-update`. Review a change here as one of the policy."
)
_LONGEST: Final = 100


def table_of(engine: PolicyEngine, calls: Iterable[ToolCall]) -> str:
    """Return what an engine decides on each of the calls, as a text of two lines or more for each.

    Raises `TypeError` for what is no call, and `ValueError` where there is none.
    """
    rows = [line for call in _calls(calls) for line in (_label(call), *_decided(engine.evaluate(call)))]
    return "\n".join([_HEAD, *rows]) + "\n"


def file_of(test_file: Path, name: str, number: int = 1) -> Path:
    """Return where the snapshot of a test is kept; `name` is the test's within its file, `number` counts from 1.

    Different names have different files, whatever their characters.
    """
    plain = re.sub(r"[^A-Za-z0-9_.-]+", "-", name.replace("::", "."))[:_LONGEST].strip("-")
    if plain != name:
        plain += f"-{sha256(name.encode(errors='replace')).hexdigest()[:8]}"
    again = f".{number}" if number > 1 else ""
    # not `.txt`: pytest takes `test*.txt` for doctests
    return test_file.parent / FOLDER / test_file.stem / f"{plain}{again}.snap"


def difference(path: Path, table: str) -> list[str] | None:
    """Return how a table differs from its snapshot, as lines: `-` is kept, `+` is decided now. Empty if it does not,
    None where there is no snapshot.

    Raises `OSError` and `UnicodeDecodeError` for a snapshot that cannot be read.
    """
    try:
        kept = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    return list(_changes(_rows(kept), _rows(table)))


def write(path: Path, table: str) -> None:
    """Keep a table as a snapshot. Raises `OSError`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(table, encoding="utf-8", newline="\n")


def _rows(table: str) -> list[list[str]]:
    """Return the lines of a table, each call's by themselves."""
    rows: list[list[str]] = []
    for line in table.splitlines():
        if line.startswith("  ") and rows:
            rows[-1].append(line)
        else:
            rows.append([line])
    return rows


def _changes(kept: list[list[str]], now: list[list[str]]) -> Iterator[str]:
    """Yield what changed: below its call where that is in both tables."""
    calls = SequenceMatcher(None, [row[0] for row in kept], [row[0] for row in now], autojunk=False)
    for what, start, end, now_start, now_end in calls.get_opcodes():
        old, new = kept[start:end], now[now_start:now_end]
        if what != "equal":
            yield from (f"-{line}" for row in old for line in row)
            yield from (f"+{line}" for row in new for line in row)
            continue
        for before, after in zip(old, new, strict=True):
            if before != after:
                yield f" {before[0]}"
                yield from (f"-{line}" for line in before if line not in after)
                yield from (f"+{line}" for line in after if line not in before)


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


def _label(call: ToolCall) -> str:
    if call.flaw is not None:
        return shown(f"malformed: {call.flaw}")
    more = {
        "server": call.server,
        "session": call.session,
        "principal": call.principal and {key: value for key, value in call.principal._asdict().items() if value},
        "context": call.context,
        "category": call.category,
    }
    about = "".join(f", {key} {_json(value)}" for key, value in more.items() if value)
    return shown(f"{call.tool} {_json(call.arguments)}{about}")


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, default=lambda odd: f"<{type(odd).__name__}>")


def _decided(decision: Decision) -> Iterator[str]:
    yield f"  {decision.effect}: {_reasons(decision.reasons)}"
    if decision.would_be is not None:
        yield f"  would be {decision.would_be}: {_reasons(decision.shadow)}"


def _reasons(reasons: tuple[Reason, ...]) -> str:
    return "; ".join(shown(f"{reason.code} at {reason.rule or 'the document'}") for reason in reasons)
