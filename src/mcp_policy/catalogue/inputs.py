"""What a tool's parameters and annotations say of it.

Rules kept here:

- A parameter that takes a command, a script or SQL makes a tool that runs what it is given, unless the name says that
  it only looks at it (`explain_query`, `lint_code`).
- A tool that takes an action does the worst of its actions.
- `readOnlyHint: false` says that a tool writes, `destructiveHint: true` that it destroys, where it does not say
  as well that it only reads.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from typing import Any, Final

from .definition import Definition
from .lexicon import VERBS, word_set
from .profile import Evidence
from .telling import language, reads_only
from .verbs import split_name, verbs_of

_SHELL: Final = word_set("bash_command cmd command commands shell_command")
_SCRIPT: Final = word_set("cypher javascript js js_code python_code script soql source_code sql")
_CODE: Final = word_set("code expression statement statements")
_LANGUAGES: Final = ("sql", "cypher")
_EXPLAINING: Final = word_set("describe explain format help lint parse")
_EXAMINING: Final = _EXPLAINING | word_set(
    "analyse analyze check convert count highlight review translate validate verify"
)
_LOOKING: Final = _EXAMINING | word_set("calculate find get grep inspect list read search")
_RUNS: Final = re.compile(r"\b(?:execut|evaluat|run(?:s|ning)?\b)", re.IGNORECASE)
_ACTION: Final = word_set("action actions command method mode op operation sub_command subcommand task verb")
_SENT: Final = word_set("body data headers payload")
_ADDRESSED: Final = word_set("endpoint path uri url")
_METHODS: Final = frozenset(("patch", "post", "put"))
_SAVED: Final = word_set(
    """
    destinationpath destpath downloaddir downloadpath localpath outdir outpath outputdir outputdirectory outputfile
    outputfilename outputfilepath outputpath savedir savedirectory savepath saveto
    """
)
"""Where a result is to be saved, without what joins the words."""
_PAID: Final = word_set("account asset currency destination from_token payee recipient to to_address token")
_MOST_CHOICES: Final = 200
_DEEPEST: Final = 6
_DEEPEST_WRAPPED: Final = 2  # objects around a parameter
_MOST_SCHEMAS: Final = 1_000
_QUOTED: Final = 60  # characters


def of_parameters(definition: Definition, verbs: Collection[str], *, reads: bool) -> Iterator[Evidence]:
    """Yield what the parameters suggest. `verbs` are those of the name; `reads` tells whether all of them only read."""
    asks = "query" in verbs and reads_only(definition.description)
    if "query" in verbs and not asks and (spoken := language(definition.description)):
        yield Evidence("description", spoken, "execute")
    given = list(_given(definition.input_schema, definition.input_schema, 0, _Budget()))
    names = {low for _, low, _ in given}
    for name, low, schema in given:
        if not _ACTION.isdisjoint(word.lower() for word in split_name(name)):
            choices = _choices(definition.input_schema, schema, 0, _Budget())
            yield from _of_choices(choices)
            if choices or (low == "method" and names & _SENT and names & _ADDRESSED):
                if not choices:  # any request to any address
                    yield Evidence("parameter", name, "execute")
                continue
        if not asks and _is_run(name, low, verbs, definition.description):
            yield Evidence("parameter", name, "execute")
        elif low.replace("_", "").replace("-", "") in _SAVED:
            yield Evidence("parameter", name, "write")
        elif low == "amount" and not reads and names & _PAID:
            yield Evidence("parameter", name, "financial")


def _is_run(name: str, low: str, verbs: Collection[str], description: str) -> bool:
    """Tell whether what a parameter takes is run, rather than looked at."""
    if low in _SHELL:
        excused = _EXPLAINING
    elif low in _SCRIPT or _speaks(name, low):
        excused = _EXAMINING
    elif low in _CODE:
        excused = _LOOKING
    else:
        return False
    return excused.isdisjoint(verbs) or _RUNS.search(description) is not None


class _Budget:
    """How many schemas of a definition may still be looked at; and the references that were followed."""

    def __init__(self) -> None:
        self.left = _MOST_SCHEMAS
        self.followed: set[str] = set()

    def spend(self, schema: Any) -> bool:
        """Tell whether a schema is one that may be looked at now."""
        self.left -= 1
        if self.left < 0 or not isinstance(schema, dict):
            return False
        reference = schema.get("$ref")
        if isinstance(reference, str):
            if reference in self.followed:
                return False
            self.followed.add(reference)
        return True


def _given(root: dict[str, Any], schema: Any, depth: int, budget: _Budget) -> Iterator[tuple[str, str, Any]]:
    """Yield the parameters of a schema, also those inside the objects that it wraps them in."""
    if depth > _DEEPEST_WRAPPED or not budget.spend(schema):
        return
    properties = schema.get("properties")
    for name, part in properties.items() if isinstance(properties, dict) else ():
        if isinstance(name, str):
            yield name, name.lower(), part
            yield from _given(root, part, depth + 1, budget)
    for part in _parts(root, schema):
        yield from _given(root, part, depth, budget)


def _speaks(name: str, low: str) -> bool:
    """Tell whether a parameter is written in a query language: `rawSql`, `cypher_query`."""
    return any(language in low for language in _LANGUAGES) and any(
        word.lower() in _LANGUAGES for word in split_name(name)
    )


def of_annotations(definition: Definition) -> Evidence | None:
    """Return what the annotations suggest, or None where they say nothing."""
    hints = definition.annotations
    if hints.get("readOnlyHint") is True:
        return Evidence("annotation", "readOnlyHint: true", "read")
    if hints.get("destructiveHint") is True:
        return Evidence("annotation", "destructiveHint: true", "destructive")
    if hints.get("readOnlyHint") is False:
        return Evidence("annotation", "readOnlyHint: false", "write")
    return None


def _of_choices(choices: list[str]) -> Iterator[Evidence]:
    """Yield what each choice of an action suggests, read as a name: `delete`, `set_labels`, `DELETE`."""
    for choice in choices[:_MOST_CHOICES]:
        words = split_name(choice)
        if not words or words[-1].lower().endswith("ed"):  # `build_failed` is something to filter by
            continue
        if choice.lower() in _METHODS:
            yield Evidence("parameter", choice, "write")
        for found in verbs_of(words):
            yield Evidence("parameter", choice[:_QUOTED], VERBS[found.verb])


def _choices(root: dict[str, Any], schema: Any, depth: int, budget: _Budget) -> list[str]:
    """Return the texts that a schema allows, as far as it lists them, also by local references."""
    if depth > _DEEPEST or not budget.spend(schema):
        return []
    found = [value for value in [*_list(schema.get("enum")), schema.get("const")] if isinstance(value, str) and value]
    for part in (*_parts(root, schema), schema.get("items")):
        if len(found) < _MOST_CHOICES:
            found += _choices(root, part, depth + 1, budget)
    return found


def _parts(root: dict[str, Any], schema: dict[str, Any]) -> Iterator[Any]:
    for key in ("anyOf", "oneOf", "allOf"):
        yield from _list(schema.get(key))[:_MOST_CHOICES]
    if "$ref" in schema:
        yield _referred(root, schema["$ref"])


def _referred(root: dict[str, Any], reference: Any) -> Any:
    if not isinstance(reference, str) or not reference.startswith("#/"):
        return None
    target: Any = root
    for step in reference[2:].split("/")[:_DEEPEST]:
        target = target.get(step) if isinstance(target, dict) else None
    return target


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []
