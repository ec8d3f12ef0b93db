"""Telling a receiver of signed HTTP requests about approvals that wait.

Rules kept here:

* at least once: the store is the outbox. An approval is sent until the receiver answers with 2xx, or it waits no more.
  What was sent, this process alone knows; after a restart it is sent again, under the same `webhook-id`;
* each approval backs off by itself and holds up no other; a try takes `timeout` seconds at most, all in all;
* requests go where the URL says and nowhere else: redirects are not followed, TLS is verified, and plain HTTP stays on
  this machine, past all proxies, unless it is asked for;
* a body holds arguments only where they are asked for; no message holds them, the secret, or more of the URL than its
  host;
* what is remembered is bounded by what waits in the store, which bounds that itself.

Requests are those of https://www.standardwebhooks.com.
"""

from __future__ import annotations

import asyncio
import base64
import hmac
import json
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from hashlib import sha256
from ipaddress import ip_address
from threading import Event, Thread
from typing import Any, Final, Protocol, TypeAlias

from ..errors import readable
from ..logs import log
from .store import Approval

try:
    import httpx2
except ImportError as error:
    raise ImportError('webhooks need httpx2: pip install "mcp-policy[webhook]"') from error

EVERY: Final = 0.5
"""Seconds between two looks into the store."""
LONGEST_WAIT: Final = 60.0
"""Seconds between two tries, at most; the first wait is one second, and each is twice the one before."""

_AT_ONCE: Final = 8  # requests
_KEY_BYTES: Final = (24, 64)  # of a secret, as the standard has it
_EPOCH: Final = 1e9  # seconds: a clock beyond counts from 1970, one below from when this machine was started

Sleep: TypeAlias = Callable[[float], Awaitable[object]]


class Waiting(Protocol):
    """An `ApprovalStore`, an `AsyncApprovalStore`, or a `PolicyEngine`."""

    def pending(self) -> list[Approval] | Awaitable[list[Approval]]:
        """The valid records that wait for an answer."""


class Webhook:
    """A receiver, and how it is told.

    `url` has `https:`, or `http:` where it leads to this machine; `plain_http` lets it lead elsewhere. `secret` signs:
    24 to 64 bytes, or `whsec_` and their base64. `arguments` puts the arguments of calls into requests. `timeout` is
    in seconds, for one try. Raises `ValueError`.
    """

    __slots__ = ("_arguments", "_key", "_timeout", "_url", "host")

    def __init__(
        self,
        url: str,
        secret: str | bytes,
        *,
        arguments: bool = False,
        timeout: float = 10.0,
        plain_http: bool = False,
    ) -> None:
        if not 0 < timeout < 3_600:
            raise ValueError("`timeout` must be a number of seconds above 0 and below 3,600")
        self._url = _checked(url, plain_http=plain_http)
        self._key = _key(secret)
        self._arguments = arguments
        self._timeout = timeout
        self.host = readable(self._url.host)

    def client(self) -> httpx2.AsyncClient:
        """Return a client that leads where it should, and nowhere else."""
        proxies = self._url.scheme == "https"  # which see a tunnel; one for plain HTTP would see everything
        return httpx2.AsyncClient(timeout=self._timeout, follow_redirects=False, verify=True, trust_env=proxies)

    def body(self, approval: Approval) -> bytes:
        """Return what a request says of an approval, as JSON."""
        data: dict[str, Any] = {
            "id": approval.id,
            "tool": approval.tool,
            "server": approval.server,
            "principal": approval.principal,
            "rules": approval.rules,
            "reason": approval.reason,
            "created": _iso(approval.created_at),
            "expires": _iso(approval.expires_at),
            "needed": approval.needed,
        }
        if self._arguments:
            data["arguments"] = approval.arguments
        said = {"type": "approval.pending", "timestamp": data["created"], "data": data}
        return json.dumps(said, default=str).encode()  # a Decimal as text is exact

    async def send(self, client: httpx2.AsyncClient, approval: Approval) -> str | None:
        """Try once; return why the receiver has not taken it, or None where it has."""
        try:
            body = self.body(approval)
            async with asyncio.timeout(self._timeout):
                request = client.stream("POST", self._url, content=body, headers=self._headers(approval.id, body))
                async with request as response:  # of which nothing but the status is read
                    return None if response.is_success else f"it answered {response.status_code}"
        except (TimeoutError, httpx2.TimeoutException):
            return f"no answer within {self._timeout:g} s"
        except Exception as error:  # noqa: BLE001  # whatever comes of one try, there is another
            return readable(f"{type(error).__name__}: {error}".removesuffix(": "), 200)

    def _headers(self, approval_id: str, body: bytes) -> dict[str, str]:
        name, now = f"{approval_id}:pending", str(int(time.time()))
        signed = hmac.digest(self._key, f"{name}.{now}.".encode() + body, sha256)
        return {
            "content-type": "application/json",
            "user-agent": "mcp-policy",
            "webhook-id": name,
            "webhook-timestamp": now,
            "webhook-signature": f"v1,{base64.b64encode(signed).decode()}",
        }


async def deliver_pending(approvals: Waiting, webhook: Webhook, *, sleep: Sleep = asyncio.sleep) -> None:
    """Tell the receiver of every approval that waits, or comes to wait, until this is cancelled: run it as a task.

    Never raises for what a store or a receiver does; that is logged under `mcp_policy`.
    """
    places = asyncio.Semaphore(_AT_ONCE)
    known: dict[str, asyncio.Task[None]] = {}
    reachable = True
    async with webhook.client() as client, asyncio.TaskGroup() as group:
        while True:
            try:
                found = await _look(approvals)
            except Exception as error:  # noqa: BLE001  # whatever a store raises, it cannot answer
                if reachable:
                    log().error("the store of approvals cannot answer a webhook: %r", error)
                reachable = False
            else:
                reachable = True
                for gone in known.keys() - {record.id for record in found}:
                    known.pop(gone).cancel()
                for record in found:
                    if record.id not in known:
                        known[record.id] = group.create_task(_deliver(record, webhook, client, places, sleep))
            await sleep(EVERY)


@contextmanager
def delivering(approvals: Waiting, webhook: Webhook) -> Iterator[None]:
    """Run `deliver_pending` in a thread of its own while the block runs, for programs without an event loop."""
    running = Event()
    stop: list[Callable[[], object]] = []

    async def main() -> None:
        loop, task = asyncio.get_running_loop(), asyncio.current_task()
        assert task is not None  # noqa: S101  # this is one
        stop.append(lambda: loop.call_soon_threadsafe(task.cancel))
        running.set()
        with suppress(asyncio.CancelledError):
            await deliver_pending(approvals, webhook)

    thread = Thread(target=asyncio.run, args=(main(),), name="mcp-policy webhook", daemon=True)
    thread.start()
    running.wait()
    try:
        yield
    finally:
        with suppress(RuntimeError):  # the loop has ended already
            stop[0]()
        thread.join()


async def _look(approvals: Waiting) -> list[Approval]:
    found = getattr(approvals, "pending_async", approvals.pending)()
    return await found if isinstance(found, Awaitable) else found


async def _deliver(
    approval: Approval, webhook: Webhook, client: httpx2.AsyncClient, places: asyncio.Semaphore, sleep: Sleep
) -> None:
    wait = 1.0
    while True:
        async with places:
            failure = await webhook.send(client, approval)
        if failure is None:
            return
        said = "the webhook at %s did not take approval %s: %s; tried again in %g s"
        log().warning(said, webhook.host, readable(approval.id), failure, wait)
        await sleep(wait)
        wait = min(2 * wait, LONGEST_WAIT)


def _checked(url: str, *, plain_http: bool) -> httpx2.URL:
    """Return a URL that requests may go to. No message repeats it: paths and queries of webhooks hold secrets."""
    try:
        parsed = httpx2.URL(url)
    except (httpx2.InvalidURL, TypeError):
        parsed = httpx2.URL("")
    if parsed.scheme not in {"http", "https"} or not parsed.host:
        raise ValueError("the URL of a webhook is like `https://host/path`")
    if parsed.scheme == "http" and not plain_http and not _is_here(parsed.host):
        raise ValueError("the URL of a webhook has `https:`; `http:` would show what is sent to everybody on the way")
    return parsed


def _is_here(host: str) -> bool:
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


def _key(secret: str | bytes) -> bytes:
    try:
        key = secret if isinstance(secret, bytes) else _decoded(secret)
    except (AttributeError, ValueError):
        raise ValueError("the secret of a webhook is bytes, or `whsec_` and their base64") from None
    least, most = _KEY_BYTES
    if not least <= len(key) <= most:
        raise ValueError(f"the secret of a webhook has {least} to {most} bytes, not {len(key)}")
    return key


def _decoded(secret: str) -> bytes:
    if not secret.startswith("whsec_"):
        raise ValueError
    text = secret.removeprefix("whsec_")
    return base64.b64decode(text + "=" * (-len(text) % 4), validate=True)


def _iso(seconds: float) -> str | None:
    """Return a store's time as the time of day, None where it is none."""
    if seconds < _EPOCH:
        seconds += time.time() - time.monotonic()
    try:
        return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")
    except (OSError, OverflowError, ValueError):
        return None
