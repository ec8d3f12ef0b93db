"""Where the contract is kept: a stack, a transport and a protocol era, with a server there and a client connected to it.

Everything asynchronous runs in one loop beside the tests, which see plain functions.
"""

from __future__ import annotations

import asyncio
import os
import socket
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, asynccontextmanager, contextmanager, nullcontext
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import uvicorn
from anyio.from_thread import BlockingPortal, start_blocking_portal

import mcp_policy
from stacks.talk import DISMISSES, Answer, Person
from stacks.world import World

SOURCE = Path(mcp_policy.__file__).parent.parent
TESTS = Path(__file__).parent.parent


class Place(NamedTuple):
    """What a contract test is run on. `clients` is the module that talks; `lacks` says what the stack does not give."""

    id: str
    stack: Any
    transport: str
    era: str
    clients: Any
    lacks: frozenset[str] = frozenset()

    def __str__(self) -> str:
        return f"{self.id}-{self.transport}-{self.era}"


def places(
    clients: Any,
    stacks: dict[str, Any],
    *,
    over: Sequence[str] = ("memory", "stdio", "http"),
    lacks: Sequence[str] = (),
) -> list[Place]:
    """Return every place of these stacks: the transports in `over`, and the eras of their clients.

    What they may lack: `facts` (refusals have no `_meta`), `words` (unknown tools are answered in the guard's own words)
    and `questions` (in the handshake era, nobody at the client is asked).
    """
    return [
        Place(id, stack, transport, era, clients, frozenset(lacks))
        for id, stack in stacks.items()
        for transport in over
        for era in clients.ERAS
    ]


class There:
    """A place that is open: a guarded server, a client, and whoever sits there."""

    def __init__(self, place: Place, portal: BlockingPortal, folder: Path) -> None:
        self.place, self.world, self.person = place, World(folder), Person()
        self._portal = portal
        self._open = ExitStack()
        self._bare: There | None = None

    @contextmanager
    def running(self, *, guarded: bool = True) -> Iterator[There]:
        """Open the place."""
        self.world.begin()
        with self._open:
            self._reach = self._entered(_reached(self.place, self.world, guarded=guarded))
            self._talker = self._entered(self.place.clients.connected(self._reach(), self.place.era, self.person))
            yield self

    @property
    def bare(self) -> There:
        """The same server without the guard; a process says what the server says in memory."""
        if self._bare is None:
            folder = self.world.folder / "bare"
            folder.mkdir()
            place = self.place._replace(transport={"stdio": "memory"}.get(self.place.transport, self.place.transport))
            twin = There(place, self._portal, folder)
            self._bare = self._open.enter_context(twin.running(guarded=False))
        return self._bare

    def begin(self, **document: Any) -> None:
        """Start anew with another policy."""
        self.world.begin(**document)
        self.person.says = DISMISSES
        self.person.questions.clear()

    def call(self, tool: str, arguments: dict[str, Any] | None = None, meta: Any = None) -> Answer:
        return self._portal.call(self._talker.call, tool, arguments, meta)

    def calls(self, calls: Sequence[tuple[str, dict[str, Any]]]) -> list[Answer]:
        """Make calls side by side."""

        async def together() -> list[Answer]:
            return await asyncio.gather(*(self._talker.call(*call) for call in calls))

        return self._portal.call(together)

    def ask(self, method: str, params: dict[str, Any] | None = None) -> dict[str, Any]:
        return self._portal.call(self._talker.ask, method, params or {})

    def listed(self) -> list[str]:
        """Return the names of the tools that the client is shown."""
        return [tool["name"] for tool in self.ask("tools/list")["tools"]]

    @contextmanager
    def another(self, person: Person | None = None, **how: Any) -> Iterator[Callable[..., Answer]]:
        """Connect a further client, one that cannot be asked unless a `person` sits there; yields what calls."""
        connecting = self.place.clients.connected(self._reach(**how), self.place.era, person)
        with self._portal.wrap_async_context_manager(connecting) as talker:
            yield lambda *call: self._portal.call(talker.call, *call)

    @property
    def url(self) -> str:
        return self._reach.url

    def _entered(self, manager: Any) -> Any:
        entering: AbstractContextManager[Any] = self._portal.wrap_async_context_manager(manager)
        return self._open.enter_context(entering)


def opened(places: Sequence[Place]) -> Any:
    """Return the fixture that opens each of the places in turn."""

    @pytest.fixture(scope="class", params=places, ids=str)
    def there(request: Any) -> Iterator[There]:
        with (
            tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder,
            start_blocking_portal() as portal,
            There(request.param, portal, Path(folder)).running() as found,
        ):
            yield found

    return there


# -- how a server is reached


class Reach:
    """Makes a new transport to one server with each call."""

    def __init__(self, transport: Callable[..., Any], url: str = "") -> None:
        self._transport, self.url = transport, url

    def __call__(self, **how: Any) -> Any:
        return self._transport(**how)


@asynccontextmanager
async def _reached(place: Place, world: World, *, guarded: bool) -> AsyncIterator[Reach]:
    stack, clients = place.stack, place.clients
    if place.transport == "stdio":
        command, env = child(stack, world, guarded=guarded)
        yield Reach(lambda: clients.stdio(command, env, world.folder / "errors"))
        return
    async with stack.serving(world, guarded=guarded, one_client=place.transport == "memory") as server:
        if place.transport == "memory":
            yield Reach(lambda: stack.memory(server))
            return
        async with over_http(stack.app(server)) as url:
            yield Reach(lambda headers=None: clients.http(url, headers), url)


def child(stack: Any, world: World, *, guarded: bool) -> tuple[list[str], dict[str, str]]:
    """Return the command that serves a stack over stdio, and its environment."""
    how = "guarded" if guarded else "bare"
    command = [sys.executable, str(Path(__file__).with_name("child.py")), stack.module, stack.name]
    paths = os.pathsep.join([str(SOURCE), str(TESTS)])
    return [*command, str(world.folder), how], {**os.environ, "PYTHONPATH": paths}


class _Uvicorn(uvicorn.Server):
    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.up = asyncio.Event()

    def capture_signals(self) -> Any:
        return nullcontext()

    async def startup(self, sockets: Any = None) -> None:
        await super().startup(sockets)
        self.up.set()


@asynccontextmanager
async def over_http(app: Any) -> AsyncIterator[str]:
    """Serve an ASGI app on a free port, and yield the address of its MCP endpoint."""
    config = uvicorn.Config(app, log_config=None, lifespan="on", ws="none", timeout_graceful_shutdown=1)
    server = _Uvicorn(config)
    with socket.socket(proto=socket.IPPROTO_TCP) as listening:  # said, or asyncio would let answers wait to be joined
        listening.bind(("127.0.0.1", 0))
        serving = asyncio.create_task(server.serve(sockets=[listening]))
        up = asyncio.create_task(server.up.wait())
        await asyncio.wait({serving, up}, return_when=asyncio.FIRST_COMPLETED)
        if serving.done():
            await serving
        try:
            yield f"http://127.0.0.1:{listening.getsockname()[1]}/mcp"
        finally:
            server.should_exit = True
            await serving
