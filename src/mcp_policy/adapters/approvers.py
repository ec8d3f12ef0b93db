"""Asking a person in the middle of a call: through the client, on a page, through the host, or by waiting.

An approver is handed to an adapter. When a call needs an approval, it is asked once; then the call is decided again.

- What counts is the approval in the engine's own store: bound to the exact call, used once, by the call that runs. A
  client's answer is worth nothing beside it, and an answer that comes twice runs the call once.
- A client that cannot be asked, an answer that does not come, a time-out, a closed connection, an approver that raises:
  the call does not run, and its refusal says why. The approval stays open for whoever else may decide it.
- An answer that a client gives stands in the store as given by `client`. Clients can accept by themselves: it is no
  proof of a person. `open_page` and `wait_for_decision` take nobody's word but that of who decides in the store.
- A person is shown all of what they decide on. Arguments too long to be read are not put into a form.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Awaitable, Callable, Mapping
from enum import StrEnum
from typing import Any, Final, NamedTuple, Protocol, TypeVar

from mcp_policy.approvals.store import Approval, ApprovalError
from mcp_policy.call import ToolCall
from mcp_policy.engine import PolicyEngine
from mcp_policy.errors import readable

log: Final = logging.getLogger("mcp_policy")

Answer = TypeVar("Answer")
Sleep = Callable[[float], Awaitable[object]]

BY_CLIENT: Final = "client"
"""Who decided, where it was the client that answered."""

FORM: Final[Mapping[str, Any]] = {
    "type": "object",
    "properties": {"approve": {"type": "boolean", "title": "Approve", "description": "let this one call run"}},
    "required": ["approve"],
}
"""What a client is asked to fill in."""

_READABLE: Final = 4_000  # characters of arguments that a person can be expected to read
_POLL: Final = 0.05  # seconds: a person takes it for at once


class Reply(StrEnum):
    """What came back from a client."""

    ACCEPTED = "accepted"
    DECLINED = "declined"
    NONE = "none"


class Unable(Exception):
    """The client cannot be asked; the text says why."""


class NotYet(Exception):
    """The client answers in its next request of the same call: this one ends with the question.

    `key` is what the answer will stand under; `message` and `schema` (a form) or `url` (a page) are the question.
    """

    def __init__(
        self, key: str, message: str, *, schema: Mapping[str, Any] | None = None, url: str | None = None
    ) -> None:
        super().__init__(key)
        self.key, self.message, self.schema, self.url = key, message, schema, url


class Client(Protocol):
    """What a stack can ask of the client whose call is at hand.

    Both methods raise `Unable` where the client or the transport has no way to be asked, and `NotYet` where the answer
    comes with the next request and has not come with this one. `key` names the question.
    """

    async def form(self, key: str, message: str, schema: Mapping[str, Any]) -> Reply:
        """Show a form."""

    async def page(self, key: str, message: str, url: str) -> Reply:
        """Offer to open a page; accepted means opened, not approved."""


class Question(NamedTuple):
    """A call that waits for a person."""

    approval: Approval
    call: ToolCall
    engine: PolicyEngine

    @property
    def key(self) -> str:
        """What names the question to a client."""
        return f"approval:{self.approval.id}"

    @property
    def text(self) -> str:
        """The question as a person reads it, arguments included. Raises `Unable` where they cannot be read."""
        arguments = json.dumps(self.approval.arguments, allow_nan=False)  # ASCII: nothing in it can hide itself
        if len(arguments) > _READABLE:
            raise Unable(
                f"the arguments have {len(arguments):,} characters, and a person is shown at most {_READABLE:,}"
            )
        where = f" of `{readable(self.call.server)}`" if self.call.server else ""
        return f"Run `{readable(self.call.tool)}`{where}? {self.approval.reason}\n\narguments: {arguments}"


class Outcome(NamedTuple):
    """What an approver brought: approved or rejected in the name of `by`; or, with None, that others decide.

    `why` says why nobody has decided; without it somebody has, in the store.
    """

    approved: bool | None
    by: str = ""
    why: str = ""


Approver = Callable[[Question, Client], Awaitable[Outcome]]
"""Gets a person's answer to a question, or says why there is none."""


def ask_client(*, timeout: float = 60.0) -> Approver:
    """Return the approver that shows a form to the client's user, and gives them `timeout` seconds."""

    async def approver(question: Question, client: Client) -> Outcome:
        reply = await _within(timeout, client.form(question.key, question.text, FORM))
        return _outcome(reply, f"there was no answer within {timeout:g} s")

    return approver


def open_page(
    url_of: Callable[[Approval], str], *, timeout: float = 300.0, poll: float = _POLL, sleep: Sleep | None = None
) -> Approver:
    """Return the approver that sends the client's user to a page of the host's, and waits until it has decided.

    `url_of` names the page for an approval. The page decides by `engine.approve` and `engine.reject`; opening it
    decides nothing. The page is given `timeout` seconds, and the client as many to open it.
    """

    async def approver(question: Question, client: Client) -> Outcome:
        message = f"Run `{readable(question.call.tool)}`? A person decides on this page."
        reply = await _within(timeout, client.page(question.key, message, url_of(question.approval)))
        if reply is not Reply.ACCEPTED:
            return _outcome(reply, "nobody opened the page")
        return await _decided(question, timeout, poll, sleep)

    return approver


def ask_host(function: Callable[[Question], Awaitable[bool | None]], *, by: str, timeout: float = 60.0) -> Approver:
    """Return the approver that awaits `function`: True approves in the name of `by`, False rejects, None leaves open.

    `function` is given `timeout` seconds.
    """

    async def approver(question: Question, client: Client) -> Outcome:
        said = await _within(timeout, function(question))
        if said is not True and said is not False:
            return Outcome(None, why=f"there was no answer within {timeout:g} s")
        return Outcome(said, by)

    return approver


def wait_for_decision(*, timeout: float = 300.0, poll: float = _POLL, sleep: Sleep | None = None) -> Approver:
    """Return the approver that holds the call until somebody has decided in the store, at most `timeout` seconds.

    The store is asked every `poll` seconds.
    """

    async def approver(question: Question, client: Client) -> Outcome:
        return await _decided(question, timeout, poll, sleep)

    return approver


async def put(
    approver: Approver, approval: Approval, call: ToolCall, client: Client, engine: PolicyEngine
) -> str | None:
    """Put a pending approval to an approver, and what it says into the engine's store.

    Returns why the call cannot run now, or None where it is worth deciding again. Raises `NotYet`.
    """
    try:
        said = await approver(Question(approval, call, engine), client)
        if said.approved is True:
            await engine.approve_async(approval.id, by=said.by)
        elif said.approved is False:
            await engine.reject_async(approval.id, by=said.by)
        elif said.why:
            return said.why
    except NotYet:
        raise
    except (Unable, ApprovalError) as error:
        return str(error)
    except Exception:
        log.exception("nobody could be asked about a call of %r", call.tool)
        return "nobody could be asked"
    return None


def reply_to_form(action: object, content: object) -> Reply:
    """Return what an answered form says: only an accepted one with `approve` true is an approval."""
    if action == "accept" and isinstance(content, Mapping):
        approve = content.get("approve")
        if approve is True:
            return Reply.ACCEPTED
        return Reply.DECLINED if approve is False else Reply.NONE
    return Reply.DECLINED if action == "decline" else Reply.NONE


def reply_to_page(action: object) -> Reply:
    """Return what the answer to an offered page says."""
    return {"accept": Reply.ACCEPTED, "decline": Reply.DECLINED}.get(str(action), Reply.NONE)


def _outcome(reply: Reply | None, silence: str) -> Outcome:
    if reply is Reply.ACCEPTED:
        return Outcome(True, BY_CLIENT)
    if reply is Reply.DECLINED:
        return Outcome(False, BY_CLIENT)
    return Outcome(None, why=silence if reply is None else "the question was dismissed")


async def _decided(question: Question, seconds: float, poll: float, sleep: Sleep | None) -> Outcome:
    done = await _within(seconds, _watch(question, poll, sleep or _anyio().sleep))
    return Outcome(None, why="" if done else f"nobody decided within {seconds:g} s")


async def _watch(question: Question, poll: float, sleep: Sleep) -> bool:
    """Return once an approval waits no more: decided, used, or expired."""
    while True:
        record = await question.engine.approval_async(question.approval.id)
        if record is None or record.status != "pending":
            return True
        await sleep(poll)


async def _within(seconds: float, work: Awaitable[Answer]) -> Answer | None:
    answers: list[Answer] = []  # empty where time ran out
    with _anyio().move_on_after(seconds):
        answers.append(await work)
    return answers[0] if answers else None


def _anyio() -> Any:
    try:
        import anyio
    except ImportError as error:
        raise ImportError('approvers need anyio: pip install "mcp-policy[asgi]"') from error
    return anyio
