"""The visual builder over HTTP: a policy's text and the form of it, in step.

Rules kept here:

- The text of the document is the only truth. It comes with each request, and nothing of it is kept: between two
  requests there is the stack and the file.
- An edit answers with the new text and the form of it, or with why there is none, and then nothing has changed.
- What is shown of a decision was asked of an engine that has loaded this very text.
- The one file that is read and written is the one that the command line named: a browser names no file.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeAlias
from urllib.parse import parse_qsl

from starlette.concurrency import run_in_threadpool
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from mcp_policy import layout
from mcp_policy.catalogue.profile import CATEGORIES
from mcp_policy.engine import PolicyEngine
from mcp_policy.errors import PolicyError
from mcp_policy.explain import nodes
from mcp_policy.policy import Policy
from mcp_policy.reading import MAX_BYTES

from . import entries, panels
from .current import Current
from .editing import EMPTY, EditError, Tree, edited, keys, kind_of, pointer, read
from .filling import Form, choices, edit_of
from .offers import offers
from .posture import Posture, example_arguments, postures
from .rendering import STATES
from .reviewing import Compared, compared, findings
from .saving import Conflict, SaveError
from .stack import Stack, Tool
from .trying import TryError, tried

if TYPE_CHECKING:
    from starlette.requests import Request

Render: TypeAlias = Callable[..., Response]

_LONGEST: Final = 3 * MAX_BYTES  # as `%XX`, a byte takes three
_MOST_FIELDS: Final = 64
_KINDS: Final = tuple(kind for kind, _, _ in panels.KINDS)


class Desk(NamedTuple):
    """What every request is answered with: what is there, the file, and how a page is made."""

    stack: Stack
    current: Current
    render: Render


def routes(stack: Stack, current: Current, render: Render) -> list[Route]:
    """Return the builder's routes. `render` makes a response of a template's name and values."""
    desk = Desk(stack, current, render)
    posts = {"edit": _edit, "read": _read, "try": _try, "compare": _compare, "save": _save}
    return [
        Route("/builder.html", partial(_page, desk)),
        Route("/builder/saved", partial(_saved, desk)),
        *(
            Route(f"/builder/{name}", _posted(partial(handler, desk)), methods=["POST"])
            for name, handler in posts.items()
        ),
    ]


def _posted(handler: Callable[[Form], Response]) -> Callable[[Request], Any]:
    """Return an endpoint that reads a form, of a size that can be, and answers off the event loop."""

    async def endpoint(request: Request) -> Response:
        body = bytearray()
        async for chunk in request.stream():
            body += chunk
            if len(body) > _LONGEST:
                return PlainTextResponse("this is more than a policy can be", 413)
        try:
            pairs = parse_qsl(body.decode("ascii"), keep_blank_values=True, max_num_fields=_MOST_FIELDS)
        except ValueError:
            return PlainTextResponse("this is no form of the builder", 400)
        return await run_in_threadpool(handler, dict(pairs))

    return endpoint


# -- the page


def _page(desk: Desk, request: Request) -> Response:
    draft, digest, problem = _on_disk(desk)
    form = {"tool": request.query_params.get("tool", ""), "selected": request.query_params.get("at", "")}
    shown = _shown(desk, draft, form)
    return desk.render(
        "builder.html",
        here="Builder",
        draft=draft,
        digest=digest,
        file=None if desk.current.disk is None else desk.current.disk.path.name,
        problem=problem,
        rows=list(_rows(desk.stack, shown)),
        servers=[server.name for server in desk.stack.servers if server.tools],
        categories=CATEGORIES,
        all_states=STATES,
        all_kinds=_KINDS,
        **shown,
    )


def _on_disk(desk: Desk) -> tuple[str, str, str]:
    """Return the file's text (where there is none, the one to begin with), its digest, and why it cannot be read."""
    if desk.current.disk is None:
        return EMPTY, "", ""
    try:
        loaded = desk.current.disk.load()
    except SaveError as error:
        return EMPTY, "", str(error)
    return (_lines(loaded.text) if loaded.digest else EMPTY), loaded.digest, ""


class Row(NamedTuple):
    """A tool in the list: what can be asked of a server, and what the document has for it."""

    tool: Tool
    state: str
    kind: str


def _rows(stack: Stack, shown: Mapping[str, Any]) -> Iterator[Row]:
    states, kinds = shown["states"], shown["kinds"]
    for place, tool in enumerate(stack.tools.values()):
        known = bool(states)
        yield Row(tool, STATES[int(states[place])] if known else "", _KINDS[int(kinds[place])] if known else "none")


# -- the form and what belongs to it


def _edit(desk: Desk, form: Form) -> Response:
    text = _text(form)
    tool = desk.stack.tools.get(form.get("tool", ""))
    try:
        edit = edit_of(form, read(text), offers(None if tool is None else tool.definition))
        new = edited(text, edit)
    except (EditError, PolicyError) as error:
        answer = desk.render("builder_refused.html", refused=str(error))
        answer.headers["hx-reswap"] = "none"
        return answer
    if edit["do"] == "rename":
        above, _, _ = edit["at"].rpartition("/")
        form = {**form, "selected": above + pointer(edit["to"])}
    return desk.render("builder_answer.html", text=new, fresh=False, **_shown(desk, new, form))


def _read(desk: Desk, form: Form) -> Response:
    text = _text(form)
    return desk.render("builder_answer.html", text=None, fresh="fresh" in form, **_shown(desk, text, form))


def _text(form: Form) -> str:
    return _lines(form.get("text", ""))


def _lines(text: str) -> str:
    """Return a text with the line ends that a text area gives back."""
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _shown(desk: Desk, text: str, form: Form) -> dict[str, Any]:
    """Return what is shown of a text: the selected entry, the findings, and the state of each tool."""
    tool = desk.stack.tools.get(form.get("tool", ""))
    at = "" if tool is not None else entries.entry_of(form.get("selected", ""))
    shown: dict[str, Any] = {
        "tool": tool,
        "at": at,
        "findings": findings(text, desk.stack),
        "states": "",
        "kinds": "",
        "groups": (),
        "loads": False,
        "arguments": None if tool is None else _example(tool),
    }
    try:
        policy, tree = Policy.parse(text), layout.tree(text)
    except PolicyError:
        return shown
    engine = PolicyEngine(policy)
    held = postures(engine, desk.stack)
    places = {
        slug: entries.own(tree, desk.stack, one.of.id, one.definition.name) for slug, one in desk.stack.tools.items()
    }
    kinds = [kind_of(None if one is None else entries.found(tree, one)) for one in places.values()]
    owned = frozenset(one for one in places.values() if one is not None)
    return {
        **shown,
        "loads": True,
        "states": "".join(str(STATES.index(held[slug].state)) for slug in desk.stack.tools),
        "kinds": "".join(str(_KINDS.index(kind)) for kind in kinds),
        "groups": entries.groups(tree, desk.stack, owned),
        **_panel(desk, form, tree, at if tool is None else places[tool.slug]),
        **_of_tool(engine, tool, None if tool is None else held[tool.slug], at if tool is None else places[tool.slug]),
    }


def _panel(desk: Desk, form: Form, tree: Tree, at: str | None) -> dict[str, Any]:
    """Return what the panel shows of the entry at `at`; that is None where a tool can have none."""
    tool = desk.stack.tools.get(form.get("tool", ""))
    steps = keys(at or "")
    is_section = at is not None and (not steps or (steps[0] == "servers" and len(steps) == 2))
    entry = None if at is None or is_section else entries.found(tree, at)
    custom = kind_of(entry) == "custom" or form.get("custom") == "on"
    offered = offers(None if tool is None else tool.definition)
    offer = choices(offered)
    return {
        "own": at,
        "own_name": steps[-1] if steps else "",
        "title": tool.definition.name if tool is not None else entries.title_of(at or ""),
        "section": entries.section(tree, at) if is_section and at is not None else None,
        "kind": kind_of(entry),
        "custom": custom,
        "cards": panels.cards({} if entry is None and custom else entry, at or "", offered),
        "several": isinstance(entry, list),
        "matched": entries.matched(desk.stack, at) if tool is None and at and steps[-2:-1] == ["tools"] else None,
        "offers": offered,
        "choices": offer,
        "ops": {op: one["verb"] for op, one in offer["ops"].items()},
        "can_be_seen": panels.can_be_seen,
        "kinds_of": panels.KINDS,
        "dimensions": panels.DIMENSIONS,
    }


def _of_tool(engine: PolicyEngine, tool: Tool | None, posture: Posture | None, own: str | None) -> dict[str, Any]:
    """Return what the panel shows of a tool: what happens to it, by which other entries, and what is recommended."""
    if tool is None or posture is None:
        return {"posture": None, "others": [], "recommended": None}
    found = nodes(engine.explain(posture.call))
    rule = tool.page.recommended["tools"][tool.definition.name]
    return {
        "posture": posture,
        "others": [node for node in found if not node.pointer or entries.entry_of(node.pointer) != own],
        "recommended": json.dumps(rule, indent=2),
    }


def _example(tool: Tool) -> str:
    return json.dumps(example_arguments(tool.definition), indent=2)


# -- trying, comparing, saving


def _try(desk: Desk, form: Form) -> Response:
    tool = desk.stack.tools.get(form.get("tool", ""))
    if tool is None:
        return desk.render("builder_tried.html", problem="Choose a tool to call.", field="", tried=None)
    try:
        found = tried(_text(form), form, tool)
    except TryError as error:
        return desk.render("builder_tried.html", problem=str(error), field=error.field, tried=None)
    except PolicyError:
        return desk.render("builder_tried.html", problem="The text is no policy yet.", field="", tried=None)
    return desk.render("builder_tried.html", problem="", field="", tried=found)


def _compare(desk: Desk, form: Form) -> Response:
    saved, digest, problem = _on_disk(desk)
    found = Compared("unknown", 0, (), (), problem) if problem else compared(saved, _text(form))
    return desk.render("builder_compared.html", has_file=bool(digest), comparison=found)


def _save(desk: Desk, form: Form) -> Response:
    disk = desk.current.disk
    if disk is None:
        return desk.render("builder_outcome.html", failed=_NO_FILE)
    try:
        digest = disk.save(_text(form), form.get("digest", ""))
    except Conflict as conflict:
        return desk.render(
            "builder_saved.html", conflict=str(conflict), problem="", text=_lines(conflict.text), digest=conflict.digest
        )
    except SaveError as error:
        return desk.render("builder_outcome.html", failed=str(error))
    return desk.render("builder_outcome.html", failed="", file=disk.path.name, digest=digest)


_NO_FILE: Final = "There is no file to save to: start with --policy policy.json, or download the text."


def _saved(desk: Desk, request: Request) -> Response:
    if desk.current.disk is None:
        return desk.render("builder_outcome.html", failed=_NO_FILE)
    text, digest, problem = _on_disk(desk)
    return desk.render("builder_saved.html", conflict="", problem=problem, text=text, digest=digest)
