"""Webhooks, sent to real servers of this machine and verified by the library of the standard.

Time between looks and tries passes when a test says so.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import logging
import socket
import ssl
import threading
import time
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from heapq import heappop, heappush
from ipaddress import ip_address
from itertools import count

import pytest
import standardwebhooks

from mcp_policy import Policy, PolicyEngine, Principal, ToolCall
from mcp_policy.approvals import Approval, ApprovalRequest, MemoryApprovalStore
from mcp_policy.approvals.webhook import EVERY, LONGEST_WAIT, Webhook, deliver_pending, delivering
from webhook_receiver import Receiver

SECRET = "whsec_" + base64.b64encode(bytes(range(32))).decode()
NOW = 1_800_000_000.0
POLICY = Policy.model_validate(
    {"version": "1", "tools": {"pay": {"action": "approve", "reason": "money leaves the house"}}}
)


# -- receivers


@pytest.fixture
def receiver():
    with Receiver() as one:
        yield one


@pytest.fixture
def released():
    """Set when the test is over, for receivers that do not answer."""
    event = threading.Event()
    yield event
    event.set()


def statuses(*said):
    """Answer these, and then success."""
    left = list(said)
    return lambda got: left.pop(0) if left else 200


# -- time


class Time:
    """Time that passes when a test says so."""

    def __init__(self):
        self.now = 0.0
        self.waits: list[float] = []
        self._sleepers: list = []
        self._numbers = count()

    async def sleep(self, seconds):
        self.waits.append(seconds)
        woken = asyncio.get_running_loop().create_future()
        heappush(self._sleepers, (self.now + seconds, next(self._numbers), woken))
        await woken

    def forward(self, seconds):
        self.now += seconds
        while self._sleepers and self._sleepers[0][0] <= self.now:
            woken = heappop(self._sleepers)[2]
            if not woken.done():
                woken.set_result(None)

    async def look(self):
        """Let the store be looked at once more."""
        looks = self.waits.count(EVERY)
        self.forward(EVERY)
        await until(lambda: self.waits.count(EVERY) > looks)


async def until(condition):
    """Wait for something real."""
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        await asyncio.sleep(0.001)


@contextlib.asynccontextmanager
async def delivered(approvals, *webhooks, sleep=asyncio.sleep):
    """Deliver while the block runs."""
    tasks = [asyncio.create_task(deliver_pending(approvals, webhook, sleep=sleep)) for webhook in webhooks]
    try:
        yield
        assert not any(task.done() for task in tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


# -- approvals


@pytest.fixture
def store():
    return MemoryApprovalStore(clock=lambda: NOW)


@pytest.fixture
def engine(store):
    return PolicyEngine(POLICY, clock=lambda: NOW, approvals=store)


def ask(engine, amount=1) -> Approval:
    return engine.authorize(ToolCall("pay", {"amount": amount}, principal=Principal("ann"))).approval


def in_store(store, **changed) -> Approval:
    asked = ApprovalRequest("d", "o", 900.0, "pay", None, {}, None, None, (), "")._replace(**changed)
    return store.ask(asked)[0]


# -- what is sent


def test_a_request_says_what_waits_and_is_signed(engine, receiver):
    async def story():
        record = ask(engine)
        async with delivered(engine, Webhook(receiver.url, SECRET)):
            await until(lambda: receiver.got)
        return record

    record = asyncio.run(story())
    (got,) = receiver.got
    said = standardwebhooks.Webhook(SECRET).verify(got.body, got.headers)
    assert said == {
        "type": "approval.pending",
        "timestamp": "2027-01-15T08:00:00+00:00",
        "data": {
            "id": record.id,
            "tool": "pay",
            "server": None,
            "principal": {"id": "ann", "issuer": None, "client": None},
            "rules": ["/tools/pay"],
            "reason": "money leaves the house",
            "created": "2027-01-15T08:00:00+00:00",
            "expires": "2027-01-15T08:15:00+00:00",
            "needed": 1,
        },
    }
    assert got.id == f"{record.id}:pending"
    assert got.headers["content-type"] == "application/json"
    with pytest.raises(standardwebhooks.WebhookVerificationError):
        standardwebhooks.Webhook(SECRET).verify(got.body.replace(b"pay", b"pax"), got.headers)


def test_a_secret_of_bytes_signs_as_its_base64_does(engine, receiver):
    async def story():
        ask(engine)
        async with delivered(engine, Webhook(receiver.url, bytes(range(32)))):
            await until(lambda: receiver.got)

    asyncio.run(story())
    (got,) = receiver.got
    standardwebhooks.Webhook(SECRET).verify(got.body, got.headers)


def test_arguments_are_sent_where_they_are_asked_for_and_only_there(store, receiver):
    in_store(store, arguments={"amount": Decimal("0.10"), "note": "\u202e\ud800"})

    async def story():
        async with delivered(store, Webhook(receiver.url, SECRET), Webhook(receiver.url, SECRET, arguments=True)):
            await until(lambda: len(receiver.got) == 2)

    asyncio.run(story())
    without, with_them = sorted(receiver.got, key=lambda got: len(got.body))
    assert b"0.10" not in without.body
    assert with_them.data["arguments"] == {"amount": "0.10", "note": "\u202e\ud800"}


def test_a_store_whose_clock_is_no_time_of_day_still_gives_one(receiver):
    store = MemoryApprovalStore()
    in_store(store)

    async def story():
        async with delivered(store, Webhook(receiver.url, SECRET)):
            await until(lambda: receiver.got)

    asyncio.run(story())
    expires = datetime.fromisoformat(receiver.got[0].data["expires"])
    assert abs(expires - datetime.now(UTC) - timedelta(seconds=900)) < timedelta(seconds=60)


def test_times_that_no_calendar_has_are_null(store, receiver):
    in_store(store, ttl=1e300)

    async def story():
        async with delivered(store, Webhook(receiver.url, SECRET)):
            await until(lambda: receiver.got)

    asyncio.run(story())
    assert receiver.got[0].data["expires"] is None


# -- at least once


def test_what_is_taken_is_not_sent_again(engine, receiver):
    async def story():
        clock = Time()
        ask(engine, 1)
        async with delivered(engine, Webhook(receiver.url, SECRET), sleep=clock.sleep):
            await until(lambda: len(receiver.got) == 1)
            for _ in range(5):
                await clock.look()
            ask(engine, 2)
            await clock.look()
            await until(lambda: len(receiver.got) == 2)

    asyncio.run(story())
    assert len({got.id for got in receiver.got}) == 2


@pytest.mark.parametrize("status", [500, 503, 404, 410, 304])
def test_what_fails_is_sent_again_under_the_same_id(engine, status):
    async def story():
        clock = Time()
        ask(engine)
        async with delivered(engine, Webhook(receiver.url, SECRET), sleep=clock.sleep):
            await until(lambda: 1.0 in clock.waits)
            clock.forward(1.0)
            await until(lambda: len(receiver.got) == 2)
            clock.forward(1_000.0)
            await clock.look()

    with Receiver(statuses(status)) as receiver:
        asyncio.run(story())
    first, second = receiver.got
    assert first.id == second.id
    assert first.body == second.body
    for got in receiver.got:
        standardwebhooks.Webhook(SECRET).verify(got.body, got.headers)


def test_waits_double_up_to_a_minute(engine):
    async def story():
        clock = Time()
        ask(engine)
        async with delivered(engine, Webhook(receiver.url, SECRET), sleep=clock.sleep):
            for tries in range(1, 10):
                await until(lambda tries=tries: len(waits(clock)) == tries)
                clock.forward(waits(clock)[-1])
        return waits(clock)

    def waits(clock):
        return [wait for wait in clock.waits if wait != EVERY]

    with Receiver(lambda got: 500) as receiver:
        assert asyncio.run(story())[:9] == [1, 2, 4, 8, 16, 32, 60, 60, 60]
    assert LONGEST_WAIT == 60


def test_a_receiver_that_is_down_gets_it_when_it_is_up(engine):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]

    async def story():
        clock = Time()
        ask(engine)
        async with delivered(engine, Webhook(f"http://127.0.0.1:{port}/", SECRET), sleep=clock.sleep):
            await until(lambda: 1.0 in clock.waits)
            with Receiver(port=port) as receiver:
                clock.forward(1.0)
                await until(lambda: receiver.got)

    asyncio.run(story())


def test_after_a_restart_it_is_sent_again_under_the_same_id(engine, receiver):
    async def story(times):
        async with delivered(engine, Webhook(receiver.url, SECRET)):
            await until(lambda: len(receiver.got) == times)

    ask(engine)
    asyncio.run(story(1))
    asyncio.run(story(2))
    assert len({got.id for got in receiver.got}) == 1


@pytest.mark.parametrize("decide", ["approve", "reject"])
def test_what_is_decided_meanwhile_is_not_sent_again(engine, decide):
    async def story():
        clock = Time()
        record = ask(engine)
        async with delivered(engine, Webhook(receiver.url, SECRET), sleep=clock.sleep):
            await until(lambda: 1.0 in clock.waits)
            getattr(engine, decide)(record.id, by="dana")
            await clock.look()
            clock.forward(1_000.0)
            await clock.look()

    with Receiver(lambda got: 500) as receiver:
        asyncio.run(story())
        assert len(receiver.got) == 1


def test_what_expires_meanwhile_is_not_sent_again():
    async def story():
        clock = Time()
        store = MemoryApprovalStore(clock=lambda: NOW + clock.now)
        in_store(store, ttl=0.5)
        async with delivered(store, Webhook(receiver.url, SECRET), sleep=clock.sleep):
            await until(lambda: 1.0 in clock.waits)
            await clock.look()
            clock.forward(1_000.0)
            await clock.look()

    with Receiver(lambda got: 500) as receiver:
        asyncio.run(story())
        assert len(receiver.got) == 1


def test_a_vote_that_leaves_it_pending_sends_nothing(store, receiver):
    record = in_store(store, needed=2)

    async def story():
        clock = Time()
        async with delivered(store, Webhook(receiver.url, SECRET), sleep=clock.sleep):
            await until(lambda: receiver.got)
            store.decide(record.id, True, "dana")
            await clock.look()
            in_store(store, digest="another")
            await clock.look()
            await until(lambda: len(receiver.got) == 2)

    asyncio.run(story())
    assert [got.data["needed"] for got in receiver.got] == [2, 1]


# -- nobody holds up others


def test_one_that_hangs_or_fails_does_not_hold_up_others(engine, released):
    hanging, failing, *fine = [ask(engine, amount).id for amount in range(20)]

    def answer(got):
        if got.data["id"] == hanging:
            released.wait(30)
        return 500 if got.data["id"] == failing else 200

    async def story():
        async with delivered(engine, Webhook(receiver.url, SECRET), sleep=Time().sleep):
            await until(lambda: {got.data["id"] for got in receiver.got} == {hanging, failing, *fine})

    with Receiver(answer) as receiver:
        asyncio.run(story())
        released.set()


def test_one_receiver_that_fails_does_not_hold_up_another(engine, receiver):
    async def story():
        clock = Time()
        ask(engine, 1)
        async with delivered(engine, Webhook(broken.url, SECRET), Webhook(receiver.url, SECRET), sleep=clock.sleep):
            await until(lambda: len(receiver.got) == len(broken.got) == 1)
            ask(engine, 2)
            await clock.look()
            await until(lambda: len(receiver.got) == len(broken.got) == 2)

    with Receiver(lambda got: 500) as broken:
        asyncio.run(story())


def silent(released):
    return lambda handler: released.wait(30)


def dribbling(released):
    def answer(handler):
        handler.wfile.write(b"HTTP/1.1 200 OK\r\n")
        while not released.wait(0.02):
            handler.wfile.write(b"x: y\r\n")

    return answer


@pytest.mark.parametrize("answer", [silent, dribbling])
def test_a_try_has_its_time_all_in_all(engine, released, answer, caplog):
    async def story():
        clock = Time()
        ask(engine)
        async with delivered(engine, Webhook(receiver.url, SECRET, timeout=0.1), sleep=clock.sleep):
            await until(lambda: 1.0 in clock.waits)

            def came_twice():  # on a busy machine a try may be over before it has come through
                clock.forward(60.0)
                return len(receiver.got) >= 2

            await until(came_twice)

    with Receiver(statuses(answer(released))) as receiver:
        asyncio.run(story())
        released.set()
    assert "no answer within 0.1 s" in caplog.text


def test_an_answer_without_an_end_is_not_read(engine, released):
    def endless(handler):
        handler.wfile.write(b"HTTP/1.1 200 OK\r\ncontent-length: 1000000000000\r\n\r\n")
        while not released.is_set():
            handler.wfile.write(b"x" * 65_536)

    async def story():
        clock = Time()
        ask(engine)
        async with delivered(engine, Webhook(receiver.url, SECRET), sleep=clock.sleep):
            await until(lambda: receiver.got)
            ask(engine, 2)
            await clock.look()
            await until(lambda: len(receiver.got) == 2)
        assert set(clock.waits) == {EVERY}

    with Receiver(statuses(endless)) as receiver:
        asyncio.run(story())
        released.set()


# -- where it goes


def test_a_redirect_is_not_followed(engine, receiver):
    def elsewhere(handler):
        handler.send_response(307)
        handler.send_header("location", receiver.url)
        handler.end_headers()

    async def story():
        clock = Time()
        ask(engine)
        async with delivered(engine, Webhook(moved.url, SECRET), sleep=clock.sleep):
            await until(lambda: 1.0 in clock.waits)
            clock.forward(1.0)
            await until(lambda: len(moved.got) == 2)

    with Receiver(lambda got: elsewhere) as moved:
        asyncio.run(story())
    assert receiver.got == []


def test_plain_http_on_this_machine_passes_no_proxy(engine, receiver, monkeypatch):
    with Receiver() as proxy:
        for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.port}")

        async def story():
            ask(engine)
            async with delivered(engine, Webhook(receiver.url, SECRET)):
                await until(lambda: receiver.got)

        asyncio.run(story())
        assert proxy.got == []


@pytest.fixture(scope="module")
def certified(tmp_path_factory):
    """A certificate that nobody vouches for: its path, and a server's context with it."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    here = x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(here, critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    file = tmp_path_factory.mktemp("tls") / "server.pem"
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    file.write_bytes(private + certificate.public_bytes(pem))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file)
    return file, context


def test_a_certificate_that_nobody_vouches_for_is_refused(engine, certified, caplog):
    async def story():
        clock = Time()
        ask(engine)
        async with delivered(engine, Webhook(receiver.url, SECRET), sleep=clock.sleep):
            await until(lambda: 1.0 in clock.waits)

    with Receiver(context=certified[1]) as receiver:
        asyncio.run(story())
    assert receiver.got == []
    assert "CERTIFICATE_VERIFY_FAILED" in caplog.text


def test_over_tls(engine, certified, monkeypatch):
    monkeypatch.setenv("SSL_CERT_FILE", str(certified[0]))

    async def story():
        ask(engine)
        async with delivered(engine, Webhook(receiver.url, SECRET)):
            await until(lambda: receiver.got)

    with Receiver(context=certified[1]) as receiver:
        asyncio.run(story())


@pytest.mark.parametrize(
    "url",
    [
        "https://example.com/hook",
        "http://127.0.0.1/",
        "http://127.9.9.9:80/",
        "http://[::1]:8/x",
        "http://localhost/",
        "HTTP://LOCALHOST",
    ],
)
def test_urls_that_may_be_sent_to(url):
    Webhook(url, SECRET)


@pytest.mark.parametrize(
    "url",
    [
        "http://example.com/in-the-url",
        "http://127.0.0.1@example.com/in-the-url",
        "http://127.0.0.1.example.com/in-the-url",
        "http://localhost.example.com/in-the-url",
        "http://10.0.0.1/in-the-url",
        "http://0.0.0.0/in-the-url",
        "http://2130706433/in-the-url",
        "http://[::ffff:127.0.0.1]/in-the-url",
        "ftp://example.com/in-the-url",
        "file:///in-the-url",
        "example.com/in-the-url",
        "/in-the-url",
        "https:///in-the-url",
        "https://a\nb/in-the-url",
        "",
        None,
        7,
    ],
    ids=repr,
)
def test_urls_that_may_not(url):
    with pytest.raises(ValueError, match=r"^the URL of a webhook ") as caught:
        Webhook(url, SECRET)
    assert "in-the-url" not in str(caught.value)


def test_plain_http_may_lead_elsewhere_where_that_is_asked_for():
    assert Webhook("http://example.com/", SECRET, plain_http=True).host == "example.com"
    with pytest.raises(ValueError, match="is like `https://host/path`"):
        Webhook("ftp://example.com/", SECRET, plain_http=True)


@pytest.mark.parametrize(
    ("secret", "why"),
    [
        ("", "is bytes, or `whsec_` and their base64"),
        ("hunter2-hunter2-hunter2-hunter2", "is bytes, or `whsec_` and their base64"),
        ("whsec_hunter2!hunter2", "is bytes, or `whsec_` and their base64"),
        ("whsec_hunter2é", "is bytes, or `whsec_` and their base64"),
        (None, "is bytes, or `whsec_` and their base64"),
        ("whsec_", "has 24 to 64 bytes, not 0"),
        (b"", "has 24 to 64 bytes, not 0"),
        (b"hunter2", "has 24 to 64 bytes, not 7"),
        (b"x" * 65, "has 24 to 64 bytes, not 65"),
    ],
    ids=repr,
)
def test_secrets_that_sign_nothing(secret, why):
    with pytest.raises(ValueError, match=why) as caught:
        Webhook("https://example.com/", secret)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("timeout", [0, -1, 3_600, float("nan"), float("inf")])
def test_a_try_needs_a_time_that_ends(timeout):
    with pytest.raises(ValueError, match="`timeout` must be a number of seconds above 0"):
        Webhook("https://example.com/", SECRET, timeout=timeout)


# -- what goes wrong


def test_messages_hold_no_secret_no_arguments_and_of_the_url_the_host(engine, caplog):
    async def story():
        clock = Time()
        ask(engine, "in-the-arguments")
        async with delivered(engine, Webhook(receiver.url, SECRET, arguments=True), sleep=clock.sleep):
            await until(lambda: 1.0 in clock.waits)

    with Receiver(lambda got: 500) as receiver, caplog.at_level(logging.WARNING):
        asyncio.run(story())
    (line,) = [entry.getMessage() for entry in caplog.records]
    (got,) = receiver.got
    said = f"the webhook at 127.0.0.1 did not take approval {got.data['id']}: it answered 500; tried again in 1 s"
    assert line == said
    for secret in ("in-the-arguments", "in-the-url", SECRET, got.headers["webhook-signature"]):
        assert secret not in caplog.text
    assert SECRET not in repr(Webhook(receiver.url, SECRET))


class Moody:
    """A store that answers only when it is in the mood."""

    def __init__(self, store):
        self.store, self.well = store, True

    async def pending(self):
        if not self.well:
            raise ConnectionError("down")
        return self.store.pending()


def test_a_store_that_fails_is_said_once_and_asked_again(store, receiver, caplog):
    moody = Moody(store)

    async def story():
        clock = Time()
        async with delivered(moody, Webhook(receiver.url, SECRET), sleep=clock.sleep):
            moody.well = False
            for _ in range(3):
                await clock.look()
            moody.well = True
            in_store(store)
            await clock.look()
            await until(lambda: receiver.got)
            moody.well = False
            await clock.look()
            moody.well = True
            await clock.look()

    asyncio.run(story())
    assert len(receiver.got) == 1
    said = [entry.getMessage() for entry in caplog.records]
    assert said == ["the store of approvals cannot answer a webhook: ConnectionError('down')"] * 2


def test_what_cannot_be_written_down_keeps_nobody_else_from_being_told(store, receiver, caplog):
    in_store(store, digest="odd", arguments={"n": 10**5_000})
    fine = in_store(store)

    async def story():
        async with delivered(store, Webhook(receiver.url, SECRET, arguments=True)):
            await until(lambda: receiver.got)

    asyncio.run(story())
    assert receiver.got[0].data["id"] == fine.id
    assert "ValueError" in caplog.text


# -- engines, and programs without a loop


def test_an_engine_with_an_asynchronous_store(store, receiver):
    in_store(store)

    async def story():
        async with delivered(PolicyEngine(None, approvals=Moody(store)), Webhook(receiver.url, SECRET)):
            await until(lambda: receiver.got)

    asyncio.run(story())


def test_in_a_thread_of_its_own(engine, receiver):
    with delivering(engine, Webhook(receiver.url, SECRET)):
        record = ask(engine)
        asyncio.run(until(lambda: receiver.got))
    assert receiver.got[0].data["id"] == record.id
    assert "mcp-policy webhook" not in {thread.name for thread in threading.enumerate()}


def test_the_thread_ends_while_a_receiver_is_silent_and_when_the_block_fails(engine, released):
    with Receiver(lambda got: silent(released)) as receiver:
        ask(engine)
        with contextlib.suppress(KeyboardInterrupt), delivering(engine, Webhook(receiver.url, SECRET)):
            asyncio.run(until(lambda: receiver.got))
            raise KeyboardInterrupt
        assert "mcp-policy webhook" not in {thread.name for thread in threading.enumerate()}
        released.set()
