"""How a case that failed is told: what was expected beside what was decided, by which rule, and where it stands."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

from ..decision import Decision
from .cases import Case, Step

_MOST: Final = 5
"""Steps of one case that are told in full."""

_WIDE: Final = 160
"""Characters of a call that are told."""


class Mismatch(NamedTuple):
    """One decision, or one load (`step` is None), that is not what its case expects."""

    wrong: tuple[str, ...]
    """The expectations that are not met."""
    expected: Mapping[str, Any]
    found: Mapping[str, Any]
    """What was found, for everything that is expected."""
    step: Step | None = None
    place: int = 0
    """Which step of the case."""
    time: int = 1
    """Which of the step's repetitions."""
    decision: Decision | None = None
    note: str = ""
    """What went wrong before anything was decided."""


class Failure(NamedTuple):
    """A case that failed. `str()` of it is a text of several lines, the first of which names the case."""

    case: Case
    mismatches: tuple[Mismatch, ...]

    def __str__(self) -> str:
        return "\n".join([heading(self.case), *lines_of(self)])


def heading(case: Case) -> str:
    """Return the line that names a case and its place."""
    place = f"{case.path}:{case.line}" if case.line is not None else str(case.path)
    return f"{place}: {_line(case.name)}"


def lines_of(failure: Failure) -> list[str]:
    """Return what differs, as lines: `-` is expected, `+` is what was decided."""
    lines = [line for mismatch in failure.mismatches[:_MOST] for line in _mismatch_lines(failure.case, mismatch)]
    if len(failure.mismatches) > _MOST:
        lines.append(f"  and {len(failure.mismatches) - _MOST} more that differ")
    return lines


def _mismatch_lines(case: Case, mismatch: Mismatch) -> Iterator[str]:
    if mismatch.step is not None:
        yield f"  {_where(case, mismatch, mismatch.step)}{_call(mismatch.step)}"
    if mismatch.note:
        yield f"    {mismatch.note}"
    for key, expected in mismatch.expected.items():
        if key not in mismatch.wrong:
            yield f"    {key}: {shown(expected)}"
        else:
            yield f"  - {key}: {_shown(key, expected)}"
            yield f"  + {key}: {_shown(key, mismatch.found[key])}"
    if mismatch.decision is not None:
        yield from _reasons(mismatch.decision)


def _where(case: Case, mismatch: Mismatch, step: Step) -> str:
    if len(case.steps) == 1 and step.times == 1:
        return ""
    again = f", {mismatch.time} of {step.times}" if step.times > 1 else ""
    return f"step {mismatch.place} at {step.at:g} s{again}: "


def _call(step: Step) -> str:
    if not step.call:
        return step.do
    about = {key: value for key, value in step.call.items() if key not in ("tool", "arguments")}
    said = f"{step.call.get('tool')} {json.dumps(step.call.get('arguments', {}), ensure_ascii=False)}"
    more = "".join(f", {key} {json.dumps(value, ensure_ascii=False)}" for key, value in about.items())
    return _line(said + more, _WIDE)


def _reasons(decision: Decision) -> Iterator[str]:
    for title, reasons in (("decided by", decision.reasons), ("would be by", decision.shadow)):
        if title == "decided by" or reasons != decision.reasons:
            for reason in reasons:
                yield f"  {title} {reason.rule or 'the document'}: {reason.code}: {_line(reason.message)}"


def _shown(key: str, value: Any) -> str:
    if key != "problems":
        return shown(value)
    said = [f"{problem['code']} at {_line(problem['pointer']) or 'the document'}" for problem in value]
    return ", ".join(said) or "none, it loads"


def shown(value: Any) -> str:
    """Return a value of an expectation for people: words without quotes, lists with commas."""
    if value is None:
        return "none"
    if isinstance(value, str):
        return _line(value)
    if isinstance(value, Sequence):
        return ", ".join(map(shown, value)) or "none"
    if isinstance(value, Mapping):
        return ", ".join(f"{_line(str(key))} {shown(item)}" for key, item in value.items())
    return f"{value:g}" if isinstance(value, float) else str(value)


def _line(text: str, most: int = 1_000) -> str:
    """Return a text that is one line, whoever wrote it."""
    cut = text if len(text) <= most else f"{text[: most - 1]}…"
    return "".join(char if char.isprintable() else f"\\u{ord(char):04x}" for char in cut)
