"""What a gateway keeps, and who is asked: its stores, its record of decisions, and the page for approvals."""

from __future__ import annotations

import argparse
import asyncio
import getpass
import ipaddress
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from secrets import token_urlsafe
from typing import TYPE_CHECKING, Any

from ._exits import FAILED, USAGE, Stop

if TYPE_CHECKING:
    from mcp_policy.adapters.approvers import Approver
    from mcp_policy.engine import PolicyEngine
    from mcp_policy.policy import Policy

Say = Callable[[str], None]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    people = parser.add_argument_group("where a call needs an approval")
    people.add_argument(
        "--approver",
        choices=["elicit", "page", "wait"],
        help="ask the client's user, send them to the approvals page, or wait for whoever decides (default: refuse)",
    )
    people.add_argument(
        "--approvals-page",
        metavar="HOST:PORT",
        nargs="?",
        const="127.0.0.1:0",
        help="serve a page to decide on (default: a free port of this machine)",
    )
    people.add_argument("--quorum", metavar="N", type=int, default=1, help="how many people have to approve")
    people.add_argument(
        "--may-approve", metavar="NAME", action="append", help="only this person may decide; repeatable"
    )
    kept = parser.add_argument_group("what is kept")
    kept.add_argument("--store", metavar="URL", help="share limits and approvals: sqlite:///FILE or redis://HOST")
    kept.add_argument("--audit", metavar="FILE", help="record every decision in this file, as JSON lines")
    kept.add_argument("--audit-key-file", metavar="FILE", help="the key that seals the record (default: FILE.key)")
    kept.add_argument("--audit-required", action="store_true", help="deny what cannot be recorded")


def check(arguments: argparse.Namespace) -> None:
    """Refuse options that do not go together. Raises `Stop`."""
    if arguments.audit is None and (arguments.audit_required or arguments.audit_key_file):
        raise Stop(USAGE, "--audit-required and --audit-key-file go with --audit")
    if arguments.approver == "page" and arguments.approvals_page is None:
        raise Stop(USAGE, "--approver page goes with --approvals-page")
    if arguments.approver == "wait" and arguments.approvals_page is None and arguments.store is None:
        raise Stop(USAGE, "--approver wait: nobody could decide; --approvals-page or --store lets somebody")
    if arguments.approvals_page is not None:
        from ._serving import address

        address(arguments.approvals_page, "--approvals-page")


@asynccontextmanager
async def kept_by(arguments: argparse.Namespace, policy: Policy, say: Say) -> AsyncIterator[PolicyEngine]:
    """Yield an engine with the stores and the record that the command line asks for. Raises `Stop`."""
    from mcp_policy.engine import PolicyEngine

    async with AsyncExitStack() as stack:
        stores: dict[str, Any] = {}
        if arguments.store is not None:
            opened = open_stores(arguments.store)
            stack.push_async_callback(opened.aclose)
            stores = opened._asdict()
        audit = None if arguments.audit is None else _sink(arguments, say)
        if audit is not None:
            stack.callback(audit.close)
        try:
            engine = PolicyEngine(
                policy,
                **stores,
                quorum=arguments.quorum,
                approvers=arguments.may_approve,
                audit=audit,
                audit_required=arguments.audit_required,
            )
        except ValueError as error:
            raise Stop(USAGE, str(error)) from None
        yield engine


def open_stores(url: str) -> Any:
    """Return the stores that `--store` names. Raises `Stop`."""
    from mcp_policy.stores import open_async_stores

    try:
        return open_async_stores(url)
    except ValueError as error:
        raise Stop(USAGE, f"--store: {error}") from None
    except ImportError as error:
        raise Stop(FAILED, str(error)) from None
    except Exception as error:  # noqa: BLE001  # whatever is wrong with a file, nothing is served without its state
        raise Stop(FAILED, f"--store: {type(error).__name__}: {error}") from None


def _sink(arguments: argparse.Namespace, say: Say) -> Any:
    from mcp_policy.audit.jsonl import AuditError, JsonLinesSink

    from ._audit_keys import key_for

    try:
        return JsonLinesSink(arguments.audit, key=key_for(arguments.audit, arguments.audit_key_file, make=say))
    except (AuditError, OSError, ValueError) as error:
        raise Stop(FAILED, f"--audit: {error}") from None


def approver_of(arguments: argparse.Namespace, page: str | None) -> Approver | None:
    """Return who is asked; `page` is where the approvals page is served."""
    from mcp_policy.adapters.approvers import ask_client, open_page, wait_for_decision

    if arguments.approver == "page":
        assert page is not None  # noqa: S101  # checked with the command line
        return open_page(lambda _: page)  # without the token: the agent's client must not decide by itself
    return {"elicit": ask_client, "wait": wait_for_decision}[arguments.approver]() if arguments.approver else None


@asynccontextmanager
async def served_page(arguments: argparse.Namespace, engine: PolicyEngine, say: Say) -> AsyncIterator[str | None]:
    """Serve the approvals page, where it is asked for, and yield its address. Raises `Stop`."""
    if arguments.approvals_page is None:
        yield None
        return
    from mcp_policy.adapters._page.door import LOOPBACK
    from mcp_policy.adapters.approvals_page import approvals_page

    from ._serving import address, bound, http_server

    by = login("--approvals-page")
    host, port = address(arguments.approvals_page, "--approvals-page")
    listening = bound(host, port)
    own, at = listening.getsockname()[:2]
    if not ipaddress.ip_address(own).is_loopback:
        listening.close()
        raise Stop(
            USAGE, "--approvals-page: who may decide is told by a token alone, so it is served to this machine only"
        )
    token = token_urlsafe(32)
    shown = f"[{own}]" if ":" in own else own
    where = f"http://{shown}:{at}/"
    page = approvals_page(engine, by=by, token=token, hosts={*LOOPBACK, shown})
    web = http_server(page)
    serving = asyncio.create_task(web.serve(sockets=[listening]))
    say(f"approvals are decided at {where}?token={token}")
    try:
        yield where
    finally:
        page.state.close()
        web.should_exit = True
        await serving


def login(option: str) -> str:
    """Return the name in which this user decides; `option` is what asks for it. Raises `Stop`."""
    try:
        return getpass.getuser()
    except (ImportError, KeyError, OSError):
        raise Stop(USAGE, f"{option}: this user has no login name to decide in; set the variable USER") from None
