"""Case files: what a policy is expected to decide, as data.

Rules kept here:

- A file is read as strictly as a policy: unknown keys are errors, nothing is coerced, all problems are told at once.
- A case that could not fail is an error: one that expects nothing, or something that is true of every decision.
- The values of a call may be malformed on purpose (a policy has to deny those calls); its keys may not.
- Each row of a table is a case of its own, with its own name, place and engine.

`docs/reference/case-files.md` is what people read of this.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeAlias

from ..document import scan
from ..errors import PolicyError, Problem, pointer_to
from ..reading import MAX_BYTES, Reading
from . import checking
from .checking import Tree
from .markers import seconds
from .spans import Lines, lines_of
from .tables import Row, rows_of

SUFFIXES: Final = (".policytest.json", ".policytest.yaml", ".policytest.yml")
"""What the names of case files end with."""

WINDOW: Final = 60.0
"""Seconds; `retry_after` may be off by a hundredth of it."""


class PolicySource(NamedTuple):
    """Where a case's policy comes from: a file, or (`tree`) the case file itself."""

    path: Path
    tree: Mapping[str, Any] | None = None
    pointer: str = ""
    """Where the tree stands in the case file."""

    def __str__(self) -> str:
        return f"{self.path}#{self.pointer}" if self.tree is not None else str(self.path)


class Step(NamedTuple):
    """One step of a case: a call that is decided, or (`do`: `approve`, `reject`) what a person does."""

    do: str
    at: float
    """Seconds since the case began."""
    call: Mapping[str, Any]
    """As written: with markers."""
    expect: Mapping[str, Any]
    places: Mapping[str, str]
    """Where each expectation stands: JSON Pointers into the case file."""
    times: int = 1
    window: float = WINDOW
    by: str = "reviewer"


class Case(NamedTuple):
    """One case: decisions (`policy`, `steps`), or a text that a policy is read from (`text`, `problems`)."""

    path: Path
    name: str
    pointer: str
    line: int | None
    policy: PolicySource | None
    steps: tuple[Step, ...] = ()
    text: Any = None
    problems: tuple[Mapping[str, str], ...] = ()


class CaseFile(NamedTuple):
    """A case file that was read: its path and its cases, rows of tables each by itself, and its text."""

    path: Path
    cases: tuple[Case, ...]
    text: str = ""


class CaseFileError(ValueError):
    """A case file cannot be used; `problems` holds everything that is wrong with it, as `PolicyError` does."""

    def __init__(self, path: Path, problems: Sequence[Problem]) -> None:
        self.path = path
        self.problems = tuple(problems)
        super().__init__(path, self.problems)

    def __str__(self) -> str:
        return "\n".join(f"{self.path}:{problem}" for problem in self.problems)


StrPath: TypeAlias = "str | os.PathLike[str]"


def read_cases(path: StrPath) -> CaseFile:
    """Read a case file: YAML by its suffix (`.yaml`, `.yml`), else JSON.

    Raises `CaseFileError` for what the file says, `OSError` when it cannot be read, and `ImportError` for YAML without
    the extra `yaml`.
    """
    path = Path(path)
    with path.open("rb") as file:
        return parse_cases(path, file.read(MAX_BYTES + 1))


def parse_cases(path: StrPath, data: str | bytes) -> CaseFile:
    """Read the cases in a text; `path` is where policies are looked for, and what messages say. Raises as above."""
    path = Path(path)
    is_yaml = path.suffix.lower() in (".yaml", ".yml")
    try:
        reading = scan(data, "yaml" if is_yaml else "json")
    except PolicyError as error:
        raise CaseFileError(path, error.problems) from None
    problems = [*reading.problems, *checking.problems(reading.tree)]
    if problems:
        raise CaseFileError(path, _placed(problems, reading))
    tree: Any = reading.tree
    text = data if isinstance(data, str) else data.decode()
    lines = _yaml_lines(reading) if is_yaml else lines_of(text, tree)
    return CaseFile(path, tuple(_cases(path, tree, lines)), text)


def _placed(problems: Sequence[Problem], reading: Reading) -> list[Problem]:
    """Return the problems with line and column, in the order of the text."""
    known = reading.places({problem.pointer for problem in problems})
    placed = []
    for problem in problems:
        place = known.get(problem.pointer)
        if place is None or problem.line is not None:
            placed.append(problem)
        else:
            key = place.key if problem.code in checking.ABOUT_KEYS else None
            placed.append(Problem(problem.pointer, problem.code, problem.message, *(key or place.value)))
    return sorted(placed, key=lambda problem: (problem.line or 0, problem.column or 0))


def _yaml_lines(reading: Reading) -> Lines:
    """The reader of YAML keeps all places as it goes: asking for one costs nothing."""

    def line(pointer: str) -> int | None:
        place = reading.places([pointer]).get(pointer)
        return place and place.value[0]

    return line


# -- from a tree that is right to cases


def _cases(path: Path, tree: Tree, lines: Lines) -> Iterator[Case]:
    shared = _policy(path, tree["policy"], "/policy") if "policy" in tree else None
    for number, raw in enumerate(tree["cases"]):
        pointer = f"/cases/{number}"
        policy = _policy(path, raw["policy"], f"{pointer}/policy") if "policy" in raw else shared
        if "rows" in raw:
            for row in rows_of(raw):
                at = f"{pointer}/rows/{row.number}"
                yield Case(path, row.name, at, lines(at), policy, (_row_step(raw, row, pointer),))
        elif "text" in raw:
            yield Case(path, raw["name"], pointer, lines(pointer), None, (), raw["text"], tuple(raw["problems"]))
        elif "steps" in raw:
            steps = tuple(_step(step, f"{pointer}/steps/{place}") for place, step in enumerate(raw["steps"]))
            yield Case(path, raw["name"], pointer, lines(pointer), policy, steps)
        else:
            yield Case(path, raw["name"], pointer, lines(pointer), policy, (_step(raw, pointer),))


def _policy(path: Path, raw: Any, pointer: str) -> PolicySource:
    return PolicySource(path.parent / raw) if isinstance(raw, str) else PolicySource(path, raw, pointer)


def _step(raw: Tree, pointer: str) -> Step:
    expect = raw.get("expect", {})
    return Step(
        raw.get("do", "authorize"),
        seconds(raw.get("at", 0)),
        raw.get("call", {}),
        expect,
        {key: pointer_to_expectation(pointer, key) for key in expect},
        raw.get("times", 1),
        seconds(raw.get("window", WINDOW)),
        raw.get("by", "reviewer"),
    )


def _row_step(raw: Tree, row: Row, pointer: str) -> Step:
    shared = raw.get("expect", {})
    places = {key: pointer_to_expectation(pointer, key) for key in shared}
    places |= {key: f"{pointer}/rows/{row.number}/{column}" for key, column in row.columns.items()}
    window = seconds(raw.get("window", WINDOW))
    return Step("authorize", 0.0, row.call, {**shared, **row.expect}, places, 1, window)


def pointer_to_expectation(pointer: str, key: str) -> str:
    """Return where an expectation of a case or step stands."""
    return pointer + pointer_to(("expect", key))
