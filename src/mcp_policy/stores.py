"""Where limits and approvals are kept, by one address.

    sqlite:///state.db            a file of this machine, relative; sqlite:////srv/state.db for an absolute path
    redis://host:6379/0           a Redis or Valkey server; also rediss://, valkey://, valkeys:// and unix://

Asynchronous code (the adapters, the gateway) takes `open_async_stores`, so that a server far away never holds up the
event loop. A file answers at once, and serves both.
"""

from __future__ import annotations

from typing import Final, NamedTuple
from urllib.parse import unquote, urlsplit

from .approvals.store import ApprovalStore, AsyncApprovalStore
from .limits.store import AsyncLimitStore, LimitStore

_REDIS: Final = {
    "redis": "redis",
    "rediss": "rediss",
    "unix": "unix",
    "valkey": "redis",
    "valkeys": "rediss",
}
_RIGHT: Final = "`sqlite:///state.db` and `redis://localhost:6379/0` are right"


class Stores(NamedTuple):
    """Where one engine keeps its state: `PolicyEngine(policy, limits=stores.limits, approvals=stores.approvals)`."""

    limits: LimitStore
    approvals: ApprovalStore

    def close(self) -> None:
        """Close files and connections."""
        for store in self:
            store.close()  # type: ignore[union-attr]  # those that are opened here have it


class AsyncStores(NamedTuple):
    """As `Stores`, for `authorize_async`."""

    limits: LimitStore | AsyncLimitStore
    approvals: ApprovalStore | AsyncApprovalStore

    async def aclose(self) -> None:
        """Close files and connections."""
        for store in self:
            if hasattr(store, "aclose"):
                await store.aclose()
            else:
                store.close()  # type: ignore[union-attr]  # as above


def open_stores(url: str) -> Stores:
    """Return the stores at an address. Raises `ValueError` for what is no address of a store, `ImportError` where an
    extra is missing, and what opening a file raises; a server is asked when the first call comes.
    """
    kind, place = _read(url)
    if kind == "sqlite":
        from .approvals.sqlite import SQLiteApprovalStore
        from .limits.sqlite import SQLiteLimitStore

        return Stores(SQLiteLimitStore(place), SQLiteApprovalStore(place))
    from .approvals.redis import RedisApprovalStore
    from .limits.redis import RedisLimitStore

    return Stores(RedisLimitStore.from_url(place), RedisApprovalStore.from_url(place))


def open_async_stores(url: str) -> AsyncStores:
    """As `open_stores`, for asynchronous code."""
    kind, place = _read(url)
    if kind == "sqlite":
        return AsyncStores(*open_stores(url))
    from .approvals.redis import AsyncRedisApprovalStore
    from .limits.redis import AsyncRedisLimitStore

    return AsyncStores(AsyncRedisLimitStore.from_url(place), AsyncRedisApprovalStore.from_url(place))


def _read(url: str) -> tuple[str, str]:
    """Return the kind of store, and the path or the address. No message repeats a URL: it may hold a password."""
    parts = urlsplit(url)
    if parts.scheme == "sqlite":
        if parts.netloc or parts.query or parts.fragment or len(parts.path) < 2:
            raise ValueError(
                "a file of state is named with three slashes: `sqlite:///state.db` (four: an absolute path)"
            )
        return "sqlite", unquote(parts.path[1:])
    if parts.scheme in _REDIS:
        return "redis", url.replace(parts.scheme, _REDIS[parts.scheme], 1)
    found = f"`{parts.scheme}:`" if parts.scheme.isascii() and parts.scheme else "no kind of store"
    raise ValueError(f"found {found} where the address of a store should be; {_RIGHT}")
