"""Answers and people, as every client of the contract gives and asks them."""

from __future__ import annotations

from typing import Any, NamedTuple

from mcp_policy.answer import META_KEY


class Answer(NamedTuple):
    """What came of a call; `raw` is the result as it stood on the wire, or `{"error": ...}`."""

    text: str
    is_error: bool
    meta: dict[str, Any]
    structured: Any
    raw: dict[str, Any]

    @property
    def facts(self) -> dict[str, Any] | None:
        """The machine-readable decision."""
        return self.meta.get(META_KEY)


def answer_of(raw: dict[str, Any]) -> Answer:
    """Read the result of a call."""
    text = "".join(part.get("text", "") for part in raw.get("content", ()))
    return Answer(text, raw.get("isError") is True, raw.get("_meta") or {}, raw.get("structuredContent"), raw)


def error_of(code: int, message: str) -> Answer:
    """Read a JSON-RPC error."""
    return Answer(message, True, {}, None, {"error": {"code": code, "message": message}})


class Person:
    """Whoever sits at the client: answers each question in the one way that the test sets, and keeps the questions."""

    def __init__(self) -> None:
        self.says: tuple[str, dict[str, Any] | None] = ("cancel", None)
        self.questions: list[str] = []

    def asked(self, question: str) -> tuple[Any, Any]:
        self.questions.append(question)
        return self.says


APPROVES = ("accept", {"approve": True})
DECLINES = ("decline", None)
DISMISSES = ("cancel", None)
