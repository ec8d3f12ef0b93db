"""Findings that somebody has decided to live with: a file beside the policy says which, and why.

`policy.check.json` stands beside `policy.json`:

    {"version": "1", "suppress": [{"code": "default_allow", "pointer": "/default", "reason": "behind a gateway"}]}

`pointer` may be left out (every place) or end in `*` (everything that begins so). A reason is required. It is read as
strictly as a policy, and a suppression that suppresses nothing is a finding itself.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final, NamedTuple

from ..document import scan
from ..errors import PolicyError, Problem, ProblemCode, escape, json_type
from ..suggestions import hint
from .codes import CODES, finding
from .finding import Finding

_KEYS: Final = ("code", "pointer", "reason")


class Suppression(NamedTuple):
    """One suppression: the code, the place (`*` at its end stands for anything), and why."""

    code: str
    pointer: str
    reason: str
    place: str
    """Where it stands itself."""

    def covers(self, found: Finding) -> bool:
        """Whether it is about a finding."""
        if found.code != self.code:
            return False
        if self.pointer.endswith("*"):
            return found.pointer.startswith(self.pointer[:-1])
        return found.pointer == self.pointer


def read_suppressions(data: bytes) -> tuple[Suppression, ...]:
    """Read a file of suppressions. Raises `PolicyError` with everything that is wrong with it."""
    reading = scan(data)
    problems = [*reading.problems, *_problems(reading.tree)]
    if problems:
        places = reading.places({problem.pointer for problem in problems})
        raise PolicyError(
            Problem(one.pointer, one.code, one.message, *places[one.pointer].value) if one.pointer in places else one
            for one in problems
        )
    tree: Any = reading.tree
    return tuple(
        Suppression(raw["code"], raw.get("pointer", "*"), raw["reason"], f"/suppress/{place}")
        for place, raw in enumerate(tree["suppress"])
    )


def suppressed(
    findings: Iterable[Finding], suppressions: Sequence[Suppression], *, tools: bool = True
) -> tuple[list[Finding], list[tuple[Finding, str]], list[Finding]]:
    """Return the findings that remain, those that are suppressed with the reason, and, as findings about the file of
    suppressions, those that suppress nothing. Without `tools`, a suppression of what is found only beside them waits.
    """
    remaining: list[Finding] = []
    lived_with: list[tuple[Finding, str]] = []
    used: set[str] = set()
    for one in findings:
        by = next((entry for entry in suppressions if entry.covers(one)), None)
        if by is None:
            remaining.append(one)
        else:
            lived_with.append((one, by.reason))
            used.update(entry.place for entry in suppressions if entry.covers(one))
    unused = [
        finding("unused_suppression", entry.place, f"nothing is found that `{entry.code}` would be about", "drop it")
        for entry in suppressions
        if entry.place not in used and (tools or not CODES[entry.code].tools)
    ]
    return remaining, lived_with, unused


def _problems(tree: object) -> Iterator[Problem]:
    if not isinstance(tree, dict):
        yield Problem("", ProblemCode.WRONG_TYPE, f"found {json_type(tree)}, expected an object")
        return
    yield from _unknown(tree, "", ("version", "suppress"))
    if tree.get("version") != "1":
        code = ProblemCode.INVALID_VALUE if "version" in tree else ProblemCode.MISSING_KEY
        yield Problem("/version" if "version" in tree else "", code, 'expected `"version": "1"`')
    entries = tree.get("suppress")
    if not isinstance(entries, list):
        code = ProblemCode.WRONG_TYPE if "suppress" in tree else ProblemCode.MISSING_KEY
        yield Problem("/suppress" if "suppress" in tree else "", code, "expected `suppress`, a list of objects")
        return
    for place, entry in enumerate(entries):
        yield from _entry(entry, f"/suppress/{place}")


def _entry(entry: object, at: str) -> Iterator[Problem]:
    if not isinstance(entry, dict):
        yield Problem(at, ProblemCode.WRONG_TYPE, f"found {json_type(entry)}, expected an object")
        return
    yield from _unknown(entry, at, _KEYS)
    for key in _KEYS:
        value = entry.get(key)
        if key not in entry:
            if key != "pointer":
                yield Problem(at, ProblemCode.MISSING_KEY, f"`{key}` is missing" + _WHY.get(key, ""))
        elif not isinstance(value, str) or (not value and key != "pointer"):
            yield Problem(f"{at}/{key}", ProblemCode.WRONG_TYPE, "expected a text that is not empty")
        elif key == "code" and value not in CODES:
            yield Problem(f"{at}/code", ProblemCode.INVALID_VALUE, f"no such code; {hint(value, tuple(CODES))}")


_WHY: Final = {"reason": ": say why this is right here"}


def _unknown(tree: dict[str, object], at: str, known: tuple[str, ...]) -> Iterator[Problem]:
    for key in tree:
        if key not in known:
            yield Problem(f"{at}/{escape(key)}", ProblemCode.UNKNOWN_KEY, f"no such key; {hint(key, known)}")
