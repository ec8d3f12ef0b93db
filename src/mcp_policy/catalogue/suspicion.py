"""What in a tool's definition should make a person look before an agent reads it.

Rules kept here:

- Every text of a definition is read: names, titles, descriptions, names and texts of parameters, enums, defaults,
  examples, annotations, the output schema. Models read them all.
- A find says where (a JSON Pointer into the entry of `tools/list`), what (a short quote, with everything that cannot be
  seen escaped) and why. One kind is said once of a place, and a definition has at most `MOST` finds.
- Work is linear in the size of the definition; nothing in it raises once it could be read.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from typing import Any, Final, NamedTuple

from ..errors import escape, readable
from .definition import Definition, Tool, read_definition
from .hidden import Find, hidden, look_alikes, mixed_words
from .instructions import instructions
from .profile import UNSURE, RiskProfile

MOST: Final = 50
"""Most suspicions that are told of one tool."""

LONGEST: Final = 16_384
"""Characters: a longer text is one that nobody reads to its end."""


class Suspicion(NamedTuple):
    """One thing that an honest definition does not have. `at` is a JSON Pointer into the entry of `tools/list`."""

    code: str
    at: str
    quote: str
    message: str

    def __str__(self) -> str:
        return f"{self.at}: {self.message}: `{self.quote}`"


def suspicions(
    tool: Tool, *, profile: RiskProfile | None = None, siblings: Collection[str] = ()
) -> tuple[Suspicion, ...]:
    """Return what is suspicious about a tool's definition, in the order of the definition.

    `profile` spares classifying the tool again. `siblings` are the names of the server's tools, best as a set or the
    keys of a dictionary: a description may speak of the others. Raises `ValueError` where the tool has no name
    or is not JSON.
    """
    definition = read_definition(tool)
    found: dict[tuple[str, str], Suspicion] = {}
    for suspicion in (*_of_texts(definition, siblings), *contradictions(definition, profile)):
        found.setdefault((suspicion.code, suspicion.at), suspicion)
        if len(found) == MOST:
            break
    return tuple(found.values())


def contradictions(definition: Definition, profile: RiskProfile | None = None) -> Iterator[Suspicion]:
    """Yield the annotations that promise less than the definition says."""
    if profile is None:
        from .classifier import classify

        profile = classify(definition)
    hints = definition.annotations
    if profile.confidence < UNSURE:
        return
    evidence = next((sign.quote for sign in profile.evidence if sign.suggests == profile.category), definition.name)
    if hints.get("readOnlyHint") is True and profile.category != "read":
        message = f"`readOnlyHint` is true, and the tool reads as {profile.category}"
        yield Suspicion("contradiction", "/annotations/readOnlyHint", readable(evidence), message)
    if hints.get("destructiveHint") is False and profile.category == "destructive":
        message = "`destructiveHint` is false, and the tool reads as destructive"
        yield Suspicion("contradiction", "/annotations/destructiveHint", readable(evidence), message)


def _of_texts(definition: Definition, siblings: Collection[str]) -> Iterator[Suspicion]:
    for at, text, is_name in _texts(definition):
        for find in _finds(text, is_name=is_name):
            if find.code == "shadowing" and any(name in siblings for name in _named(find.quote) - {definition.name}):
                continue
            yield Suspicion(find.code, at, readable(find.quote), find.message)


def _named(sentence: str) -> set[str]:
    """Return what a tool may be called that a sentence speaks of: every run of its words, of which it has few.

    Looking these up takes the same time however many tools a server has; looking for each of its names would not.
    """
    words = [word.span() for word in re.finditer(r"\w+", sentence)]
    return {sentence[start:end] for at, (start, _) in enumerate(words) for _, end in words[at:]}


def _finds(text: str, *, is_name: bool) -> Iterator[Find]:
    yield from hidden(text)
    yield from look_alikes(text) if is_name else mixed_words(text)
    yield from instructions(text)
    if len(text) > LONGEST:
        yield Find("oversized", text[:40], f"has {len(text):,} characters, more than anybody reads")


def _texts(definition: Definition) -> Iterator[tuple[str, str, bool]]:
    """Yield every text with its place, and whether it is a name."""
    yield "/name", definition.name, True
    yield "/title", definition.title, False
    yield "/description", definition.description, False
    yield from _inside("/inputSchema", definition.input_schema)
    yield from _inside("/outputSchema", definition.output_schema)
    yield from _inside("/annotations", definition.annotations)


def _inside(pointer: str, value: Any) -> Iterator[tuple[str, str, bool]]:
    """Yield the texts of a plain value, which is bounded in depth, keys included."""
    if isinstance(value, str):
        yield pointer, value, False
    elif isinstance(value, dict):
        for key, held in value.items():
            place = f"{pointer}/{escape(key)}"
            yield place, key, True
            yield from _inside(place, held)
    elif isinstance(value, list):
        for index, held in enumerate(value):
            yield from _inside(f"{pointer}/{index}", held)
