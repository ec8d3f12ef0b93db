"""See the calls that wait for a person, and decide on them, in a store that a server or gateway shares.

  mcp-policy approvals list --store sqlite:///state.db
  mcp-policy approvals show ID --arguments
  mcp-policy approvals approve ID --note "as discussed"
  mcp-policy approvals watch --webhook https://example.com/hook

Without --store, the variable MCP_POLICY_STORE names it. Who may use the store may decide in any name: keep others away
from it. Nobody approves a call of their own.

The exit status is 0, 1 if something could not be decided or the store cannot be used, 2 if the command line cannot be
read, 130 if a watch is interrupted.
"""

from __future__ import annotations

import argparse
import getpass
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeVar
from urllib.parse import unquote, urlsplit

from ._exits import FAILED, FINE, USAGE, Stop

if TYPE_CHECKING:
    from mcp_policy.approvals import Approval, ApprovalStore

    from ._approvals import Line
    from ._approvals_watch import Event

STORE: Final = "MCP_POLICY_STORE"
"""The environment variable that names the store, where the command line does not."""
SECRET: Final = "MCP_POLICY_WEBHOOK_SECRET"  # noqa: S105  # the name of a variable
"""The environment variable that holds the secret of a webhook."""

_Answer = TypeVar("_Answer")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's own commands and their options."""
    commands = parser.add_subparsers(title="commands", metavar="WHAT", required=True)
    listing = _command(commands, "list", "list what waits for a person", _list)
    show = _command(commands, "show", "show everything about one call", _show)
    show.add_argument("id", metavar="ID", help="its id, in full")
    show.add_argument("--arguments", action="store_true", help="also what the tool is called with")
    for name, does, act in (("approve", "let calls run, once", _approve), ("reject", "refuse calls", _reject)):
        decide = _command(commands, name, does, act)
        decide.add_argument("ids", metavar="ID", nargs="+", help="ids, in full")
        decide.add_argument("--by", metavar="NAME", help="who decides (default: your login name)")
        decide.add_argument("--note", metavar="TEXT", default="", help="what is kept with the decision")
    watch = _command(commands, "watch", "tell what comes, and what becomes of it, until interrupted", _watch)
    watch.add_argument("--webhook", metavar="URL", help=f"tell a receiver as well; {SECRET} holds its secret")
    for command in (listing, show):
        command.add_argument("--json", action="store_true", help="print JSON")
    watch.add_argument("--json", action="store_true", help="print JSON, an object on each line")


def run(arguments: argparse.Namespace) -> int:
    """Do what was asked for and return the exit status."""
    with _opened(arguments) as store:
        status: int = arguments.act(store, arguments)
    return status


def _command(
    commands: argparse._SubParsersAction[argparse.ArgumentParser],
    name: str,
    does: str,
    act: Callable[[ApprovalStore, argparse.Namespace], int],
) -> argparse.ArgumentParser:
    parser = commands.add_parser(name, help=does, description=f"{does[0].upper()}{does[1:]}.")
    parser.set_defaults(act=act)
    parser.add_argument("--store", metavar="URL", help=f"sqlite:///FILE or redis://HOST (default: {STORE})")
    return parser


# -- the store


@contextmanager
def _opened(arguments: argparse.Namespace) -> Iterator[ApprovalStore]:
    """Yield the store that the command line or the environment names. Raises `Stop`."""
    from mcp_policy.stores import open_stores

    url = arguments.store or os.environ.get(STORE)
    if not url:
        raise Stop(USAGE, f"--store, or the variable {STORE}, has to name the store that a server or gateway uses")
    try:
        _check_file(url)
        stores = open_stores(url)
    except Stop:
        raise
    except ValueError as error:
        raise Stop(USAGE, f"{'--store' if arguments.store else STORE}: {error}") from None
    except ImportError as error:
        raise Stop(FAILED, str(error)) from None
    except Exception as error:  # noqa: BLE001  # whatever is wrong with a file
        raise _unusable(error) from None
    try:
        yield stores.approvals
    finally:
        stores.close()


def _check_file(url: str) -> None:
    """Refuse a file that is not there: opening would make it, and nothing would ever wait in it."""
    parts = urlsplit(url)
    path = unquote(parts.path[1:])
    if parts.scheme == "sqlite" and not parts.netloc and path and not Path(path).exists():
        raise Stop(FAILED, f"there is no file `{path}`: no server has kept approvals in it")


def _asked(question: Callable[[], _Answer]) -> _Answer:
    """Return what the store answers. Raises `ApprovalError`, and `Stop` where it cannot answer."""
    from mcp_policy.approvals import ApprovalError

    try:
        return question()
    except ApprovalError:
        raise
    except Exception as error:  # noqa: BLE001  # whatever a store raises, it cannot answer
        raise _unusable(error) from None


def _unusable(error: Exception) -> Stop:
    return Stop(FAILED, f"the store cannot be used: {str(error) or type(error).__name__}")


def _say(text: str) -> None:
    from ._render import visible

    print(f"mcp-policy approvals: {visible(text)}", file=sys.stderr)


# -- looking


def _list(store: ApprovalStore, arguments: argparse.Namespace) -> int:
    from ._approvals import as_data, as_json, table
    from ._style import write_lines, write_text

    records = _asked(store.pending)
    if arguments.json:
        write_text(as_json({"approvals": [as_data(record) for record in records]}, indent=2))
    elif records:
        write_lines(table(records, time.time()))
    else:
        write_lines([("nothing waits for a person",)])
    return FINE


def _show(store: ApprovalStore, arguments: argparse.Namespace) -> int:
    from ._approvals import as_data, as_json, section
    from ._render import write
    from ._style import write_text

    _check_texts(arguments.id)
    record = _asked(lambda: store.get(arguments.id))
    if record is None:
        raise Stop(FAILED, f"there is no approval `{arguments.id}`: it was used or has expired, or there never was one")
    if arguments.json:
        write_text(as_json(as_data(record, arguments=arguments.arguments), indent=2))
    else:
        write(section(record, time.time(), arguments=arguments.arguments), None, "text")
    return FINE


# -- deciding


def _approve(store: ApprovalStore, arguments: argparse.Namespace) -> int:
    return _decide(store, arguments, approve=True)


def _reject(store: ApprovalStore, arguments: argparse.Namespace) -> int:
    return _decide(store, arguments, approve=False)


def _decide(store: ApprovalStore, arguments: argparse.Namespace, *, approve: bool) -> int:
    """Decide one after the other; one that cannot be decided does not keep the rest from it."""
    from mcp_policy.approvals import ApprovalError
    from mcp_policy.engine import PolicyEngine

    from ._style import write_lines

    by = _login() if arguments.by is None else arguments.by
    _check_texts(by, arguments.note, *arguments.ids)
    engine = PolicyEngine(None, approvals=store)
    decide = engine.approve if approve else engine.reject
    status = FINE
    for id in arguments.ids:
        try:
            record = _asked(partial(decide, id, by=by, note=arguments.note))
        except ApprovalError as error:
            _say(str(error))
            status = FAILED
        else:
            write_lines([_decided(record)])
    return status


def _check_texts(*given: str) -> None:
    """Refuse bytes that are no text: not every store could keep them."""
    for text in given:
        try:
            text.encode()
        except UnicodeEncodeError:
            raise Stop(USAGE, f"`{text}` is not text") from None


def _login() -> str:
    try:
        return getpass.getuser()
    except (ImportError, KeyError, OSError):
        raise Stop(USAGE, "--by has to name who decides: this user has no login name") from None


def _decided(record: Approval) -> Line:
    from ._approvals import STYLES, cut, progress
    from ._render import Text

    line = (Text(record.status.ljust(8), STYLES[record.status]), "  ", Text(record.id, "name"), "  ", cut(record.tool))
    return (*line, f"  {progress(record)} approvals") if record.status == "pending" else line


# -- watching


def _watch(store: ApprovalStore, arguments: argparse.Namespace) -> int:
    from ._approvals_watch import events

    with _webhook(store, arguments.webhook):
        happening = events(store, say=_say)
        while True:
            event = _asked(lambda: next(happening))
            _print_json(event) if arguments.json else _print(event)


def _webhook(store: ApprovalStore, url: str | None) -> AbstractContextManager[None]:
    if url is None:
        return nullcontext()
    secret = os.environ.get(SECRET)
    if not secret:
        raise Stop(USAGE, f"--webhook needs its secret in the variable {SECRET}: `whsec_` and the base64 of 24 bytes")
    try:
        from mcp_policy.approvals.webhook import Webhook, delivering

        return delivering(store, Webhook(url, secret))
    except ImportError as error:
        raise Stop(FAILED, str(error)) from None
    except ValueError as error:
        raise Stop(USAGE, f"--webhook: {error}") from None


def _print_json(event: Event) -> None:
    from ._approvals import as_data, as_json, iso
    from ._style import write_now

    write_now(as_json({"event": event.kind, "at": iso(time.time()), **as_data(event.record)}))


def _print(event: Event) -> None:
    from ._approvals import told
    from ._render import Text
    from ._style import in_colour, write_lines, write_now

    now = time.time()
    line = (f"{datetime.fromtimestamp(now).astimezone():%H:%M:%S}  ", *told(event.kind, event.record, now))
    if in_colour(sys.stdout):
        write_lines([line])
    else:
        write_now("".join(piece.text if isinstance(piece, Text) else str(piece) for piece in line) + "\n")
