"""The enforcement point for any Python callable.

- What is judged is what runs: the handler gets the very copies of the arguments that the decision was made on.
- Nothing runs without an allowing decision. Where a hook raises, arguments cannot be copied or the engine fails, the
  call is denied (`internal_error`, `invalid_call`), and the failure is logged.
- A call that raises gives its cost back where the limit says so. A cancelled or timed-out call keeps it: it may have
  run.
- A guard that would sit where nobody calls it is refused when it is put there, not found out later.
"""

from __future__ import annotations

import functools
import inspect
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeVar, overload

from .answer import is_hidden
from .binding import Binder, Bound, binder
from .call import CATEGORIES, UNKNOWN, Principal, ToolCall
from .decision import Decision, Effect, Reason, ReasonCode
from .logs import log
from .placement import check_engine, check_handler, has_receiver, tool_errors
from .snapshot import TooDeep, snapshot_mapping

if TYPE_CHECKING:
    from types import TracebackType

    from .engine import PolicyEngine

F = TypeVar("F", bound=Callable[..., Any])


_UNAPPLIED: Final = "the policy could not be applied to a call of %r: denied"
FAILED: Final = Decision(
    Effect.DENY, (Reason(ReasonCode.INTERNAL_ERROR, "the policy could not be applied, so the call is denied"),)
)
"""The decision on a call that could not be put to the engine at all."""
_TOO_DEEP: Final = Decision(
    Effect.DENY, (Reason(ReasonCode.INVALID_CALL, "the arguments are nested too deep to be judged"),)
)


class PolicyDenied(Exception):
    """A guarded call that the policy does not let run.

    `decision` says why; the text is one plain sentence, fit for an agent. About a hidden tool it says what is said of a
    tool that does not exist. Under the MCP SDK and fastmcp it is also their `ToolError`, whose text reaches the agent.
    """

    def __init__(self, decision: Decision) -> None:
        super().__init__(decision)
        self.decision = decision

    def __reduce__(self) -> tuple[Any, ...]:
        return PolicyDenied, (self.decision,)

    def __str__(self) -> str:
        return "unknown tool" if is_hidden(self.decision) else str(self.decision)


def _denial(decision: Decision) -> PolicyDenied:
    return _denial_class(tool_errors())(decision)


@functools.cache
def _denial_class(errors: tuple[type[Exception], ...]) -> type[PolicyDenied]:
    return type("PolicyDenied", (PolicyDenied, *errors), {"__module__": __name__}) if errors else PolicyDenied


class _Tool(NamedTuple):
    """What is guarded: the name that the policy knows it by, and what the host says that it is."""

    name: str
    category: str | None


def _checked(category: str | None) -> str | None:
    if category is None or category in CATEGORIES or category == UNKNOWN:
        return category
    known = ", ".join(f"`{name}`" for name in CATEGORIES)
    raise ValueError(f"`category` is one of {known} or `{UNKNOWN}`, not {category!r}")


class Guard:
    """Puts a policy in front of functions, methods and blocks of code.

    `@guard` and `@guard("tool_name", category="destructive")` guard a handler, synchronous or asynchronous; its tool
    name is the function's unless given. `with guard.call(name, arguments) as arguments:` (or `async with`) guards a
    block. A call that the policy stops raises `PolicyDenied`.

    `category` is what the host says that the tool is: `read`, `write`, `execute`, `destructive`, `financial` or
    `unknown`; it counts whatever a catalogue says. Without it the engine's catalogue is asked.

    `server` is the name under which the policy knows this server. `principal`, `session` and `context` are called for
    every call, without arguments, and return a `Principal`, the id of the session as the server issued it, and what the
    policy may ask for under `context`; each may return None. They must return what the host has authenticated, never
    what a client says of itself. `context.time` (UTC) is filled in unless the hook gives it.
    """

    def __init__(
        self,
        engine: PolicyEngine,
        *,
        server: str | None = None,
        principal: Callable[[], Principal | None] | None = None,
        session: Callable[[], str | None] | None = None,
        context: Callable[[], Mapping[str, Any] | None] | None = None,
    ) -> None:
        self._engine = check_engine(engine)
        self._server = server
        self._principal = principal or _nobody
        self._session = session or _nobody
        self._context = context or _nobody

    @overload
    def __call__(self, handler: F) -> F: ...
    @overload
    def __call__(self, handler: str, *, category: str | None = None) -> Callable[[F], F]: ...
    @overload
    def __call__(self, *, category: str) -> Callable[[F], F]: ...
    def __call__(self, handler: Any = None, *, category: str | None = None) -> Any:
        """Guard `handler`, or return the decorator that guards under the name and the category given.

        Raises `TypeError` for what is not a plain function or method, for generators (they would be judged when called
        but run later), and for a function that is a tool already (the server would go on calling the unguarded one);
        `ValueError` for a category that there is not.
        """
        category = _checked(category)
        if isinstance(handler, str) or (handler is None and category is not None):
            return functools.partial(self._guarded, name=handler, category=category)
        return self._guarded(handler, None, category)

    def call(
        self, tool: str, arguments: Mapping[str, Any] | None = None, *, category: str | None = None
    ) -> GuardedCall:
        """Return a context manager that decides on entry, and gives the judged copy of `arguments` to the block.

        Entering raises `PolicyDenied` where the call may not run. It can be entered once. Raises `ValueError` for a
        category that there is not.
        """
        return GuardedCall(self, tool, arguments, _checked(category))

    def _guarded(self, handler: Any, name: str | None, category: str | None) -> Any:
        check_handler(handler)
        if isinstance(handler, staticmethod):
            return staticmethod(self._wrap(handler.__func__, name, category, receiver=False))
        if isinstance(handler, classmethod):
            return classmethod(self._wrap(handler.__func__, name, category, receiver=True))
        return self._wrap(handler, name, category, receiver=has_receiver(handler))

    def _wrap(
        self, handler: Callable[..., Any], name: str | None, category: str | None, *, receiver: bool
    ) -> Callable[..., Any]:
        tool = _Tool(handler.__name__ if name is None else name, category)
        bind = binder(handler, receiver=receiver)
        wrap = _wrap_async if inspect.iscoroutinefunction(handler) else _wrap_sync
        return functools.wraps(handler)(wrap(self, handler, tool, bind))

    def _asked(self, tool: _Tool, arguments: Mapping[str, Any] | None) -> ToolCall:
        time_and_more = {"time": utc_now(), **(self._context() or {})}
        return ToolCall(
            tool.name,
            arguments,
            server=self._server,
            session=self._session(),
            principal=self._principal(),
            context=time_and_more,
            category=tool.category,
        )

    def _admit(self, tool: _Tool, arguments: Mapping[str, Any] | None) -> Decision:
        try:
            decision = self._engine.authorize(self._asked(tool, arguments))
        except Exception:  # noqa: BLE001  # logged below
            log().exception(_UNAPPLIED, tool.name)
            raise self._refused(tool.name, FAILED) from None
        if not decision.allowed:
            raise _denial(decision)
        return decision

    async def _admit_async(self, tool: _Tool, arguments: Mapping[str, Any] | None) -> Decision:
        try:
            decision = await self._engine.authorize_async(self._asked(tool, arguments))
        except Exception:  # noqa: BLE001  # logged below
            log().exception(_UNAPPLIED, tool.name)
            raise self._refused(tool.name, FAILED) from None
        if not decision.allowed:
            raise _denial(decision)
        return decision

    def _refused(self, tool: str, decision: Decision) -> PolicyDenied:
        """Return the denial of a call that the engine has not seen, and put it on record."""
        self._engine.note(ToolCall(tool, server=self._server), decision)
        return _denial(decision)


def _wrap_sync(guard: Guard, handler: Callable[..., Any], tool: _Tool, bind: Binder) -> Callable[..., Any]:
    def guarded(*args: Any, **kwargs: Any) -> Any:
        bound = _bound(guard, bind, tool.name, args, kwargs)
        decision = guard._admit(tool, bound.arguments)
        try:
            return handler(*bound.args, **bound.kwargs)
        except Exception as error:
            if has_failed(error):
                guard._engine.refund(decision)
            raise

    return guarded


def _wrap_async(guard: Guard, handler: Callable[..., Awaitable[Any]], tool: _Tool, bind: Binder) -> Callable[..., Any]:
    async def guarded(*args: Any, **kwargs: Any) -> Any:
        bound = _bound(guard, bind, tool.name, args, kwargs)
        decision = await guard._admit_async(tool, bound.arguments)
        try:
            return await handler(*bound.args, **bound.kwargs)
        except Exception as error:
            if has_failed(error):
                await guard._engine.refund_async(decision)
            raise

    return guarded


def _bound(guard: Guard, bind: Binder, tool: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Bound:
    """Bind a call. A `TypeError` is left to say that the handler takes no such call."""
    try:
        return bind(args, kwargs)
    except TooDeep:
        raise guard._refused(tool, _TOO_DEEP) from None
    except TypeError:
        raise
    except Exception:  # noqa: BLE001  # logged below
        log().exception(_UNAPPLIED, tool)
        raise guard._refused(tool, FAILED) from None


class GuardedCall:
    """One guarded block; made by `Guard.call`."""

    __slots__ = ("_arguments", "_decision", "_entered", "_guard", "_tool")

    def __init__(
        self, guard: Guard, tool: str, arguments: Mapping[str, Any] | None, category: str | None = None
    ) -> None:
        self._guard = guard
        self._tool = _Tool(tool, category)
        self._arguments = arguments
        self._decision: Decision | None = None
        self._entered = False

    def __enter__(self) -> dict[str, Any]:
        arguments = self._judged()
        self._decision = self._guard._admit(self._tool, arguments)
        return arguments

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._decision is not None and has_failed(error):
            self._guard._engine.refund(self._decision)

    async def __aenter__(self) -> dict[str, Any]:
        arguments = self._judged()
        self._decision = await self._guard._admit_async(self._tool, arguments)
        return arguments

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._decision is not None and has_failed(error):
            await self._guard._engine.refund_async(self._decision)

    def _judged(self) -> dict[str, Any]:
        if self._entered:
            raise RuntimeError("a guarded call can be entered once; make a new one with `guard.call(...)`")
        self._entered = True
        try:
            return judged_copy(self._tool.name, self._arguments)
        except PolicyDenied as denied:
            raise self._guard._refused(self._tool.name, denied.decision) from None


def judged_copy(tool: str, arguments: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return the copy of `arguments` to judge and to run with. Raises `PolicyDenied` where they cannot be copied."""
    try:
        return {} if arguments is None else snapshot_mapping(arguments)
    except TooDeep:
        raise _denial(_TOO_DEEP) from None
    except Exception:  # noqa: BLE001  # logged below
        log().exception(_UNAPPLIED, tool)
        raise _denial(FAILED) from None


def has_failed(error: BaseException | None) -> bool:
    """Return whether a call ended in a failure of its own, rather than cancelled or out of time."""
    seen = 0
    while error is not None and seen < 16:
        if isinstance(error, TimeoutError) or not isinstance(error, Exception):
            return False
        seen, error = seen + 1, error.__cause__
    return seen > 0


def utc_now() -> dict[str, int]:
    """Return `context.time`: weekday 1 to 7 from Monday, hour and minute, in UTC."""
    now = time.gmtime()
    return {"weekday": now.tm_wday + 1, "hour": now.tm_hour, "minute": now.tm_min}


def _nobody() -> None:
    return None
