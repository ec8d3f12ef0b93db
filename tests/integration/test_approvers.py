"""A person is asked in the middle of a call: servers of the SDK and of fastmcp, a real client, both protocol eras."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import mcp_types as types
import pytest
from fastmcp import FastMCP
from mcp import Client
from mcp.server.mcpserver import MCPServer

from integration.stacks import ERAS, HANDSHAKE, MODERN, Recorder, refused, text
from mcp_policy.adapters.approvers import (
    Approver,
    Question,
    Reply,
    ask_client,
    ask_host,
    open_page,
    reply_to_form,
    reply_to_page,
    wait_for_decision,
)
from mcp_policy.adapters.fastmcp import PolicyMiddleware
from mcp_policy.adapters.mcp import guard_server
from mcp_policy.approvals import Approval

ASK = {"rm": {"action": "approve", "reason": "what is gone is gone"}, "ls": {}}
REQUIRED, REJECTED = "approval_required", "approval_rejected"


@pytest.fixture(autouse=True)
def quiet():
    for name in ("mcp", "fastmcp"):
        logging.getLogger(name).setLevel(logging.CRITICAL)


@pytest.fixture(params=ERAS)
def era(request) -> str:
    return request.param


STACK: Any = MCPServer


@pytest.fixture(params=[MCPServer, FastMCP], autouse=True)
def stack(request, monkeypatch) -> Any:
    monkeypatch.setattr(f"{__name__}.STACK", request.param)


class Served:
    """A guarded server with one tool that asks, and what ran on it."""

    def __init__(self, approver: Approver | None, tools: Any = None, **more: Any) -> None:
        self.engine = Recorder(tools or ASK, **more)
        self.ran: list[str] = []
        self.server = STACK("files")

        def rm(path: str) -> str:
            self.ran.append(path)
            return f"gone {path}"

        if STACK is MCPServer:
            self.server.add_tool(rm)
            guard_server(self.server, self.engine, approver=approver)
        else:
            self.server.tool(rm)
            self.server.add_middleware(PolicyMiddleware(self.engine, approver=approver))

    @asynccontextmanager
    async def client(self, era: str, answer: Any = None) -> AsyncIterator[Client]:
        async with AsyncExitStack() as begun:
            inner = self.server
            if STACK is FastMCP:
                await begun.enter_async_context(self.server._lifespan_manager())
                inner = self.server._mcp_server
            yield await begun.enter_async_context(Client(inner, mode=era, cache=None, elicitation_callback=answer))

    def calls(self, era: str, *arguments: dict[str, Any], answer: Any = None, together: bool = False) -> list[Any]:
        async def run() -> list[Any]:
            async with self.client(era, answer) as client:
                calls = [client.call_tool("rm", given) for given in arguments]
                return await asyncio.gather(*calls) if together else [await call for call in calls]

        return asyncio.run(run())

    def statuses(self) -> list[str]:
        return [record.status for record in self.engine._approvals._records.values()]


class Person:
    """Answers every question in one way, and remembers them."""

    def __init__(self, action: str = "accept", content: Any = None) -> None:
        self.result = types.ElicitResult(action=action, content=content)
        self.asked: list[Any] = []

    async def __call__(self, context: Any, params: Any) -> types.ElicitResult:
        self.asked.append(params)
        return self.result


def yes() -> Person:
    return Person("accept", {"approve": True})


X = {"path": "/tmp/x"}


def test_a_person_approves_and_the_call_runs(era):
    served, person = Served(ask_client()), yes()
    (answer,) = served.calls(era, X, answer=person)
    assert text(answer) == "gone /tmp/x"
    assert answer.is_error is False
    assert served.ran == ["/tmp/x"]
    (asked,) = person.asked
    assert "what is gone is gone" in asked.message
    assert asked.message.startswith("Run `rm` of `files`? ")
    assert asked.message.endswith('arguments: {"path": "/tmp/x"}')
    assert asked.requested_schema["required"] == ["approve"]


def test_an_approval_is_for_one_call(era):
    served, person = Served(ask_client()), yes()
    answers = served.calls(era, X, X, answer=person)
    assert [answer.is_error for answer in answers] == [False, False]
    assert len(person.asked) == 2, "each was asked about"
    assert served.ran == ["/tmp/x"] * 2


@pytest.mark.parametrize(
    "person", [Person("decline"), Person("accept", {"approve": False})], ids=["declines", "unticked"]
)
def test_a_person_rejects_and_the_call_does_not_run(era, person):
    served = Served(ask_client())
    answers = served.calls(era, X, X, answer=person)
    for answer in answers:
        assert "a person rejected this call" in refused(answer, "approve", REJECTED)
    assert served.ran == []
    assert served.statuses() == ["rejected"], "and nobody is asked again"


@pytest.mark.parametrize(
    "person",
    [Person("cancel"), Person("accept", {}), Person("accept", {"approve": "true"}), Person("accept")],
    ids=["dismissed", "nothing said", "another type", "no content"],
)
def test_no_proper_answer_is_none(era, person):
    served = Served(ask_client())
    (answer,) = served.calls(era, X, answer=person)
    said = refused(answer, "approve", REQUIRED)
    assert "nobody has approved this call: " in said
    assert "Approval id: " in said
    assert served.ran == []
    assert served.statuses() == ["pending"]


def test_a_client_that_cannot_be_asked(era):
    served = Served(ask_client())
    (answer,) = served.calls(era, X)
    said = refused(answer, "approve", REQUIRED)
    assert "nobody has approved this call: the client cannot show a form (it declares no `elicitation`)" in said
    assert served.ran == []


def test_an_answer_that_comes_too_late():
    async def never(context: Any, params: Any) -> Any:
        await asyncio.Event().wait()

    served = Served(ask_client(timeout=0.01))
    (answer,) = served.calls(HANDSHAKE, X, answer=never)
    assert "there was no answer within 0.01 s" in refused(answer, "approve", REQUIRED)
    assert served.ran == []


def test_a_client_that_answers_with_an_error(era):
    async def broken(context: Any, params: Any) -> types.ErrorData:
        return types.ErrorData(code=-32603, message="no screen")

    served = Served(ask_client())
    if era == HANDSHAKE:
        (answer,) = served.calls(era, X, answer=broken)
        assert "the client gave no proper answer" in refused(answer, "approve", REQUIRED)
    else:  # the client gives its own call up
        with pytest.RaisesGroup(pytest.RaisesExc(Exception, match="no screen"), flatten_subgroups=True):
            served.calls(era, X, answer=broken)
    assert served.ran == []


def test_a_connection_that_ends_while_a_person_is_asked():
    served = Served(ask_client())

    async def run() -> None:
        asked = asyncio.Event()

        async def leave(context: Any, params: Any) -> Any:
            asked.set()
            await asyncio.Event().wait()

        async with served.client(HANDSHAKE, leave) as client:
            call = asyncio.ensure_future(client.call_tool("rm", X))
            await asked.wait()
            call.cancel()
            await asyncio.gather(call, return_exceptions=True)

    asyncio.run(run())
    assert served.ran == []
    assert served.statuses() == ["pending"]


def test_what_cannot_be_read_is_not_put_into_a_form(era):
    served, person = Served(ask_client()), yes()
    (answer,) = served.calls(era, {"path": "x" * 5_000}, answer=person)
    assert "a person is shown at most 4,000" in refused(answer, "approve", REQUIRED)
    assert person.asked == []
    assert served.ran == []


def test_arguments_cannot_hide_in_a_form(era):
    served, person = Served(ask_client()), yes()
    served.calls(era, {"path": "a\u202eb\u0000\nc"}, answer=person)
    assert person.asked[0].message.endswith('arguments: {"path": "a\\u202eb\\u0000\\nc"}')


def test_answers_that_come_together_run_one_call_each(era):
    """Eight identical calls share the questions: every run has used up an approval of its own."""
    served, person = Served(ask_client()), yes()
    answers = served.calls(era, *[X] * 8, answer=person, together=True)
    allowed = [answer for answer in answers if not answer.is_error]
    used = [what for what in served.engine._approvals._past.values() if what == "was approved and used"]
    assert len(served.ran) == len(allowed) == len(used) > 0


def test_an_answer_is_good_for_the_question_that_was_asked_only():
    """What a client sends before it was asked, for another call, or once more, approves nothing."""
    served = Served(ask_client())

    async def run() -> list[Any]:
        async with served.client(MODERN, yes()) as client:
            accept = types.ElicitResult(action="accept", content={"approve": True})

            async def call(path: str, *keys: str) -> Any:
                responses = dict.fromkeys(keys, accept) or None
                return await client.session.call_tool(
                    "rm", {"path": path}, input_responses=responses, allow_input_required=True
                )

            first = await call("/a", "approval:", "approval:x")
            (key,) = first.input_requests
            other = await call("/b", key)
            ran = await call("/a", key)
            again = await call("/a", key)
            return [first, other, ran, again]

    first, other, ran, again = asyncio.run(run())
    assert [type(result).__name__ for result in (first, other, ran, again)] == [
        "InputRequiredResult",
        "InputRequiredResult",
        "CallToolResult",
        "InputRequiredResult",
    ]
    assert served.ran == ["/a"]


def test_a_client_without_forms_cannot_answer_what_it_is_not_asked():
    served = Served(ask_client())

    async def run() -> Any:
        async with served.client(MODERN) as client:
            accept = types.ElicitResult(action="accept", content={"approve": True})
            return await client.session.call_tool("rm", X, input_responses={"approval:guess": accept})

    assert "declares no `elicitation`" in refused(asyncio.run(run()), "approve", REQUIRED)
    assert served.ran == []


# -- a page


def url_of(approval: Approval) -> str:
    return f"https://approve.example/{approval.id}"


@pytest.mark.parametrize("approves", [True, False])
def test_a_page_decides_and_not_the_client(era, approves):
    served: Served

    async def person_at_the_page(_: float) -> None:
        (record,) = served.engine._approvals.pending()
        (served.engine.approve if approves else served.engine.reject)(record.id, by="dana")

    served, person = Served(open_page(url_of, sleep=person_at_the_page)), Person("accept")
    (answer,) = served.calls(era, X, answer=person)
    assert answer.is_error is not approves
    assert served.ran == (["/tmp/x"] if approves else [])
    assert person.asked[0].url.startswith("https://approve.example/")


@pytest.mark.parametrize("action", ["decline", "cancel"])
def test_a_page_that_is_not_opened(era, action):
    served = Served(open_page(url_of))
    (answer,) = served.calls(era, X, answer=Person(action))
    assert answer.is_error
    assert served.ran == []


def test_an_opened_page_alone_approves_nothing(era):
    served = Served(open_page(url_of, timeout=0.01, poll=0.001))
    (answer,) = served.calls(era, X, answer=yes())
    assert "nobody decided within 0.01 s" in refused(answer, "approve", REQUIRED)
    assert served.ran == []


# -- the host, and waiting


@pytest.mark.parametrize(
    ("says", "runs", "code"), [(True, True, ""), (False, False, REJECTED), (None, False, REQUIRED)]
)
def test_the_host_is_asked(era, says, runs, code):
    questions: list[Question] = []

    async def host(question: Question) -> bool | None:
        questions.append(question)
        return says

    served = Served(ask_host(host, by="desk"))
    (answer,) = served.calls(era, X)
    assert answer.is_error is not runs
    assert served.ran == (["/tmp/x"] if runs else [])
    assert questions[0].call.arguments == X
    assert questions[0].approval.tool == "rm"
    if code:
        assert code in str(answer.meta)


@pytest.mark.parametrize("odd", [1, "yes", object()])
def test_what_a_host_says_that_is_no_answer_approves_nothing(odd):
    async def host(question: Question) -> Any:
        return odd

    served = Served(ask_host(host, by="desk"))
    (answer,) = served.calls(HANDSHAKE, X)
    refused(answer, "approve", REQUIRED)
    assert served.ran == []


def test_an_approver_that_raises_approves_nothing(era, caplog):
    async def host(question: Question) -> bool:
        raise RuntimeError("the desk is on fire")

    served = Served(ask_host(host, by="desk"))
    (answer,) = served.calls(era, X)
    assert "nobody could be asked" in refused(answer, "approve", REQUIRED)
    assert served.ran == []
    assert "nobody could be asked about a call of 'rm'" in caplog.text


def test_nobody_approves_in_no_name(era):
    async def host(question: Question) -> bool:
        return True

    served = Served(ask_host(host, by=""))
    (answer,) = served.calls(era, X)
    assert "`by` must not be empty" in refused(answer, "approve", REQUIRED)
    assert served.ran == []


def test_a_call_waits_until_somebody_decides(era):
    served: Served
    naps = iter(range(3))

    async def sleep(_: float) -> None:
        if next(naps) == 2:
            (record,) = served.engine._approvals.pending()
            served.engine.approve(record.id, by="dana")

    served = Served(wait_for_decision(sleep=sleep))
    (answer,) = served.calls(era, X)
    assert text(answer) == "gone /tmp/x"


def test_a_call_that_nobody_decides_on(era):
    served = Served(wait_for_decision(timeout=0.01, poll=0.001))
    (answer,) = served.calls(era, X)
    assert "nobody decided within 0.01 s" in refused(answer, "approve", REQUIRED)
    assert served.ran == []
    assert served.statuses() == ["pending"], "somebody still may"


def test_a_policy_that_changes_while_a_person_thinks_counts(era):
    served: Served

    async def host(question: Question) -> bool:
        from mcp_policy.policy import Policy

        served.engine.reload(Policy.model_validate({"version": "1", "tools": {"rm": {"action": "deny"}}}))
        return True

    served = Served(ask_host(host, by="desk"))
    (answer,) = served.calls(era, X)
    refused(answer, "deny", "denied_by_rule")
    assert served.ran == []


def test_nobody_is_asked_about_a_call_that_may_not_run_anyhow(era):
    tools = {"rm": {"action": "approve", "deny_if": [{"path": "args.path", "op": "eq", "value": "/"}]}}
    served, person = Served(ask_client(), tools), yes()
    (answer,) = served.calls(era, {"path": "/"}, answer=person)
    refused(answer, "deny", "deny_if")
    assert person.asked == []


@pytest.mark.parametrize(
    ("action", "content", "reply"),
    [
        ("accept", {"approve": True}, Reply.ACCEPTED),
        ("accept", {"approve": 1}, Reply.NONE),
        ("accept", {"approve": "yes"}, Reply.NONE),
        ("accept", {"Approve": True}, Reply.NONE),
        ("accept", None, Reply.NONE),
        ("accept", [True], Reply.NONE),
        ("ACCEPT", {"approve": True}, Reply.NONE),
        ("decline", {"approve": True}, Reply.DECLINED),
        ("cancel", {"approve": True}, Reply.NONE),
        (None, None, Reply.NONE),
    ],
)
def test_only_a_plain_yes_is_one(action, content, reply):
    assert reply_to_form(action, content) is reply


def test_an_opened_page_is_told_from_others():
    said = {action: reply_to_page(action) for action in ("accept", "decline", "cancel", "open", None)}
    assert said == {
        "accept": Reply.ACCEPTED,
        "decline": Reply.DECLINED,
        "cancel": Reply.NONE,
        "open": Reply.NONE,
        None: Reply.NONE,
    }
