"""The seal of a record: a chain over its lines, and a head that says where it ends.

Each line ends in a link: a keyed digest of the link before it and of the line itself. So a line that is changed, left
out, added or moved breaks the chain there. That lines are missing at the end shows by the head, a small file beside the
record with the number and the link of the last line, sealed with the same key. Who has the key can forge all of it.

A head is written to two places in turn, always after the lines that it is about: so there is a whole one at any moment,
whoever reads or dies meanwhile, and behind the line that it is about there is another. Where that is not so, somebody
has spoilt the newer head to hide that lines are missing. It is sealed for its place: the older one is of no use there.

Pure: what is read and written elsewhere.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from hashlib import blake2b
from hmac import compare_digest
from typing import Any, Final, NamedTuple

SHORTEST_KEY: Final = 16
"""Bytes of a key."""

_SIZE: Final = 32  # bytes of a digest
_LINK: Final = b',"chain":"'
_TAIL: Final = len(_LINK) + 2 * _SIZE + 2


class Keys(NamedTuple):
    """What is made of a key, for each purpose one."""

    chain: bytes
    head: bytes
    arguments: bytes
    session: bytes


def keys(key: bytes) -> Keys:
    """Derive the keys. Raises `ValueError` for one that is too short."""
    if len(key) < SHORTEST_KEY:
        raise ValueError(f"the key of a record has at least {SHORTEST_KEY} bytes")
    return Keys(
        *(blake2b(name.encode(), key=blake2b(key).digest(), digest_size=_SIZE).digest() for name in Keys._fields)
    )


def digest(key: bytes, errors: str = "strict") -> Callable[[str], str]:
    """Return what makes a keyed digest of a text, in hexadecimal; `errors` says what becomes of lone surrogates."""
    begun = blake2b(key=key, digest_size=_SIZE)  # a copy takes half the time of a new one

    def of(text: str) -> str:
        copied = begun.copy()
        copied.update(text.encode("utf-8", errors))
        return copied.hexdigest()

    return of


def first(key: bytes) -> bytes:
    """Return what the first line is linked to."""
    return _mac(key, b"the first record").encode()


def linker(key: bytes) -> Callable[[bytes, bytes], tuple[bytes, bytes]]:
    """Return what makes a line, and its link, of the link before it and a record without one: a JSON object as text,
    but for its last brace.
    """
    begun = blake2b(key=key, digest_size=_SIZE)

    def linked(before: bytes, open_record: bytes) -> tuple[bytes, bytes]:
        copied = begun.copy()
        copied.update(before + open_record + b"}")
        link = copied.hexdigest().encode()
        return open_record + _LINK + link + b'"}\n', link

    return linked


def _mac(key: bytes, text: bytes) -> str:
    return blake2b(text, key=key, digest_size=_SIZE).hexdigest()


def stated(line: bytes) -> tuple[bytes, bytes] | None:
    """Return the record of a line without its link, and the link that it states; None for what is no such line."""
    body, tail = line[:-_TAIL], line[-_TAIL:]
    if not line.startswith(b"{") or not tail.startswith(_LINK) or not tail.endswith(b'"}'):
        return None
    return body + b"}", tail[len(_LINK) : -2]


def number(line: bytes) -> int | None:
    """Return the number that a record states, as bytes with or without its link."""
    try:
        record: Any = json.loads(line)
    except (ValueError, RecursionError):
        return None
    seq = record.get("seq") if isinstance(record, dict) else None
    return seq if type(seq) is int else None


# -- the head


class Head(NamedTuple):
    """Where a record ends. `torn` tells whether it is the only one of the two that is authentic."""

    seq: int
    link: bytes
    torn: bool = False


PLACE: Final = 20 + 1 + 2 * _SIZE + 1 + 2 * _SIZE + 1
"""Bytes of a head as it is written."""


def sealed(key: bytes, head: Head, place: int) -> bytes:
    """Return a head as it is written to its place, 0 or 1."""
    text = b"%020d %b" % (head.seq, head.link)
    return b"%b %b\n" % (text, _mac(key, b"%d %b" % (place, text)).encode())


def read_head(key: bytes, content: bytes) -> Head | None:
    """Return the newer of the two heads that a file holds; None where neither is authentic."""
    both = (_unsealed(key, content[:PLACE], 0), _unsealed(key, content[PLACE:], 1))
    found = [head for head in both if head is not None]
    return max(found)._replace(torn=len(found) < len(both)) if found else None


def _unsealed(key: bytes, content: bytes, place: int) -> Head | None:
    text, _, mac = content.removesuffix(b"\n").rpartition(b" ")
    if not content.endswith(b"\n") or not compare_digest(mac, _mac(key, b"%d %b" % (place, text)).encode()):
        return None
    seq, _, link = text.partition(b" ")
    return Head(int(seq), link)


# -- verifying


_CHANGED: Final = "was changed, or sealed with another key"
_NOT_THE_KEY: Final = "is not authentic, and there is no authentic head: this is not the key, or both were changed"


class Line(NamedTuple):
    """One line of a file, without its end; `ended` tells whether it had one."""

    file: str
    number: int
    text: bytes
    ended: bool = True


class Finding(NamedTuple):
    """The first thing that is wrong: where, and what. `seq` is the number of the record that was to come."""

    file: str
    line: int | None
    seq: int
    what: str


class Report(NamedTuple):
    """How far a record is sound: its authentic records, from `first` to `last`, and the link of the last."""

    records: int
    first: int | None
    last: int | None
    link: bytes | None
    finding: Finding | None


def verify(lines: Iterable[Line], key: Keys, head: Head | None, *, since: int = 1) -> Report:
    """Check all lines of a record, oldest first, and its head. Stops at the first thing that is wrong.

    `since` is the number that it begins with, where older files were taken away. Nothing but its number can be checked
    of such a first line: its seal is over the line before it.
    """
    linked = linker(key.chain)
    before = first(key.chain) if since == 1 else None
    expected, file = since, ""
    for line in lines:
        file = line.file
        wrong, link = _check(line, linked, before, expected)
        if wrong is None and head is not None and head.seq == expected and head.link != link:
            wrong = "is not the one that the head is about: the head is of another record"
        if wrong == _CHANGED and head is None and expected <= since + (since > 1):  # nothing at all is authentic
            wrong = _NOT_THE_KEY
        if wrong is not None:
            return _report(since, expected, before, Finding(file, line.number, expected, wrong))
        before, expected = link, expected + 1
    wrong = _check_end(head, expected - 1, before, since)
    return _report(since, expected, before, None if wrong is None else Finding(file, None, expected, wrong))


def _report(since: int, expected: int, link: bytes | None, finding: Finding | None) -> Report:
    count = expected - since
    if not count:
        return Report(0, None, None, None, finding)
    return Report(count, since, expected - 1, link, finding)


def _check(
    line: Line, linked: Callable[[bytes, bytes], tuple[bytes, bytes]], before: bytes | None, expected: int
) -> tuple[str | None, bytes]:
    """Return what is wrong with a line, and its link."""
    parts = stated(line.text)
    if parts is None or not line.ended:
        return "is no whole line: it was changed, or cut short", b""
    body, link = parts
    is_next = body.startswith(b'{"seq":%d,' % expected)
    if is_next and (before is None or compare_digest(link, linked(before, body[:-1])[1])):
        return None, link
    seq = number(body)
    if seq is not None and seq > expected:
        return f"is not here, but record {seq}: it is missing, or stands elsewhere", b""
    if seq is not None and seq < expected:
        return f"is not here, but record {seq}, which was repeated or moved", b""
    return _CHANGED, b""


def _check_end(head: Head | None, last: int, link: bytes | None, since: int) -> str | None:
    if head is None:
        return "there is no authentic head: it is missing, was changed, or was sealed with another key"
    if head.seq > last:
        return f"the record ends here, and its head says that there are {head.seq}: the end is missing"
    if head.seq < since - 1 or (head.seq == last and link is not None and head.link != link):
        return "the head is of another record"
    if head.torn:
        return "one of the two places of its head was changed, or is not whole: the end may be missing"
    return None
