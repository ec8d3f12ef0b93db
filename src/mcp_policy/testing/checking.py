"""Whether a tree is a case file: everything that is wrong with it, each with its place.

The walk follows the document and goes on past what is wrong, so that all of it is told at once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, TypeAlias

from ..decision import Effect, ReasonCode
from ..errors import Problem, ProblemCode, Trail, pointer_of, readable, short
from ..suggestions import hint
from .markers import marker_flaw, seconds
from .tables import EXPECTATIONS, NULL_SAYS, column_path, rows_of

Tree: TypeAlias = dict[str, Any]

ABOUT_KEYS: Final = frozenset({ProblemCode.UNKNOWN_KEY, ProblemCode.DUPLICATE_KEY})
"""Problems that are about a key, and not about what stands below it."""

_COMMON: Final = ("name", "about")
_KINDS: Final = {
    "text": (*_COMMON, "text", "problems"),
    "steps": (*_COMMON, "policy", "steps"),
    "rows": (*_COMMON, "policy", "call", "expect", "window", "columns", "rows"),
    "call": (*_COMMON, "policy", "call", "expect", "window"),
}
"""The keys of each kind of case, by the key that makes it one."""

_NEEDED: Final = {"text": ("problems",), "steps": (), "rows": ("columns",), "call": ("expect",)}
_ALL_KEYS: Final = tuple(dict.fromkeys(key for keys in _KINDS.values() for key in keys))
_CALL: Final = ("tool", "arguments", "server", "session", "principal", "context")
_PRINCIPAL: Final = ("id", "issuer", "client", "roles", "scopes", "claims")
_DECIDES: Final = ("authorize", "evaluate")
_DOES: Final = (*_DECIDES, "approve", "reject")
_EFFECTS: Final = tuple(map(str, Effect))
_CODES: Final = tuple(map(str, ReasonCode))
_PROBLEMS: Final = tuple(map(str, ProblemCode))
_NO_POLICY: Final = "the key `policy` is missing: the name of the policy's file, or the policy; here or for all cases"
_MOST_TIMES: Final = 1_000_000


def problems(tree: object) -> list[Problem]:
    """Return everything that is wrong with a case file, without lines and columns."""
    walk = _Walk()
    walk.file(tree)
    return walk.found


class _Walk:
    """One pass over one file, and what was found so far."""

    def __init__(self) -> None:
        self.found: list[Problem] = []

    def add(self, at: Trail, code: ProblemCode, message: str) -> None:
        self.found.append(Problem(pointer_of(at), code, message))

    def odd(self, at: Trail, value: object, expected: str) -> None:
        self.add(at, ProblemCode.WRONG_TYPE, f"found {short(value)}, expected {expected}")

    # -- what every object and value has to keep

    def members(self, value: Any, at: Trail, keys: tuple[str, ...], needed: tuple[str, ...] = ()) -> Tree | None:
        """Return an object as it is, with its unknown and missing keys told; None for what is no object."""
        if type(value) is not dict:
            self.odd(at, value, "an object")
            return None
        for key in value:
            if key not in keys:
                said = f"the key `{readable(key)}` is unknown here; {hint(key, keys)}"
                self.add((at, key), ProblemCode.UNKNOWN_KEY, said)
        for key in needed:
            if key not in value:
                self.add(at, ProblemCode.MISSING_KEY, f"the key `{key}` is missing here")
        return value

    def text(self, value: Any, at: Trail) -> None:
        if type(value) is not str:
            self.odd(at, value, "a string")
        elif not value:
            self.add(at, ProblemCode.INVALID_VALUE, "a string here must not be empty")

    def word(self, value: Any, at: Trail, words: tuple[str, ...]) -> None:
        if type(value) is not str:
            self.odd(at, value, "a string")
        elif value not in words:
            self.add(at, ProblemCode.INVALID_VALUE, f"`{readable(value)}` is not known here; {hint(value, words)}")

    def items(self, value: Any, at: Trail, what: str) -> list[Any]:
        if type(value) is not list:
            self.odd(at, value, "a list")
            return []
        if not value:
            self.add(at, ProblemCode.INVALID_VALUE, f"a list of {what} here must not be empty")
        return value

    def seconds(self, value: Any, at: Trail) -> None:
        try:
            seconds(value)
        except ValueError as error:
            self.add(at, ProblemCode.INVALID_VALUE, str(error))

    def markers(self, value: Any, at: Trail) -> None:
        if type(value) is list:
            for number, item in enumerate(value):
                self.markers(item, (at, number))
        elif type(value) is dict:
            flaw = marker_flaw(value)
            if flaw is not None:
                self.add(at, ProblemCode.INVALID_VALUE, flaw)
            for key, item in value.items():
                self.markers(item, (at, key))

    # -- the file and its cases

    def file(self, tree: object) -> None:
        found = self.members(tree, None, ("$schema", "about", "policy", "cases"), ("cases",))
        if found is None or "cases" not in found:
            return
        if "policy" in found:
            self.policy(found["policy"], (None, "policy"))
        cases = self.items(found["cases"], (None, "cases"), "cases")
        needs = [type(case) is dict and "text" not in case and "policy" not in case for case in cases]
        if "policy" not in found and needs and all(needs):
            self.add(None, ProblemCode.MISSING_KEY, _NO_POLICY)
        for number, case in enumerate(cases):
            self.case(case, ((None, "cases"), number), has_policy="policy" in found or all(needs))

    def policy(self, value: Any, at: Trail) -> None:
        if type(value) is str:
            self.text(value, at)
            if "\0" in value:
                self.add(at, ProblemCode.INVALID_VALUE, "the name of a file holds no null character")
        elif type(value) is not dict:
            self.odd(at, value, "the name of a policy's file, or a policy")

    def case(self, raw: Any, at: Trail, *, has_policy: bool) -> None:
        kind = next((kind for kind in _KINDS if type(raw) is dict and kind in raw), None)
        if kind is None:
            found = self.members(raw, at, _ALL_KEYS, ("name",))
            if found is not None:
                said = "a case has a `call`, `steps`, `rows`, or a `text` to read a policy from"
                self.add(at, ProblemCode.MISSING_KEY, said)
            return
        self.members(raw, at, _KINDS[kind], ("name", *_NEEDED[kind]))
        if "name" in raw:
            self.text(raw["name"], (at, "name"))
        if "policy" in raw and kind != "text":
            self.policy(raw["policy"], (at, "policy"))
        elif not has_policy and kind != "text":
            self.add(at, ProblemCode.MISSING_KEY, _NO_POLICY)
        _CHECKS[kind](self, raw, at)

    def single(self, raw: Tree, at: Trail) -> None:
        self.call(raw["call"], (at, "call"))
        if "expect" in raw:
            self.expect(raw["expect"], (at, "expect"))
        if "window" in raw:
            self.seconds(raw["window"], (at, "window"))

    def load(self, raw: Tree, at: Trail) -> None:
        if type(raw["text"]) is not str and not (type(raw["text"]) is dict and "$repeat" in raw["text"]):
            self.odd((at, "text"), raw["text"], "a string")
        self.markers(raw["text"], (at, "text"))
        expected = raw.get("problems", [])
        if type(expected) is not list:
            self.odd((at, "problems"), expected, "a list, empty where the text loads")
            return
        for number, problem in enumerate(expected):
            place = ((at, "problems"), number)
            found = self.members(problem, place, ("pointer", "code"), ("pointer", "code"))
            if found is not None and "pointer" in found:
                self.pointer(found["pointer"], (place, "pointer"))
            if found is not None and "code" in found:
                self.word(found["code"], (place, "code"), _PROBLEMS)

    # -- steps

    def sequence(self, raw: Tree, at: Trail) -> None:
        steps = self.items(raw["steps"], (at, "steps"), "steps")
        for number, step in enumerate(steps):
            self.step(step, ((at, "steps"), number))
        if steps and not any(type(step) is not dict or step.get("do") not in ("approve", "reject") for step in steps):
            self.add((at, "steps"), ProblemCode.INVALID_VALUE, "no step here expects anything, so the case cannot fail")

    def step(self, raw: Any, at: Trail) -> None:
        do = raw.get("do", "authorize") if type(raw) is dict else "authorize"
        if do in ("approve", "reject"):
            found = self.members(raw, at, ("at", "do", "by"))
        else:
            found = self.members(raw, at, ("at", "do", "call", "expect", "times", "window"), ("call", "expect"))
        for key, value in (found or {}).items():
            check = _STEP.get(key)
            if check is not None:
                check(self, value, (at, key))

    def times(self, value: Any, at: Trail) -> None:
        if type(value) is not int:
            self.odd(at, value, "how often, a whole number")
        elif not 1 <= value <= _MOST_TIMES:
            said = f"found {short(value)}, expected 1 to {_MOST_TIMES:,}; what never runs cannot fail"
            self.add(at, ProblemCode.INVALID_VALUE, said)

    def call(self, raw: Any, at: Trail, *, needs_tool: bool = True) -> None:
        found = self.members(raw, at, _CALL, ("tool",) if needs_tool else ())
        if found is None:
            return
        for key in ("arguments", "context"):
            self.markers(found.get(key), (at, key))
        if "principal" in found:
            self.principal(found["principal"], (at, "principal"))

    def principal(self, raw: Any, at: Trail) -> None:
        found = self.members(raw, at, _PRINCIPAL)
        for key, value in (found or {}).items():
            if key in ("roles", "scopes"):
                if type(value) is not list or not all(type(name) is str for name in value):
                    self.odd((at, key), value, "a list of strings")
            elif key == "claims":
                self.members(value, (at, key), tuple(value) if type(value) is dict else ())
                self.markers(value, (at, key))
            elif key in _PRINCIPAL and value is not None and type(value) is not str:
                self.odd((at, key), value, "a string")

    # -- what is expected

    def expect(self, raw: Any, at: Trail) -> None:
        found = self.members(raw, at, EXPECTATIONS)
        if found is not None and not found:
            self.add(at, ProblemCode.INVALID_VALUE, "nothing is expected here, so the case cannot fail")
        for key, value in (found or {}).items():
            self.expectation(key, value, (at, key))

    def expectation(self, key: str, value: Any, at: Trail) -> None:
        check = _EXPECT.get(key)
        if check is not None and not (value is None and key in NULL_SAYS):
            check(self, value, at)

    def effect(self, value: Any, at: Trail) -> None:
        self.word(value, at, _EFFECTS)

    def codes(self, value: Any, at: Trail) -> None:
        for number, code in enumerate(self.items(value, at, "codes")):
            self.word(code, (at, number), _CODES)

    def rules(self, value: Any, at: Trail) -> None:
        for number, rule in enumerate(self.items(value, at, "rules")):
            self.pointer(rule, (at, number))

    def pointer(self, value: Any, at: Trail) -> None:
        if type(value) is not str:
            self.odd(at, value, "a JSON Pointer into the policy")
        elif value and not value.startswith("/"):
            said = f"`{readable(value)}` is no JSON Pointer: such as `/tools/NAME/require/0`"
            self.add(at, ProblemCode.INVALID_VALUE, said)

    def number(self, value: Any, at: Trail) -> None:
        if type(value) not in (int, float):
            self.odd(at, value, "a number")
        elif value < 0:
            self.add(at, ProblemCode.INVALID_VALUE, f"found {short(value)}, expected at least 0")

    def remaining(self, value: Any, at: Trail) -> None:
        if type(value) is not dict:
            self.odd(at, value, "an object: what remains, by counter or by the limit's JSON Pointer")
            return
        if not value:
            self.add(at, ProblemCode.INVALID_VALUE, "nothing is expected here, so the case cannot fail")
        for name, left in value.items():
            self.number(left, (at, name))

    # -- tables

    def table(self, raw: Tree, at: Trail) -> None:
        before = len(self.found)
        if "call" in raw:
            self.call(raw["call"], (at, "call"), needs_tool=False)
        if "expect" in raw:
            self.expect(raw["expect"], (at, "expect"))
        if "window" in raw:
            self.seconds(raw["window"], (at, "window"))
        columns = self.items(raw.get("columns", [None]), (at, "columns"), "columns")
        self.columns(columns, (at, "columns"))
        for number, cells in enumerate(self.items(raw["rows"], (at, "rows"), "rows")):
            if type(cells) is not list or len(cells) != len(columns):
                found = f"{len(cells)} cells" if type(cells) is list else short(cells)
                said = f"found {found}, expected a list of {len(columns)}, one for each column"
                self.add(((at, "rows"), number), ProblemCode.INVALID_VALUE, said)
        if len(self.found) == before and "name" in raw and type(raw["name"]) is str:
            self.rows(raw, at)

    def columns(self, columns: list[Any], at: Trail) -> None:
        places: dict[tuple[str, ...], str] = {}
        for number, name in enumerate(columns):
            if type(name) is not str:
                if name is not None:
                    self.odd((at, number), name, "a path such as `args.amount`, or an expectation such as `effect`")
                continue
            try:
                place = (name,) if name in (*EXPECTATIONS, "name") else column_path(name)
            except ValueError as error:
                self.add((at, number), ProblemCode.INVALID_PATH, f"{error}{_or_expectation(name)}")
                continue
            other = next((text for known, text in places.items() if _overlap(known, place)), None)
            if other is not None:
                said = f"`{readable(name)}` and the column `{readable(other)}` say the same thing twice"
                self.add((at, number), ProblemCode.CONFLICT, said)
            places[place] = name

    def rows(self, raw: Tree, at: Trail) -> None:
        """Check each row as the case that it becomes."""
        shared = raw.get("expect", {})
        for row in rows_of(raw):
            place: Trail = ((at, "rows"), row.number)
            self.call(row.call, place)
            for key, column in row.columns.items():
                self.expectation(key, row.expect[key], (place, column))
            if not row.expect and not shared:
                self.add(place, ProblemCode.INVALID_VALUE, "nothing is expected here, so the case cannot fail")
            if "name" in raw["columns"]:
                column = raw["columns"].index("name")
                self.text(raw["rows"][row.number][column], (place, column))


def _overlap(one: tuple[str, ...], other: tuple[str, ...]) -> bool:
    shortest = min(len(one), len(other))
    return one[:shortest] == other[:shortest]


def _or_expectation(name: str) -> str:
    near = hint(name, EXPECTATIONS)
    return f"; or {near}" if near.startswith("did") else ""


_CHECKS: Final[Mapping[str, Callable[[_Walk, Tree, Trail], None]]] = {
    "text": _Walk.load,
    "steps": _Walk.sequence,
    "rows": _Walk.table,
    "call": _Walk.single,
}
_STEP: Final[Mapping[str, Callable[[_Walk, Any, Trail], None]]] = {
    "at": _Walk.seconds,
    "do": lambda walk, value, at: walk.word(value, at, _DOES),
    "call": _Walk.call,
    "expect": _Walk.expect,
    "times": _Walk.times,
    "window": _Walk.seconds,
    "by": _Walk.text,
}
_EXPECT: Final[Mapping[str, Callable[[_Walk, Any, Trail], None]]] = {
    "effect": _Walk.effect,
    "codes": _Walk.codes,
    "rules": _Walk.rules,
    "message": _Walk.text,
    "retry_after": _Walk.number,
    "remaining": _Walk.remaining,
    "would_be": _Walk.effect,
}
