"""Checks our sentences about a server and its tools: there, about something that there is, and our own.

Rules kept here:

- Every server and every tool has one sentence, in one line.
- No sentence shares a run of words with what the server says of itself or of any of its tools and parameters.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

BORROWED_WORDS: Final = 7
"""A run of this many words that a sentence shares with its server's own is too long to be ours."""

LONGEST: Final = 240


def faults(server: str, listing: Mapping[str, Any], sentences: Mapping[str, Any]) -> Iterator[str]:
    """Return what is wrong with the sentences about a server: missing, about no tool of it, or not ours."""
    said = {"": sentences.get("about", ""), **sentences.get("tools", {})}
    names = {"", *(tool["name"] for tool in listing["tools"])}
    missing = sorted(name or "the server" for name in names if not said.get(name))
    if missing:
        yield f"{server}: no sentence about {', '.join(missing)}"
    for name in sorted(said.keys() - names):
        yield f"{server}: a sentence about `{name}`, which it does not list"
    theirs = {run for tool in listing["tools"] for text in _prose(tool) for run in _runs(text)}
    for name, sentence in sorted(said.items()):
        if sentence and (not sentence.endswith(".") or "\n" in sentence or len(sentence) > LONGEST):
            yield f"{server}: the sentence about `{name}` is not one line of text that ends with a full stop"
        for run in _runs(sentence):
            if run in theirs:
                yield f"{server}: the sentence about `{name}` repeats the server's own: {' '.join(run)}"
                break


def _prose(tool: Any) -> Iterator[str]:
    """Return every description in a tool's definition, its parameters' too."""
    if isinstance(tool, dict):
        for key, value in tool.items():
            if key == "description" and isinstance(value, str):
                yield value
            else:
                yield from _prose(value)
    elif isinstance(tool, list):
        for value in tool:
            yield from _prose(value)


def _runs(text: str) -> Iterator[tuple[str, ...]]:
    words = re.findall(r"[a-z0-9]+", text.lower())
    for start in range(len(words) - BORROWED_WORDS + 1):
        yield tuple(words[start : start + BORROWED_WORDS])
