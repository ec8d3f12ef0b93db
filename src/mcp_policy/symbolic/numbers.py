"""Numbers on and between the numbers that conditions compare with.

A found number is an integer, a float or a Decimal. Integers and floats are compared exactly; a Decimal is compared with
a float by the float's shortest text. So there are two orders, and both are sampled: in each, one number on every
constant, one in every gap that has any, and one beyond either end.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from decimal import Decimal, localcontext
from fractions import Fraction
from math import ceil, floor, inf, isfinite, nextafter
from typing import Final

from ..values import Number

_PRECISION: Final = 9_000  # digits; a document's numbers have at most 4,000


def around(constants: Iterable[Number]) -> list[Number]:
    """Return numbers that between them compare with the constants in every way that a number can."""
    known = list(constants) or [0]
    return [*dict.fromkeys(_exact(known)), *_decimals(known)]


def _exact(constants: list[Number]) -> Iterator[Number]:
    marks = sorted({_fraction(value): value for value in constants}.items())
    for (low, _), (high, _) in itertools.pairwise(marks):
        yield from _between(low, high)
    first, last = marks[0][0], marks[-1][0]
    yield from (floor(first) - 1, ceil(last) + 1)
    yield from (value for _, value in marks if type(value) is not Decimal)


def _between(low: Fraction, high: Fraction) -> Iterator[Number]:
    middle = (low + high) / 2
    tries: list[Number] = [floor(low) + 1, floor(middle), ceil(high) - 1]
    for mark in (low, middle, high):
        if near := _float(mark):
            tries += [near[0], nextafter(near[0], inf), nextafter(near[0], -inf)]
    for number in tries:
        if (type(number) is int or isfinite(number)) and low < _fraction(number) < high:
            yield number
            return


def _float(number: Fraction) -> tuple[float] | None:
    try:
        return (float(number),)
    except OverflowError:
        return None


def _decimals(constants: list[Number]) -> Iterator[Decimal]:
    """Yield Decimals only where a float stands, whose shortest text is another number than it is itself."""
    if not any(type(value) is float and _fraction(value) != _fraction(Decimal(repr(value))) for value in constants):
        marks = sorted({_fraction(value) for value in constants})
        if all(any(True for _ in _between(low, high)) for low, high in itertools.pairwise(marks)):
            return
    with localcontext() as context:
        context.prec = _PRECISION
        marks_ = sorted({Decimal(repr(value)) if type(value) is float else Decimal(value) for value in constants})
        yield from marks_
        yield from ((low + high) / 2 for low, high in itertools.pairwise(marks_))


def _fraction(number: Number) -> Fraction:
    return Fraction(number)
