"""Generators that ask questions, and whoever answers them.

What is asked in which order is written once, as a generator that yields questions and gets the answers sent back; an
answer that fails is thrown in, for the generator knows what it means. The same generator is driven by what answers at
once and by what is awaited.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Generator
from typing import Any, TypeVar

Question = TypeVar("Question")
Result = TypeVar("Result")


def drive(steps: Generator[Question, Any, Result], answer: Callable[[Question], Any]) -> Result:
    """Run a generator whose questions are answered at once."""
    try:
        question = next(steps)
        while True:
            try:
                answered = answer(question)
            except Exception as error:  # noqa: BLE001  # the generator knows what it means
                question = steps.throw(error)
            else:
                question = steps.send(answered)
    except StopIteration as stop:
        return stop.value  # type: ignore[no-any-return]  # StopIteration does not know its value's type


async def drive_async(steps: Generator[Question, Any, Result], answer: Callable[[Question], Awaitable[Any]]) -> Result:
    """Run a generator whose questions are answered by awaiting."""
    try:
        question = next(steps)
        while True:
            try:
                answered = await answer(question)
            except Exception as error:  # noqa: BLE001  # the generator knows what it means
                question = steps.throw(error)
            else:
                question = steps.send(answered)
    except StopIteration as stop:
        return stop.value  # type: ignore[no-any-return]  # as above
