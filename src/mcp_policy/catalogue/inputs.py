"""What a tool's parameters and annotations say of it.

Rules kept here:

- A parameter that takes a command, a script or SQL makes a tool that runs what it is given, unless the name says that
  it only looks at it (`explain_query`, `lint_code`).
- A tool that takes an action does the worst of its actions.
- `readOnlyHint: false` says that a tool writes, `destructiveHint: true` that it destroys, where it does not say
  as well that it only reads.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any, Final

from .definition import Definition, parameters
from .lexicon import VERBS, word_set
from .profile import Evidence
from .telling import language, reads_only
from .verbs import split_name, verbs_of

_RUN: Final = word_set(
    """
    bash_command cmd code command commands expression javascript js js_code python_code script shell_command soql
    source_code statement statements
    """
)
_LANGUAGES: Final = ("sql", "cypher")
_LOOKING: Final = word_set(
    """
    analyse analyze calculate check convert count describe explain find format get grep highlight inspect lint list
    parse read review search translate validate verify
    """
)
_ACTION: Final = word_set("action actions command method mode op operation sub_command subcommand task verb")
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
_QUOTED: Final = 60  # characters


def of_parameters(definition: Definition, verbs: Collection[str], *, reads: bool) -> Iterator[Evidence]:
    """Yield what the parameters suggest. `verbs` are those of the name; `reads` tells whether all of them only read."""
    looks = bool(_LOOKING.intersection(verbs)) or ("query" in verbs and reads_only(definition.description))
    if "query" in verbs and not looks and (spoken := language(definition.description)):
        yield Evidence("description", spoken, "execute")
    given = [(name, name.lower(), schema) for name, schema in parameters(definition)]
    for name, low, schema in given:
        if low in _ACTION and (choices := _choices(definition.input_schema, schema, 0)):
            yield from _of_choices(choices)
        elif not looks and (low in _RUN or _speaks(name, low)):
            yield Evidence("parameter", name, "execute")
        elif low.replace("_", "").replace("-", "") in _SAVED:
            yield Evidence("parameter", name, "write")
        elif low == "amount" and not reads and any(other in _PAID for _, other, _ in given):
            yield Evidence("parameter", name, "financial")


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


def _choices(root: dict[str, Any], schema: Any, depth: int) -> list[str]:
    """Return the texts that a schema allows, as far as it lists them, also by local references."""
    if not isinstance(schema, dict) or depth > _DEEPEST:
        return []
    found = [value for value in [*_list(schema.get("enum")), schema.get("const")] if isinstance(value, str) and value]
    parts = [part for key in ("anyOf", "oneOf", "allOf") for part in _list(schema.get(key))[:_MOST_CHOICES]]
    for part in (*parts, schema.get("items"), _referred(root, schema.get("$ref"))):
        if len(found) < _MOST_CHOICES:
            found += _choices(root, part, depth + 1)
    return found


def _referred(root: dict[str, Any], reference: Any) -> Any:
    if not isinstance(reference, str) or not reference.startswith("#/"):
        return None
    target: Any = root
    for step in reference[2:].split("/")[:_DEEPEST]:
        target = target.get(step) if isinstance(target, dict) else None
    return target


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []
