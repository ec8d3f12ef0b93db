"""What the engine asks of a store of limits, and what it gets back.

Rules that every store keeps:

* at time t the costs taken in (t - window, t] count, and together never exceed `maximum`;
* the requests of one call are taken together or not at all, in one atomic step (one round trip for a remote store);
* a cost above `maximum`, or any cost when `maximum` is 0, is never taken;
* a refused call and a `peek` take nothing;
* time is a high-water mark: a clock that goes back neither frees nor extends a count;
* state is bounded per counter; a live count is never dropped to make room;
* a store that cannot answer raises, and the engine denies.

Everything here is plain and immutable, so that it can be sent over a wire.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol, TypeAlias, Union

Key: TypeAlias = Union[str, "tuple[Key, ...]", None]
"""Who is counted: an identity, several of them, or `None` for identity not known (one shared key)."""


class CounterSpec(NamedTuple):
    """One counter as a policy states it; made once, when the policy is compiled."""

    counter: str
    """Identity of the counter."""
    window: float
    """Seconds."""
    maximum: int
    """Millionths."""
    optional: bool
    """Whether the call may run although this counter has no room for a new key."""


Request: TypeAlias = "tuple[CounterSpec, Key, int]"
"""A counter, the key in it, and the cost in millionths. A call names each counter at most once."""


class Reply(NamedTuple):
    """What one request met."""

    used: int
    """Millionths that count now; with this call's cost when it was taken."""
    retry_after: float | None
    """Seconds until the cost fits; 0.0 when it fits or was taken, `None` when it never will or nothing is known."""
    reset_after: float
    """Seconds until nothing counts any more."""
    available: bool
    """False: the counter has no room for this key, and nothing is counted for it."""


class Receipt(NamedTuple):
    """What came of the requests of one call; the way to give a cost back."""

    taken: bool
    replies: tuple[Reply, ...]
    """In the order of the requests."""
    at: float
    """The store's time, in seconds, at which the costs count."""
    requests: tuple[Request, ...]


class LimitStore(Protocol):
    """Counts costs per counter and key over sliding windows."""

    def acquire(self, requests: Sequence[Request]) -> Receipt:
        """Take every cost, or none if one of them does not fit."""

    def peek(self, requests: Sequence[Request]) -> Receipt:
        """What `acquire` would meet; takes nothing and changes nothing."""

    def refund(self, receipt: Receipt, which: Sequence[int]) -> None:
        """Give back the costs of these requests (indices), if they still count. The caller asks once per receipt."""


class AsyncLimitStore(Protocol):
    """A `LimitStore` whose answers are awaited."""

    async def acquire(self, requests: Sequence[Request]) -> Receipt:
        """As `LimitStore.acquire`."""

    async def peek(self, requests: Sequence[Request]) -> Receipt:
        """As `LimitStore.peek`."""

    async def refund(self, receipt: Receipt, which: Sequence[int]) -> None:
        """As `LimitStore.refund`."""


def render(counter: str, key: Key) -> str:
    """A counter and its key as one ASCII string that no other pair has."""
    import json  # only stores outside this process need it

    return json.dumps([counter, key], separators=(",", ":"))
