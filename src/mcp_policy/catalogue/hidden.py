"""What a person who reads a text does not see, and a model does: hidden characters, hidden passages, look-alikes.

Rules kept here:

- Only what has no honest use is a find: joiners between emoji or inside scripts that need them, a variation selector
  after a symbol and text that was encoded twice by accident are none.
- What is found is shown: characters by their code points, what the tags block spells as the letters it stands for.
- Every text is read a bounded number of times.
"""

from __future__ import annotations

import re
import unicodedata
from base64 import b64decode
from collections.abc import Iterator
from itertools import islice
from typing import Final, NamedTuple


class Find(NamedTuple):
    """Something found in a text: the kind, the place itself as far as it is shown, and what is wrong with it."""

    code: str
    quote: str
    message: str


def hidden(text: str) -> Iterator[Find]:
    """Yield what of a text cannot be seen."""
    if _UNUSUAL.search(text):
        yield from _characters(text)
    yield from _passages(text)
    yield from _encoded(text)


def look_alikes(name: str) -> Iterator[Find]:
    """Yield what makes a name look like another one."""
    if name.isascii():
        return
    if (folded := unicodedata.normalize("NFKC", name)) != name and folded.isascii():
        yield Find("confusable", name, f"is written with look-alikes of the letters of `{folded}`")
    elif len(scripts := _scripts(name)) > 1 and scripts & _ALIKE:
        yield Find("confusable", name, f"mixes letters of {' and '.join(sorted(scripts))} that look alike")


def mixed_words(text: str) -> Iterator[Find]:
    """Yield words of a prose text that mix Latin letters with the Cyrillic ones that look like them."""
    if text.isascii() or not _CYRILLIC.search(text):
        return
    for word in _WORD.finditer(text):
        if not word[0].isascii() and {"Cyrillic", "Latin"} <= _scripts(word[0]):
            yield Find("confusable", word[0], "is a word of Latin and Cyrillic letters that look alike")
            return


# -- characters

_UNUSUAL: Final = re.compile(r"[^\t\n\r -~\u00a1-\u00ac\u00ae-\u02ff\u2010-\u2027\u2030-\u205e\u2190-\u27bf]")
_HONEST: Final = re.compile("[\u00c2-\u00f4][\u0080-\u00bf]{1,3}|^[ \t]*+\x08$", re.MULTILINE)
"""Text that was encoded twice, and the lone backspace by which a help text of `click` keeps its line breaks."""
_TAGS: Final = range(0xE0000, 0xE0080)
_SELECTORS: Final = (*range(0xFE00, 0xFE10), *range(0xE0100, 0xE01F0))
_JOINERS: Final = "\u200c\u200d"
_BLANK: Final = frozenset("\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0\u034f\u180b\u180c\u180d\u180f")
_FIRST: Final = 200  # a text with more odd characters than that has been found out


def _characters(text: str) -> Iterator[Find]:
    cleaned = _HONEST.sub("", text)
    if "\x1b" in cleaned or "\x9b" in cleaned:
        quote = _around(cleaned, max(cleaned.find("\x1b"), cleaned.find("\x9b")))
        yield Find("escape_sequence", quote, "has a terminal's escape sequence, which changes what a person sees")
    odd = list(islice((index for index in _odd_places(cleaned) if _is_hidden(cleaned, index)), _FIRST))
    if not odd:
        return
    spelled = "".join(chr(ord(cleaned[index]) - 0xE0000) for index in odd if ord(cleaned[index]) in _TAGS)
    if len(spelled) > 1:
        yield Find("hidden_character", spelled, "is spelled in characters of the tags block, which nobody sees")
    names = sorted({_named(cleaned[index]) for index in odd})
    shown = ", ".join(names[:3]) + (", …" if len(names) > 3 else "")
    yield Find("hidden_character", _around(cleaned, odd[0]), f"has characters that nobody sees: {shown}")


def _odd_places(text: str) -> Iterator[int]:
    return (found.start() for found in _UNUSUAL.finditer(text))


def _is_hidden(text: str, index: int) -> bool:
    char = text[index]
    category = unicodedata.category(char)
    if ord(char) in _SELECTORS:
        return not (index and unicodedata.category(text[index - 1]) in _CARRIES_A_SELECTOR)
    if char in _JOINERS:
        return not (0 < index < len(text) - 1 and _joins(text[index - 1]) and _joins(text[index + 1]))
    if char in "\x1b\x9b":
        return False  # said already
    return category in ("Cc", "Cf", "Cs") or char in _BLANK


_CARRIES_A_SELECTOR: Final = frozenset(("So", "Sm", "Sk", "Po", "Nd", "Lo", "Mn"))


def _joins(char: str) -> bool:
    """Tell whether a joiner has work to do beside this character: an emoji, or a letter of a script that joins."""
    category = unicodedata.category(char)
    return category in ("So", "Sk", "Lo", "Mn", "Mc") or ord(char) == 0xFE0F


def _named(char: str) -> str:
    return f"U+{ord(char):04X} {unicodedata.name(char, 'control').lower()}"


def _around(text: str, index: int, *, before: int = 12, after: int = 24) -> str:
    return text[max(0, index - before) : index + after]


# -- passages

_GAP: Final = re.compile(r"(?<!\s)\s{30,}(?=\S)")  # begins once in a run of blanks
_FAR_DOWN: Final = 25  # lines: beyond what a window shows
_FAR_RIGHT: Final = 160  # columns
_MARKUP: Final = re.compile(
    r"<!--|<\|(?:im_start|im_end|system|endoftext|start_header_id)\|>|<<SYS>>|\[/?INST\]"
    r"|<\s*(?:important|system|secret|hidden|admin|override|sys|developer|assistant)"
    r"(?:[-_ ](?:prompt|message|note|instructions?|override))?\s*>",
    re.IGNORECASE,
)


def _passages(text: str) -> Iterator[Find]:
    for gap in _GAP.finditer(text):
        lines = gap[0].count("\n")
        if gap.start() and (lines >= _FAR_DOWN or max(map(len, gap[0].split("\n"))) >= _FAR_RIGHT):
            quote = _around(text, gap.end(), before=0, after=40)
            yield Find("hidden_text", quote, f"stands out of sight, after {lines} empty lines or a long run of blanks")
            break
    if ("<" in text or "[" in text) and (found := _MARKUP.search(text)):
        yield Find(
            "hidden_markup", _around(text, found.start(), before=0, after=40), "is markup that speaks to a model"
        )


_BLOB: Final = re.compile(r"[A-Za-z0-9+/_-]{60,}+={0,2}")
_LONG_BLOB: Final = 400
_LONGEST_DECODED: Final = 4096


def _encoded(text: str) -> Iterator[Find]:
    for blob in _BLOB.finditer(text) if len(text) >= 60 else ():
        if len(blob[0]) >= _LONG_BLOB:
            yield Find("encoded_text", blob[0][:40], f"is an encoded block of {len(blob[0]):,} characters")
            return
        if (decoded := _decoded(blob[0])) is not None:
            yield Find("encoded_text", decoded, "stands in the text as base64")
            return


def _decoded(blob: str) -> str | None:
    """Return the words that a base64 text stands for, or None where it stands for none."""
    body = blob.rstrip("=")[:_LONGEST_DECODED].replace("-", "+").replace("_", "/")
    try:
        decoded = b64decode(body[: len(body) // 4 * 4], validate=True).decode()
    except ValueError:
        return None
    return decoded if decoded.isprintable() and " " in decoded else None


# -- look-alikes

_ALIKE: Final = frozenset(("Armenian", "Cherokee", "Cyrillic", "Greek", "Latin"))
_CYRILLIC: Final = re.compile("[\u0400-\u052f]")
_WORD: Final = re.compile(r"[^\W\d_]+")


def _scripts(word: str) -> set[str]:
    letters = (char for char in word[:_FIRST] if char.isalpha())
    return {unicodedata.name(char, "?").partition(" ")[0].capitalize() for char in letters} - {"Micro", "?"}
