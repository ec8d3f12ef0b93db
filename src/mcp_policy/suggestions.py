"""What somebody may have meant by a key or operator that does not exist."""

from __future__ import annotations

from difflib import get_close_matches
from functools import lru_cache
from typing import Final

_LONGEST: Final = 40  # nobody misspells anything here at such length, and comparing takes quadratic time

OPERATOR_NAMES_ELSEWHERE: Final = {
    "=": "eq", "==": "eq", "===": "eq", "equals": "eq", "equal": "eq", "is": "eq",
    "!=": "neq", "!==": "neq", "<>": "neq", "ne": "neq", "not_equals": "neq", "not_eq": "neq", "is_not": "neq",
    "<": "lt", "less_than": "lt", "<=": "lte", "=<": "lte", "le": "lte", "max": "lte", "at_most": "lte",
    ">": "gt", "greater_than": "gt", ">=": "gte", "=>": "gte", "ge": "gte", "min": "gte", "at_least": "gte",
    "one_of": "in", "any_of": "in", "nin": "not_in", "none_of": "not_in", "not in": "not_in",
    "overlaps": "intersects", "contains_any": "intersects", "includes": "contains", "has": "contains",
    "not_includes": "not_contains", "startswith": "starts_with", "prefix": "starts_with",
    "endswith": "ends_with", "suffix": "ends_with",
    "match": "regex", "matches": "regex", "~": "regex", "=~": "regex", "re": "regex", "pattern": "regex",
    "not_match": "not_regex", "not_matches": "not_regex", "!~": "not_regex", "like": "glob", "fnmatch": "glob",
    "present": "exists", "is_set": "exists", "defined": "exists",
    "max_length": "length_lte", "length_max": "length_lte", "min_length": "length_gte", "length_min": "length_gte",
    "only_keys": "keys_in", "allowed_keys": "keys_in", "under": "within", "path_in": "within",
    "host": "host_in", "domain_in": "host_in", "domain": "host_in",
}  # fmt: skip


def operator_hint(found: str, known: tuple[str, ...]) -> str:
    """Return a sentence that leads from an unknown operator to a known one."""
    name = _snake(found)
    meant = OPERATOR_NAMES_ELSEWHERE.get(name)
    if meant is None and name.replace("_", "") in OPERATOR_NAMES_ELSEWHERE:
        meant = OPERATOR_NAMES_ELSEWHERE[name.replace("_", "")]
    return f"did you mean `{meant}`?" if meant else hint(name, known)


@lru_cache(maxsize=1024)
def hint(found: str, known: tuple[str, ...]) -> str:
    """Return `did you mean ...?` for a near miss, else what is known."""
    near = get_close_matches(found.lower(), known, 1) if len(found) <= _LONGEST else []
    if near:
        return f"did you mean `{near[0]}`?"
    if len(known) == 1:
        return f"expected `{known[0]}`"
    return "known here: " + ", ".join(f"`{name}`" for name in known)


def _snake(name: str) -> str:
    """Return `startsWith` and `Starts-With` as `starts_with`."""
    spaced = "".join(f"_{char.lower()}" if char.isupper() else char for char in name[:_LONGEST])
    return spaced.replace("-", "_").replace("__", "_").strip("_ ")
