"""`Policy`: a document that was read, checked in full, and cannot change any more.

Rules kept here:

- There is no half-valid policy: whatever is wrong raises `PolicyError` with all problems, placed in the text.
- The tree is kept as it was written (keys in their order); nobody outside gets hold of it.
- Two policies are equal when they decide alike by their text: what is for people and editors (`$schema`, `name`,
  `description`) does not count, nor do the order of keys and the spelling of numbers.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NoReturn, final

from .errors import PolicyError, Problem, ProblemCode
from .reading import MAX_BYTES, Place, Places, Reading

if TYPE_CHECKING:
    from .document import Format

_ANNOTATIONS: Final = frozenset({"$schema", "name", "description"})
_FORMATS: Final[dict[str, Format]] = {".yaml": "yaml", ".yml": "yaml", ".toml": "toml"}
_ABOUT_KEYS: Final = frozenset({ProblemCode.UNKNOWN_KEY, ProblemCode.DUPLICATE_KEY, ProblemCode.INVALID_PATTERN})
_ABOUT_VALUES: Final = frozenset({ProblemCode.WRONG_TYPE, ProblemCode.INVALID_VALUE})


@final
class Policy:
    """A valid policy document. Make one with `Policy.load`, `Policy.parse` or `Policy.model_validate`."""

    __slots__ = ("_digest", "_tree")
    _tree: dict[str, Any]
    _digest: str | None

    def __init__(self) -> None:
        raise TypeError("use `Policy.load`, `Policy.parse` or `Policy.model_validate`")

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Policy:
        """Read a policy from a file: YAML and TOML by their suffix (`.yaml`, `.yml`, `.toml`), else JSON.

        Raises `PolicyError` for what the file says, `OSError` when it cannot be read, and `ImportError` for YAML
        without the extra `yaml`.
        """
        path = Path(path)
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
        return cls.parse(data, format_of(path.name))

    @classmethod
    def parse(cls, text: str | bytes, format: Format = "json") -> Policy:
        """Read a policy from text, or from bytes in UTF-8. Raises `PolicyError`."""
        from .document import scan

        return _checked(scan(text, format))

    @classmethod
    def model_validate(cls, tree: object) -> Policy:
        """Make a policy from a tree of Python values, of which it keeps a copy. Raises `PolicyError`."""
        from .document import plain_copy

        return _checked(Reading(*plain_copy(tree)))

    @staticmethod
    def model_json_schema() -> dict[str, Any]:
        """Return the JSON Schema of policy documents, for editors. Loading checks more than a schema can say."""
        from .shapes import json_schema

        return json_schema()

    @property
    def document(self) -> dict[str, Any]:
        """A copy of the document, as plain JSON values."""
        from .document import plain_copy

        copy: dict[str, Any] = plain_copy(self._tree)[0]
        return copy

    @property
    def digest(self) -> str:
        """SHA-256 (hexadecimal) of the document's canonical JSON without `$schema`, `name` and `description`."""
        digest = self._digest
        if digest is None:
            digest = _digest(self._tree)
            object.__setattr__(self, "_digest", digest)
        return digest

    def __eq__(self, other: object) -> bool:
        return self.digest == other.digest if isinstance(other, Policy) else NotImplemented

    def __hash__(self) -> int:
        return hash(self.digest)

    def __repr__(self) -> str:
        name = f"{self._tree['name']!r}, " if "name" in self._tree else ""
        return f"<Policy {name}{self.digest[:12]}>"

    def __reduce__(self) -> tuple[object, ...]:
        return Policy.model_validate, (self._tree,)

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AttributeError(f"a policy cannot change: {name!r} was to be set")

    def __delattr__(self, name: str) -> NoReturn:
        raise AttributeError(f"a policy cannot change: {name!r} was to be deleted")


def format_of(name: str) -> Format:
    """Return the format that a file's name says it has."""
    return _FORMATS.get(os.path.splitext(name)[1].lower(), "json")  # noqa: PTH122  # a name, not a path


def _digest(tree: dict[str, Any]) -> str:
    from hashlib import sha256

    from .values import canonical

    deciding = {key: value for key, value in tree.items() if key not in _ANNOTATIONS}
    return sha256(canonical(deciding).encode()).hexdigest()


def _checked(reading: Reading) -> Policy:
    from .shape_problems import shape_problems
    from .validation import problems

    tree = reading.tree
    found = [*shape_problems(tree), *problems(tree)]
    if reading.problems or found:
        raise PolicyError(_placed(_distinct(reading.problems, found), reading.places))
    policy = object.__new__(Policy)
    object.__setattr__(policy, "_tree", tree)
    object.__setattr__(policy, "_digest", None)
    return policy


def _distinct(read: tuple[Problem, ...], found: list[Problem]) -> list[Problem]:
    """Leave out what says the same of the same place again, and what is wrong with the null that stands for no JSON."""
    unread = {problem.pointer for problem in read if problem.code in _ABOUT_VALUES}
    kept = (problem for problem in found if not (problem.pointer in unread and problem.code in _ABOUT_VALUES))
    return [*read, *dict.fromkeys(kept)]


def _placed(found: list[Problem], places: Places) -> list[Problem]:
    """Return the problems with line and column, in the order of the text, where there is one."""
    known = places({problem.pointer for problem in found})
    placed = [_place(problem, known.get(problem.pointer)) for problem in found]
    return sorted(placed, key=lambda problem: (problem.line or 0, problem.column or 0))


def _place(problem: Problem, place: Place | None) -> Problem:
    if place is None or problem.line is not None:
        return problem
    position = place.key if problem.code in _ABOUT_KEYS and place.key else place.value
    return Problem(problem.pointer, problem.code, problem.message, *position)
