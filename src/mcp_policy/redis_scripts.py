"""Scripts on a Redis or Valkey server, for the stores that keep their state there.

Rules kept here:

* a store says what to run as a generator that yields `Run` and gets the reply sent back: one piece of code serves
  synchronous and asynchronous clients;
* nothing is tried again and nothing waits longer than the client's own timeout: a caller is waiting for a decision;
* a script that the server no longer knows (a restart, `SCRIPT FLUSH`) is sent whole, in one more round trip: it has not
  run;
* replies are bytes: a client that decodes them is refused.
"""

from __future__ import annotations

import hashlib
from collections.abc import Generator, Sequence
from functools import partial
from typing import Any, Final, NamedTuple, TypeAlias, TypeVar

from . import driving

try:
    import redis
    import redis.asyncio
    from redis.backoff import NoBackoff
    from redis.exceptions import NoScriptError
    from redis.retry import Retry
except ImportError as error:
    raise ImportError('stores on Redis need redis-py: pip install "mcp-policy[redis]"') from error

Answer = TypeVar("Answer")

TIMEOUT: Final = 0.25
"""Seconds that a connection, and then a reply, may take."""

_CONNECTIONS: Final = 64


class Script(NamedTuple):
    """A Lua script, and the name that a server knows it by."""

    text: str
    sha: str


def script(text: str) -> Script:
    """Return a script."""
    return Script(text, hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest())


class Run(NamedTuple):
    """One script call: `keys` share one hash slot."""

    script: Script
    keys: Sequence[str]
    arguments: Sequence[str | bytes | int | float]


Steps: TypeAlias = "Generator[Run, Any, Answer]"


def client(url: str, timeout: float = TIMEOUT) -> redis.Redis:
    """Return a client that answers or fails within `timeout` seconds, and never tries anything again."""
    pool = redis.BlockingConnectionPool.from_url(url, **_settings(timeout), retry=Retry(NoBackoff(), 0))
    return redis.Redis.from_pool(pool)


def async_client(url: str, timeout: float = TIMEOUT) -> redis.asyncio.Redis:
    """As `client`, for asyncio."""
    retry = redis.asyncio.retry.Retry(NoBackoff(), 0)
    pool = redis.asyncio.BlockingConnectionPool.from_url(url, **_settings(timeout), retry=retry)
    return redis.asyncio.Redis.from_pool(pool)


def _settings(timeout: float) -> dict[str, Any]:
    if not 0 < timeout < 3_600:
        raise ValueError("`timeout` must be a number of seconds above 0 and below 3,600")
    return {
        "socket_timeout": timeout,
        "socket_connect_timeout": timeout,
        "timeout": timeout,  # for a connection out of the pool
        "max_connections": _CONNECTIONS,
        "decode_responses": False,
    }


def check_client(given: Any) -> None:
    """Raise `ValueError` for a client whose replies are not bytes."""
    if given.get_encoder().decode_responses:
        raise ValueError("the stores need a client without `decode_responses`: their replies are bytes")


def drive(given: Any, steps: Steps[Answer]) -> Answer:
    """Run what a generator asks for, on a synchronous client."""
    return driving.drive(steps, partial(_evaluate, given))


async def drive_async(given: Any, steps: Steps[Answer]) -> Answer:
    """As `drive`, on an asynchronous client."""
    return await driving.drive_async(steps, partial(_evaluate_async, given))


def _evaluate(given: Any, run: Run) -> Any:
    try:
        return given.evalsha(run.script.sha, len(run.keys), *run.keys, *run.arguments)
    except NoScriptError:
        return given.eval(run.script.text, len(run.keys), *run.keys, *run.arguments)


async def _evaluate_async(given: Any, run: Run) -> Any:
    try:
        return await given.evalsha(run.script.sha, len(run.keys), *run.keys, *run.arguments)
    except NoScriptError:
        return await given.eval(run.script.text, len(run.keys), *run.keys, *run.arguments)
