"""The words of a limit, turned into numbers.

Rules kept here:

* costs and maxima are counted in millionths, as integers: ten costs of 0.1 are exactly 1;
* a cost rounds up, a maximum rounds down: rounding never admits more;
* a float stands for its shortest decimal text, a `Decimal` for itself;
* what is not a plain number of at least zero is refused, never coerced;
* no message repeats a value that came with a call.
"""

from __future__ import annotations

import re
from decimal import ROUND_CEILING, ROUND_FLOOR, Context, Decimal, InvalidOperation

DIMENSIONS = ("session", "principal", "agent", "tool", "server", "global")
"""What a limit may count by."""

MICRO = 1_000_000
MAXIMUM = 9_000_000_000 * MICRO
"""The largest `max`, in millionths: below 2**53, so that every store can hold it exactly."""

LONGEST_WINDOW = 1e10  # seconds

_ALIASES = {"grant": "principal"}
_SECONDS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}
_UNITS = {"second": 1, "minute": 60, "hour": 3_600, "day": 86_400}
_SPAN = r"([0-9]{1,11})([smhd])"
_SHORTHAND = r"([0-9]{1,10})/(second|minute|hour|day|[0-9]{1,11}[smhd])"
_STEP = Decimal("0.000001")
# Own contexts: the caller's decimal context (its precision, its traps) must not change what a call costs.
_UP = Context(prec=32, rounding=ROUND_CEILING, traps=[InvalidOperation])
_DOWN = Context(prec=32, rounding=ROUND_FLOOR, traps=[InvalidOperation])


def normal_per(value: object) -> tuple[str, ...]:
    """The dimensions of a `per`, sorted, each once, aliases resolved. Raises `ValueError`."""
    names = [value] if isinstance(value, str) else value
    if not isinstance(names, (list, tuple)) or not names:
        raise ValueError("`per` must be a dimension or a list of at least one dimension")
    found = set()
    for stated in names:
        name = _ALIASES.get(stated, stated) if isinstance(stated, str) else ""
        if name not in DIMENSIONS:
            raise ValueError(f"unknown dimension; one of {', '.join(f'`{known}`' for known in DIMENSIONS)} is right")
        found.add(name)
    return tuple(sorted(found))


def parse_window(value: object) -> float:
    """The length of a window in seconds. Raises `ValueError`."""
    seconds: object = value
    if isinstance(value, str):
        span = re.fullmatch(_SPAN, value)
        seconds = int(span[1]) * _SECONDS[span[2]] if span else _UNITS.get(value)
    if seconds is None or isinstance(seconds, bool) or not isinstance(seconds, (int, float)):
        raise ValueError(
            "a window is a number of seconds, `second`, `minute`, `hour`, `day`, or digits with `s`, `m`, `h` or `d`"
        )
    if not 0 < seconds <= LONGEST_WINDOW:
        raise ValueError("a window must be longer than 0 seconds and at most 10,000,000,000 seconds")
    return float(seconds)


def parse_shorthand(text: object) -> tuple[int, float]:
    """`"10/minute"` or `"10/30s"` as (max, window in seconds). Raises `ValueError`."""
    found = re.fullmatch(_SHORTHAND, text) if isinstance(text, str) else None
    if found is None:
        raise ValueError('a short limit reads like `"10/minute"` or `"10/30s"`')
    if int(found[1]) * MICRO > MAXIMUM:
        raise ValueError("`max` must be at most 9,000,000,000")
    return int(found[1]), parse_window(found[2])


def to_micro_up(cost: object) -> int:
    """A cost in millionths, rounded up; anything over the largest `max` is `MAXIMUM + 1`. Raises `ValueError`."""
    if type(cost) is int and 0 <= cost <= 9_000_000_000:
        return cost * MICRO
    return _to_micro(cost, _UP)


def to_micro_down(maximum: object) -> int:
    """A `max` in millionths, rounded down; anything over the largest `max` is `MAXIMUM + 1`. Raises `ValueError`."""
    return _to_micro(maximum, _DOWN)


def from_micro(millionths: int) -> int | float:
    """Millionths as the number that people wrote: an integer where it is one."""
    whole, rest = divmod(millionths, MICRO)
    return millionths / MICRO if rest else whole


def _to_micro(value: object, context: Context) -> int:
    number = _number(value)
    if number < 0:
        raise ValueError("must not be negative")
    if number > 9_000_000_000:
        return MAXIMUM + 1
    if isinstance(number, int):
        return number * MICRO
    if number and number.adjusted() < -6:  # below one millionth; spares a quantize over a huge exponent
        return 1 if context is _UP else 0
    return int(context.quantize(number, _STEP).scaleb(6, context))


def _number(value: object) -> int | Decimal:
    """The exact number, read with the base types' own methods: no code of a subclass runs."""
    if isinstance(value, bool):
        raise ValueError("must be a number, found a boolean")
    if isinstance(value, int):
        return int.__int__(value)
    if isinstance(value, float):
        number = Decimal(float.__repr__(value))
    elif isinstance(value, Decimal):
        number = Decimal(value)
    else:
        raise ValueError("must be a number")
    if not number.is_finite():
        raise ValueError("must be a finite number")
    return number
