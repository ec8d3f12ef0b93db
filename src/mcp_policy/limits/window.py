"""The sliding window of one key: a compact log that never admits too much.

A log is a flat list: the total, then three entries for every slot, oldest first:
`[total, first, last, cost, first, last, cost, ...]`. Flat, because a fresh counter is then one small list.

Rules kept here:

* a cost at `last` counts at `now` exactly while `last + window > now`. There is no other form of this comparison,
  since `last <= now - window` differs from it in the last bit. At its own moment a cost counts in any case, also when
  the window is too short for the clock to tell;
* costs of one moment share a slot. Up to `RESOLUTION` slots every moment has its own; beyond, a cost joins the newest
  slot while that slot is younger than window / `RESOLUTION`, and a slot counts until its *last* moment has left the
  window. So room comes back late by at most that much, and never early;
* hence a log holds at most 2 * `RESOLUTION` + 1 slots, however many costs it counts;
* slots do not overlap, and the times given to one log never decrease. Costs are integers above zero.
"""

from __future__ import annotations

from math import inf, nextafter
from typing import Any, TypeAlias

from .store import Reply

Log: TypeAlias = list[Any]  # the total and the costs are int, the times float

RESOLUTION = 256

_CROWDED = 1 + 3 * RESOLUTION


def start(now: float, cost: int) -> Log:
    """A log with its first cost."""
    return [cost, now, now, cost]


def take(log: Log, window: float, now: float, cost: int, maximum: int) -> int:
    """Count a cost of at most `maximum` if it fits: all that counts then, or 0 when it does not fit.

    Drops the slots that no longer count.
    """
    moved = log[-2] != now
    if moved:
        try:
            while log[2] + window <= now:
                log[0] -= log[3]
                del log[1:4]
        except IndexError:
            pass  # nothing is left, so the cost fits and starts the log anew
    used: int = log[0] + cost
    if used > maximum:
        return 0
    log[0] = used
    if not moved:
        log[-1] += cost
    elif len(log) < _CROWDED or now - log[-3] >= window / RESOLUTION:
        # three appends are faster than one extend
        log.append(now)
        log.append(now)
        log.append(cost)
    else:
        log[-2] = now
        log[-1] += cost
    return used


def refund(log: Log, at: float, cost: int) -> None:
    """Take a cost that was counted at this moment out again, if its slot is still there.

    Never more than the slot holds. A log may be left empty, for the caller to throw away.
    """
    for slot in range(len(log) - 3, 0, -3):
        if log[slot] <= at <= log[slot + 1]:
            back = min(cost, log[slot + 2])
            log[0] -= back
            log[slot + 2] -= back
            if not log[slot + 2]:
                del log[slot : slot + 3]
            return


def is_empty(log: Log) -> bool:
    """Whether the log holds no slot."""
    return len(log) == 1


def is_over(log: Log, window: float, now: float) -> bool:
    """Whether nothing in the log counts any more."""
    return len(log) == 1 or (log[-2] + window <= now and log[-2] != now)


def standing(log: Log, window: float, now: float, cost: int, maximum: int) -> Reply:
    """The reply to a cost that is not taken; changes nothing.

    The cost fits when enough of what counts now has left the window, if nothing else is taken.
    """
    never = cost > maximum or not maximum
    room = inf if never else maximum - cost
    total = left = log[0]
    awaited = None
    for slot in range(1, len(log), 3):
        last = log[slot + 1]
        if last + window <= now and last != now:
            total -= log[slot + 2]
            left = total
        elif left > room:
            left -= log[slot + 2]
            awaited = last
        else:
            break
    retry_after = None if never else 0.0 if awaited is None else _wait(awaited, window, now)
    return Reply(total, retry_after, _wait(log[-2], window, now) if total else 0.0, True)


def _wait(last: float, window: float, now: float) -> float:
    """Seconds that lead from now to when a cost has left the window, not to just before it."""
    end = last + window
    if end <= now:  # the window is too short for the clock to tell
        end = nextafter(now, inf)
    seconds = end - now
    return seconds if now + seconds >= end else nextafter(seconds, inf)
