"""Approvals on a Redis or Valkey server, for processes on many machines.

Rules kept here, besides those of `store`:

* every step that decides is one script, `approvals.lua`; the time is the server's, whatever the clients' clocks say;
* what a vote makes of a record is computed here, and written only if the record is still as it was read: a vote that
  was overtaken by another one is computed anew;
* a record that cannot be read, or is of another call than it should be, raises: it approves nothing;
* every key expires by itself: a record an hour after it has expired, which is how long that is remembered;
* whatever fails raises, and the engine lets no call run.

All keys share one hash slot, so this works on a Cluster too; approvals are rare.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from hashlib import sha256
from math import isfinite
from pathlib import Path
from secrets import token_hex
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Self, TypeAlias

from ..redis_scripts import TIMEOUT, Run, async_client, check_client, client, drive, drive_async, script
from .store import Approval, ApprovalError, ApprovalRequest, Vote, check_ttl, decided, pending, unknown
from .texts import read, written

if TYPE_CHECKING:
    import redis
    import redis.asyncio

_SCRIPT: Final = script((Path(__file__).parent / "approvals.lua").read_text(encoding="utf-8"))
_TRIES: Final = 20  # for one vote, overtaken by others each time
_STATUS: Final = {"pending": "P", "approved": "A", "rejected": "R"}
_EXPIRED: Final = "has expired"

Steps: TypeAlias = "Generator[Run, Any, Any]"


class _Found(NamedTuple):
    """The store's time, and a record, which may have expired."""

    now: float
    record: Approval | None
    text: str = ""

    @property
    def valid(self) -> Approval | None:
        return self.record if self.record is not None and self.now < self.record.expires_at else None


class _Approvals:
    """What is asked of the server, and what its replies mean; both stores ask alike."""

    def __init__(self, prefix: str, max_pending: int, capacity: int, clock: Callable[[], float] | None) -> None:
        self._tag = f"{{{prefix}:approvals}}"
        self._max_pending, self._capacity = max_pending, capacity
        self._clock = clock

    def find(self, digest: str) -> Steps:
        found = _found((yield self._run("look", digest)), digest)
        return found.valid, found.record is not None and found.valid is None

    def ask(self, request: ApprovalRequest) -> Steps:
        check_ttl(request)
        digest = request.digest
        found = _found((yield self._run("ask", digest)), digest)
        if found.valid is not None:
            return found.valid, False
        expired = found.record is not None
        record = pending(request, token_hex(16), found.now)
        room = (self._max_pending, self._capacity)
        reply = yield self._run(
            "create", digest, record.id, repr(record.expires_at), written(record), *room, owner=request.owner
        )
        if reply == b"full":
            return None, expired
        if reply == b"made":
            return record, expired
        return _found(reply, digest).valid, False  # another process was faster

    def consume(self, digest: str) -> Steps:
        record = _found((yield self._run("consume", digest)), digest).valid
        if record is not None and record.status != "approved":
            raise ValueError("the server gave out an approval that is none")
        return record

    def decide(self, approval_id: str, approved: bool, by: str, note: str) -> Steps:
        for _ in range(_TRIES):
            found = yield from self._with_id("decide", approval_id)
            if isinstance(found, str):
                raise unknown(approval_id, found)
            record = found.valid
            if record is None:
                raise unknown(approval_id, _EXPIRED)
            record = decided(record, approved, Vote(by, found.now, note))
            texts = (found.text, written(record), _STATUS[record.status])
            if (yield self._run("replace", record.digest, *texts)) == 1:
                return record
        raise ApprovalError(f"approval `{approval_id}` is being decided by others: nothing was decided; try again")

    def get(self, approval_id: str) -> Steps:
        found = yield from self._with_id("find", approval_id)
        return None if isinstance(found, str) else found.valid

    def pending(self) -> Steps:
        return [found.record for found in map(_found, (yield self._run("pending")))]

    def _with_id(self, what: str, approval_id: str) -> Steps:
        """The record with an id, or what became of it; an empty text where nothing is known."""
        if not approval_id.isascii():
            return ""
        reply = yield self._run(what, approval_id)
        if isinstance(reply, list) and len(reply) == 2:
            return bytes(reply[1]).decode().removeprefix("=")
        found = _found(reply)
        if found.record is None or found.record.id != approval_id:  # its digest was asked about anew since
            return _EXPIRED
        return found

    def _run(self, what: str, *arguments: str | int, owner: str | None = None) -> Run:
        names = ("time", "live", "waiting", "sequence")
        keys = [f"{self._tag}:{name}" for name in names]
        if owner is not None:
            keys.append(f"{self._tag}:owner:{sha256(owner.encode()).hexdigest()}")
        prefixes = (f"{self._tag}:record:", f"{self._tag}:id:")
        return Run(_SCRIPT, keys, (what, *self._time(), *prefixes, *arguments))

    def _time(self) -> tuple[str, str]:
        if self._clock is None:
            return "0", ""
        now = self._clock()
        if not isfinite(now):
            raise ValueError("the clock of an approval store must answer a finite number of seconds")
        return "1", repr(float(now))


def _found(reply: Any, digest: str | None = None) -> _Found:
    """What a reply tells. Raises `ValueError` where it is no reply of the script, or not about this digest."""
    if not isinstance(reply, list) or len(reply) not in {1, 6}:
        raise ValueError("the server's reply is none of the script")
    now = float(reply[0])
    if len(reply) == 1:
        return _Found(now, None)
    status, approval_id, expires, _, text = [bytes(part).decode() for part in reply[1:]]
    try:
        record = read(text)
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError("the record of an approval is damaged") from error
    same = (_STATUS.get(record.status), record.id, record.expires_at) == (status, approval_id, float(expires))
    if not same or (digest is not None and record.digest != digest):
        raise ValueError("the record of an approval is damaged: it says one thing and its index another")
    return _Found(now, record, text)


# -- the stores


class RedisApprovalStore:
    """Approvals on a server, for any number of threads, processes and machines.

    `given` is a client of redis-py, `Redis` or `RedisCluster`, without `decode_responses`; give it timeouts and no
    retries, as `from_url` does. `prefix` begins all keys. `max_pending` is the number of pending records per owner,
    `capacity` that of all valid records together. `clock` is for tests; without it the server's time counts.
    """

    def __init__(
        self,
        given: redis.Redis | redis.RedisCluster,
        *,
        prefix: str = "mcp-policy",
        max_pending: int = 100,
        capacity: int = 100_000,
        clock: Callable[[], float] | None = None,
    ) -> None:
        check_client(given)
        self.client = given
        self._approvals = _Approvals(prefix, max_pending, capacity, clock)

    @classmethod
    def from_url(cls, url: str, *, timeout: float = TIMEOUT, **settings: Any) -> Self:
        """Return a store on the server at `redis://host:port/0`. It answers or fails within `timeout` seconds."""
        return cls(client(url, timeout), **settings)

    def close(self) -> None:
        """Close the client's connections."""
        self.client.close()

    def find(self, digest: str) -> tuple[Approval | None, bool]:
        """The valid record for this digest, and whether its last one expired. Changes nothing."""
        found: tuple[Approval | None, bool] = drive(self.client, self._approvals.find(digest))
        return found

    def ask(self, request: ApprovalRequest) -> tuple[Approval | None, bool]:
        """The valid record, else a new pending one, and whether the one before it expired.

        No record: the owner has too many pending, or the store is full. Raises `ValueError` for a `ttl` that is not a
        finite number above 0.
        """
        asked: tuple[Approval | None, bool] = drive(self.client, self._approvals.ask(request))
        return asked

    def consume(self, digest: str) -> Approval | None:
        """Use up the approved, valid record; exactly one of many callers gets it, the others get `None`."""
        used: Approval | None = drive(self.client, self._approvals.consume(digest))
        return used

    def decide(self, approval_id: str, approved: bool, by: str, note: str = "") -> Approval:
        """Approve or reject a pending, valid record in the name of `by`. Raises `ApprovalError`.

        A record that needs more approvals than it has by now stays pending.
        """
        record: Approval = drive(self.client, self._approvals.decide(approval_id, approved, by, note))
        return record

    def get(self, approval_id: str) -> Approval | None:
        """The valid record with this id."""
        found: Approval | None = drive(self.client, self._approvals.get(approval_id))
        return found

    def pending(self) -> list[Approval]:
        """The valid records that wait for an answer, oldest first."""
        waiting: list[Approval] = drive(self.client, self._approvals.pending())
        return waiting


class AsyncRedisApprovalStore:
    """As `RedisApprovalStore`, for asyncio: takes a client of `redis.asyncio`."""

    def __init__(
        self,
        given: redis.asyncio.Redis | redis.asyncio.RedisCluster,
        *,
        prefix: str = "mcp-policy",
        max_pending: int = 100,
        capacity: int = 100_000,
        clock: Callable[[], float] | None = None,
    ) -> None:
        check_client(given)
        self.client = given
        self._approvals = _Approvals(prefix, max_pending, capacity, clock)

    @classmethod
    def from_url(cls, url: str, *, timeout: float = TIMEOUT, **settings: Any) -> Self:
        """As `RedisApprovalStore.from_url`."""
        return cls(async_client(url, timeout), **settings)

    async def aclose(self) -> None:
        """Close the client's connections."""
        await self.client.aclose()

    async def find(self, digest: str) -> tuple[Approval | None, bool]:
        """As `RedisApprovalStore.find`."""
        found: tuple[Approval | None, bool] = await drive_async(self.client, self._approvals.find(digest))
        return found

    async def ask(self, request: ApprovalRequest) -> tuple[Approval | None, bool]:
        """As `RedisApprovalStore.ask`."""
        asked: tuple[Approval | None, bool] = await drive_async(self.client, self._approvals.ask(request))
        return asked

    async def consume(self, digest: str) -> Approval | None:
        """As `RedisApprovalStore.consume`."""
        used: Approval | None = await drive_async(self.client, self._approvals.consume(digest))
        return used

    async def decide(self, approval_id: str, approved: bool, by: str, note: str = "") -> Approval:
        """As `RedisApprovalStore.decide`."""
        record: Approval = await drive_async(self.client, self._approvals.decide(approval_id, approved, by, note))
        return record

    async def get(self, approval_id: str) -> Approval | None:
        """As `RedisApprovalStore.get`."""
        found: Approval | None = await drive_async(self.client, self._approvals.get(approval_id))
        return found

    async def pending(self) -> list[Approval]:
        """As `RedisApprovalStore.pending`."""
        waiting: list[Approval] = await drive_async(self.client, self._approvals.pending())
        return waiting
