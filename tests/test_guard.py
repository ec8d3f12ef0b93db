"""The guard around Python callables: nothing runs that was not judged, and what was judged is what runs."""

from __future__ import annotations

import asyncio
import functools
import inspect
import logging
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import pytest
from pydantic import BaseModel

from mcp_policy.call import Principal
from mcp_policy.decision import Effect, ReasonCode
from mcp_policy.engine import PolicyEngine
from mcp_policy.guard import Guard, PolicyDenied, has_failed, utc_now
from mcp_policy.policy import Policy


class Recorder(PolicyEngine):
    """An engine that keeps the calls it was asked about."""

    def __init__(self, tools: Any = None, **top: Any) -> None:
        document = {"version": "1", **({"default": "allow"} if tools is None else {"tools": tools}), **top}
        super().__init__(Policy.model_validate(document), clock=lambda: 1000.0)
        self.calls: list[Any] = []

    def authorize(self, call):
        self.calls.append(call)
        return super().authorize(call)

    async def authorize_async(self, call):
        self.calls.append(call)
        return await super().authorize_async(call)

    @property
    def judged(self) -> dict[str, Any]:
        return self.calls[-1].arguments


def denied(run, *args, **kwargs) -> PolicyDenied:
    def fully() -> None:
        result = run(*args, **kwargs)
        if inspect.iscoroutine(result):
            asyncio.run(result)

    with pytest.raises(PolicyDenied) as caught:
        fully()
    return caught.value


# -- what is judged


def test_arguments_are_bound_to_their_names_with_defaults():
    engine = Recorder()

    @Guard(engine)
    def send(to: str, text: str = "hi", *, urgent: bool = False) -> tuple:
        return to, text, urgent

    assert send("ann", urgent=True) == ("ann", "hi", True)
    assert engine.judged == {"to": "ann", "text": "hi", "urgent": True}
    assert send(text="a", to="b") == ("b", "a", False)
    assert engine.judged == {"to": "b", "text": "a", "urgent": False}
    assert engine.calls[0].tool == "send"


def test_variable_arguments():
    engine = Recorder()

    @Guard(engine)
    def rm(first: str, *more: str, force: bool = False, **options: Any) -> tuple:
        return first, more, force, options

    assert rm("a", "b", "c", depth=2) == ("a", ("b", "c"), False, {"depth": 2})
    assert engine.judged == {"first": "a", "more": ["b", "c"], "force": False, "depth": 2}
    assert rm("a") == ("a", (), False, {})
    assert engine.judged == {"first": "a", "more": [], "force": False}


def test_positional_only():
    engine = Recorder()

    @Guard(engine)
    def add(a: int, /, b: int) -> int:
        return a + b

    assert add(1, 2) == 3
    assert engine.judged == {"a": 1, "b": 2}


@pytest.mark.parametrize("clash", [{"a": 2}, {"more": [1]}])
def test_a_name_cannot_be_given_twice(clash):
    engine, ran = Recorder(), []

    @Guard(engine)
    def tool(a: int, /, *more: int, **rest: Any) -> None:
        ran.append(a)

    with pytest.raises(TypeError, match="given twice"):
        tool(1, **clash)
    assert not ran
    assert not engine.calls


def test_a_call_that_the_handler_cannot_take_is_a_type_error_and_is_not_counted():
    engine = Recorder()

    @Guard(engine)
    def tool(a: int) -> None: ...

    for args, kwargs in [((), {}), ((1, 2), {}), ((), {"a": 1, "b": 2}), ((1,), {"a": 1})]:
        with pytest.raises(TypeError):
            tool(*args, **kwargs)
    assert not engine.calls


def test_the_tool_may_have_a_name_of_its_own():
    engine = Recorder({"delete_task": {}})

    @Guard(engine)("delete_task")
    def _delete(task_id: str) -> str:
        return task_id

    assert _delete("t") == "t"
    assert engine.calls[0].tool == "delete_task"


def test_the_host_may_say_what_the_tool_is():
    engine = Recorder(default="deny", categories={"read": {}, "destructive": {"action": "deny"}})
    guard = Guard(engine)

    class Pages:
        @guard("get_page", category="read")
        def get(self) -> str:
            return "page"

        @guard(category="destructive")
        async def delete(self) -> None:
            raise AssertionError

        @guard(category="unknown")
        @staticmethod
        def look() -> None:
            raise AssertionError

    assert Pages().get() == "page"
    assert denied(Pages().delete).decision.reasons[0].code is ReasonCode.DENIED_BY_RULE
    assert denied(Pages.look).decision.reasons[0].code is ReasonCode.DEFAULT_DENY
    assert denied(guard(lambda: None)).decision.reasons[0].code is ReasonCode.DEFAULT_DENY
    said = [(call.tool, call.category) for call in engine.calls]
    assert said == [("get_page", "read"), ("delete", "destructive"), ("look", "unknown"), ("<lambda>", None)]


def test_a_block_may_say_what_it_is():
    engine = Recorder(default="deny", categories={"read": {}})
    with Guard(engine).call("get_page", {"id": 1}, category="read") as arguments:
        assert arguments == {"id": 1}

    async def writes() -> None:
        async with Guard(engine).call("put_page", category="write"):
            raise AssertionError

    denied(writes)
    assert [call.category for call in engine.calls] == ["read", "write"]


@pytest.mark.parametrize("category", ["", "Read", "harmless", 5, ["read"]])
def test_a_category_that_there_is_not_is_refused_at_once(category):
    guard = Guard(Recorder())
    for put in (lambda: guard("t", category=category), lambda: guard(category=category)):
        with pytest.raises(ValueError, match="`category` is one of `read`"):
            put()
    with pytest.raises(ValueError, match="`category` is one of"):
        guard.call("t", category=category)


def test_server_and_hooks_say_on_whose_behalf():
    engine = Recorder()
    me = Principal("ann", issuer="https://id.example")
    guard = Guard(engine, server="files", principal=lambda: me, session=lambda: "s1", context=lambda: {"region": "eu"})

    @guard
    def tool() -> None: ...

    tool()
    call = engine.calls[0]
    assert (call.server, call.session, call.principal) == ("files", "s1", me)
    assert call.context["region"] == "eu"
    assert call.context["time"].keys() == {"weekday", "hour", "minute"}


def test_the_host_may_set_the_clock():
    engine = Recorder({"tool": {"require": [{"path": "context.time.hour", "op": "lt", "value": 8}]}})
    hours = iter([7, 8])
    guard = Guard(engine, context=lambda: {"time": {"weekday": 1, "hour": next(hours), "minute": 0}})

    @guard
    def tool() -> str:
        return "ran"

    assert tool() == "ran"
    denied(tool)


def test_time_is_in_utc(monkeypatch):
    import time

    monkeypatch.setattr(
        "mcp_policy.guard.time", type("T", (), {"gmtime": staticmethod(lambda: time.gmtime(86400 * 3 + 3660))})
    )
    assert utc_now() == {"weekday": 7, "hour": 1, "minute": 1}  # 4 January 1970 was a Sunday


# -- methods


class Desk:
    engine = Recorder()
    guard = Guard(engine)

    def __init__(self) -> None:
        self.sent: list[str] = []

    @guard
    def send(self, text: str) -> list[str]:
        self.sent.append(text)
        return self.sent

    @guard
    async def send_later(self, text: str, times: int = 1) -> list[str]:
        return [text] * times

    @guard
    @classmethod
    def kind(klass, suffix: str = "") -> str:  # noqa: N804  # a receiver by any name
        return klass.__name__ + suffix

    @guard
    @staticmethod
    def add(a: int, b: int) -> int:
        return a + b

    @classmethod
    @guard
    def inner_kind(cls, suffix: str) -> str:
        return cls.__name__ + suffix

    @staticmethod
    @guard
    def inner_add(self: int, b: int) -> int:  # noqa: PLW0211  # a misleading name
        return self + b


def test_methods_have_a_receiver_that_is_no_argument():
    desk = Desk()
    assert desk.send("a") == ["a"]
    assert Desk.engine.judged == {"text": "a"}
    assert desk.send(text="b") == ["a", "b"]
    assert Desk.send(desk, "c") == ["a", "b", "c"]
    assert asyncio.run(desk.send_later("x", times=2)) == ["x", "x"]
    assert Desk.engine.judged == {"text": "x", "times": 2}
    assert Desk.engine.calls[-1].tool == "send_later"


def test_class_and_static_methods():
    assert Desk.kind("!") == "Desk!"
    assert Desk.engine.judged == {"suffix": "!"}
    assert Desk().kind() == "Desk"
    assert Desk.inner_kind("?") == "Desk?"
    assert Desk.engine.judged == {"suffix": "?"}
    assert Desk.inner_add(self=1, b=2) == 3
    assert Desk.engine.judged == {"self": 1, "b": 2}, "no method gets its receiver by name"
    assert Desk.add(1, b=2) == 3
    assert Desk.engine.judged == {"a": 1, "b": 2}


def test_bound_methods():
    class Box:
        def put(self, what: str) -> str:
            return what

    engine = Recorder()
    put = Guard(engine)(Box().put)
    assert put("x") == "x"
    assert engine.judged == {"what": "x"}


def test_an_argument_called_self_outside_a_class_is_judged():
    engine = Recorder({"tool": {"deny_if": [{"path": "args.self", "op": "eq", "value": "evil"}]}})

    @Guard(engine)
    def tool(self: str) -> str:
        return self

    assert tool("fine") == "fine"
    denied(tool, "evil")
    denied(tool, self="evil")


# -- what runs is what was judged


def test_a_later_change_by_the_caller_changes_nothing():
    class Slow(Recorder):
        async def authorize_async(self, call):
            decision = await super().authorize_async(call)
            await asyncio.sleep(0)
            return decision

    engine = Slow({"tool": {"deny_if": [{"path": "args.ids[*]", "op": "eq", "value": "root"}]}})

    @Guard(engine)
    async def tool(ids: list[str]) -> list[str]:
        return ids

    async def race() -> list[str]:
        ids = ["guest"]
        running = asyncio.ensure_future(tool(ids))
        await asyncio.sleep(0)
        ids[0] = "root"
        return await running

    assert asyncio.run(race()) == ["guest"]


def test_a_change_in_between_by_a_hook_changes_nothing():
    ids = ["guest"]
    engine = Recorder({"tool": {"deny_if": [{"path": "args.ids[*]", "op": "eq", "value": "root"}]}})
    guard = Guard(engine, session=lambda: ids.__setitem__(0, "root"))

    @guard
    def tool(ids: list[str]) -> list[str]:
        return ids

    assert tool(ids) == ["guest"]


class Model(BaseModel):
    tags: list[str]
    extra: dict[str, Any] = {}


@dataclass
class Record:
    tags: list[str]
    inner: dict[str, list[int]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Frozen:
    tags: list[str]


class Pair(NamedTuple):
    left: list[str]
    right: int


class Bag(dict):
    """A mapping of its own kind."""


@pytest.mark.parametrize(
    "value",
    [
        {"a": [1, {"b": 2}]},
        [["x"]],
        (["x"], 1),
        Pair(["x"], 1),
        Model(tags=["x"], extra={"k": [1]}),
        Record(["x"], {"k": [1]}),
        Frozen(["x"]),
        Bag(a=["x"]),
        {1, 2},
        "text",
        None,
        2.5,
    ],
    ids=lambda value: type(value).__name__,
)
def test_copies_are_equal_of_the_same_kind_and_not_the_same(value):
    engine, kept = Recorder(), []

    @Guard(engine)
    def tool(value: Any) -> None:
        kept.append(value)

    tool(value)
    assert kept[0] == value
    assert type(kept[0]) is type(value)
    assert kept[0] is engine.judged["value"]
    if not isinstance(value, str | float | None):
        assert kept[0] is not value
    for holder in (Model, Record, Frozen):
        if isinstance(value, holder):
            assert kept[0].tags is not value.tags


def test_other_objects_are_passed_as_they_are_and_their_code_is_not_run():
    class Handle:
        def __copy__(self):
            raise AssertionError

        __deepcopy__ = __reduce_ex__ = __eq__ = __iter__ = __copy__
        __hash__ = None

    engine, handle = Recorder(), Handle()

    @Guard(engine)
    def tool(handle: Any, lock: Any) -> bool:
        return handle is mine

    mine = handle
    assert tool(handle, threading.Lock()) is True


def test_mutable_defaults_do_not_travel_between_calls():
    engine = Recorder()

    @Guard(engine)
    def tool(seen: list[int] = []) -> list[int]:  # noqa: B006  # what this test is about
        seen.append(1)
        return seen

    assert tool() == [1]
    assert tool() == [1]


@pytest.mark.parametrize("levels", [202, 5_000])
def test_what_is_nested_too_deep_is_denied(levels):
    engine, deep = Recorder(), None
    for _ in range(levels):
        deep = [deep]

    @Guard(engine)
    def tool(value: Any) -> None:
        raise AssertionError

    error = denied(tool, deep)
    assert error.decision.reasons[0].code is ReasonCode.INVALID_CALL


def test_what_holds_itself_is_denied():
    loop: list[Any] = []
    loop.append(loop)

    @Guard(Recorder())
    def tool(value: Any) -> None:
        raise AssertionError

    assert denied(tool, loop).decision.effect is Effect.DENY


def test_what_cannot_be_copied_is_denied_and_logged(caplog):
    class Stubborn(list):
        def __reduce_ex__(self, version):
            raise RuntimeError("no copies of s3cret")

    @Guard(Recorder())
    def tool(value: Any) -> None:
        raise AssertionError

    error = denied(tool, Stubborn())
    assert error.decision.reasons[0].code is ReasonCode.INTERNAL_ERROR
    assert "s3cret" not in str(error)
    assert "tool" in caplog.text


# -- denials


def test_denied_calls_do_not_run_and_say_why():
    ran: list[str] = []
    guard = Guard(Recorder({"rm": {"action": "deny", "reason": "files stay"}}))

    @guard
    def rm(path: str) -> None:
        ran.append(path)

    @guard("rm")
    async def rm_later(path: str) -> None:
        ran.append(path)

    for error in (denied(rm, "/"), denied(rm_later, "/")):
        assert "files stay" in str(error)
        assert "\n" not in str(error)
        assert error.decision.reasons[0].code is ReasonCode.DENIED_BY_RULE
        assert error.decision.reasons[0].rule == "/tools/rm"
    assert ran == []


def test_a_hidden_tool_says_nothing_of_a_policy():
    @Guard(Recorder({"secret": {}}, hide=["secret"]))
    def secret() -> None:
        raise AssertionError

    error = denied(secret)
    assert str(error) == "unknown tool"
    assert error.decision.reasons[0].code is ReasonCode.HIDDEN


@pytest.mark.parametrize("effect", ["limit", "approve"])
def test_only_allow_runs(effect):
    rule = {"rate_limit": {"max": 0, "window": 60}} if effect == "limit" else {"action": "approve"}

    @Guard(Recorder({"tool": rule}))
    def tool() -> None:
        raise AssertionError

    assert denied(tool).decision.effect == effect


def test_shadow_mode_lets_it_run():
    @Guard(Recorder({"tool": {"action": "deny"}}, mode="shadow"))
    def tool() -> str:
        return "ran"

    assert tool() == "ran"


@pytest.mark.parametrize("hook", ["principal", "session", "context"])
@pytest.mark.parametrize("mode", ["enforce", "shadow"])
def test_a_hook_that_raises_denies_and_is_logged(hook, mode, caplog):
    def fails() -> Any:
        raise RuntimeError("directory is down, password hunter2")

    guard = Guard(Recorder(mode=mode), **{hook: fails})

    @guard
    def tool() -> None:
        raise AssertionError

    @guard
    async def tool_async() -> None:
        raise AssertionError

    for handler in (tool, tool_async):
        caplog.clear()
        error = denied(handler)
        assert error.decision.reasons[0].code is ReasonCode.INTERNAL_ERROR
        assert "hunter2" not in str(error)
        assert "directory is down" in caplog.text
        assert error.__cause__ is None


@pytest.mark.parametrize(("hook", "value"), [("principal", "ann"), ("session", 7), ("context", 3)])
def test_a_hook_that_returns_the_wrong_thing_denies(hook, value):
    guard = Guard(Recorder(), **{hook: lambda: value})

    @guard
    def tool() -> None:
        raise AssertionError

    assert denied(tool).decision.reasons[0].code in {ReasonCode.INVALID_CALL, ReasonCode.INTERNAL_ERROR}


def test_an_engine_that_fails_denies(caplog):
    class Broken(Recorder):
        def authorize(self, call):
            raise RuntimeError("bug")

        async def authorize_async(self, call):
            raise RuntimeError("bug")

    guard = Guard(Broken())

    @guard
    def tool() -> None:
        raise AssertionError

    @guard
    async def tool_async() -> None:
        raise AssertionError

    with guard_block(guard) as block:
        errors = [denied(tool), denied(tool_async), denied(block.__enter__)]
    assert {error.decision.reasons[0].code for error in errors} == {ReasonCode.INTERNAL_ERROR}
    assert caplog.text.count("bug") >= 3


class guard_block:  # noqa: N801  # reads as a context manager
    def __init__(self, guard: Guard) -> None:
        self.guard = guard

    def __enter__(self):
        return self.guard.call("tool")

    def __exit__(self, *_: object) -> None: ...


# -- after the call


LIMIT = {"tool": {"rate_limit": {"max": 1, "window": 60, "refund_on_error": True}}}


def outcome(raises: BaseException | None) -> tuple[bool, bool]:
    """Run a guarded tool once, with limit 1 and refunds; tell whether a second call may run, sync and async."""
    return _twice(raises, _sync_tool), _twice(raises, _async_tool)


def _sync_tool(guard: Guard, failures: list[BaseException | None]):
    @guard
    def tool() -> None:
        if failures and (error := failures.pop()) is not None:
            raise error

    return tool


def _async_tool(guard: Guard, failures: list[BaseException | None]):
    @guard
    async def tool() -> None:
        if failures and (error := failures.pop()) is not None:
            raise error

    return functools.partial(drive, tool)


def _twice(raises: BaseException | None, make) -> bool:
    run = make(Guard(Recorder(LIMIT)), [raises])
    if raises is None:
        run()
    else:
        with pytest.raises(type(raises)):
            run()
    try:
        run()
    except PolicyDenied:
        return False
    return True


def drive(guarded) -> None:
    """Step a coroutine that never waits, so that any exception at all comes straight back."""
    coroutine = guarded()
    try:
        coroutine.send(None)
    except StopIteration:
        return


def test_a_call_that_succeeds_is_counted():
    assert outcome(None) == (False, False)


@pytest.mark.parametrize(
    "error", [ValueError("x"), OSError(), PermissionError(), ExceptionGroup("", [ValueError()])], ids=repr
)
def test_a_call_that_raises_gives_its_cost_back(error):
    assert outcome(error) == (True, True)


@pytest.mark.parametrize(
    "error", [asyncio.CancelledError(), KeyboardInterrupt(), GeneratorExit(), SystemExit(), TimeoutError()], ids=repr
)
def test_a_call_that_is_cancelled_or_out_of_time_keeps_its_cost(error):
    assert outcome(error) == (False, False)


def test_a_failure_caused_by_a_timeout_is_a_timeout():
    error = RuntimeError("upstream")
    error.__cause__ = TimeoutError()
    assert not has_failed(error)
    loop = RuntimeError()
    loop.__cause__ = other = RuntimeError()
    other.__cause__ = loop
    assert has_failed(loop)


def test_without_refunds_a_failing_loop_is_limited():
    engine = Recorder({"tool": {"rate_limit": {"max": 2, "window": 60}}})

    @Guard(engine)
    def tool() -> None:
        raise ValueError

    for _ in range(2):
        with pytest.raises(ValueError):  # noqa: PT011  # the tool's own
            tool()
    denied(tool)


def test_what_the_tool_raises_comes_out_as_it_is():
    error = LookupError("mine")

    @Guard(Recorder())
    def tool() -> None:
        raise error

    with pytest.raises(LookupError) as caught:
        tool()
    assert caught.value is error


# -- blocks


def test_a_block_gets_the_judged_copy():
    engine = Recorder({"put": {"deny_if": [{"path": "args.ids[*]", "op": "eq", "value": "root"}]}})
    guard = Guard(engine)
    given = {"ids": ["guest"]}
    with guard.call("put", given) as arguments:
        given["ids"][0] = "root"
        assert arguments == {"ids": ["guest"]}
        assert arguments is engine.judged

    async def block() -> dict[str, Any]:
        async with guard.call("put", {"ids": []}) as arguments:
            return arguments

    assert asyncio.run(block()) == {"ids": []}


def test_a_block_that_is_denied_is_not_entered():
    guard = Guard(Recorder({}))
    with pytest.raises(PolicyDenied), guard.call("rm", {"path": "/"}):
        raise AssertionError

    async def block() -> None:
        async with guard.call("rm"):
            raise AssertionError

    with pytest.raises(PolicyDenied):
        asyncio.run(block())


@pytest.mark.parametrize(
    ("error", "again"),
    [(None, False), (ValueError(), True), (TimeoutError(), False), (KeyboardInterrupt(), False)],
    ids=repr,
)
def test_a_block_that_fails_gives_its_cost_back(error, again):
    for kind in ("sync", "async"):
        guard = Guard(Recorder(LIMIT))

        def enter(guard=guard) -> None:
            with guard.call("tool"):
                if error:
                    raise error

        async def enter_async(guard=guard) -> None:
            async with guard.call("tool"):
                if error:
                    raise error

        run = enter if kind == "sync" else functools.partial(drive, enter_async)
        if error:
            with pytest.raises(type(error)):
                run()
        else:
            run()
        with guard.call("tool") if again else pytest.raises(PolicyDenied):
            if not again:
                guard.call("tool").__enter__()


def test_a_block_that_is_cancelled_keeps_its_cost():
    guard = Guard(Recorder(LIMIT))

    async def held() -> None:
        async with guard.call("tool"):
            await asyncio.sleep(60)

    async def cancel() -> None:
        task = asyncio.ensure_future(held())
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(cancel())
    denied(guard.call("tool").__enter__)


def test_a_block_is_entered_once():
    block = Guard(Recorder()).call("tool")
    with block:
        pass
    with pytest.raises(RuntimeError, match="once"), block:
        raise AssertionError


@pytest.mark.parametrize("arguments", [[1], "text", 7, [("a", 1)]], ids=repr)
def test_a_block_takes_a_mapping(arguments, caplog):
    caplog.set_level(logging.CRITICAL)
    denied(Guard(Recorder()).call("tool", arguments).__enter__)


def test_a_block_takes_any_mapping():
    class View(Mapping):
        def __getitem__(self, key: str) -> int:
            return {"a": 1}[key]

        def __iter__(self) -> Iterator[str]:
            return iter(["a"])

        def __len__(self) -> int:
            return 1

    engine = Recorder()
    with Guard(engine).call("tool", View()) as arguments:
        assert arguments == engine.judged == {"a": 1}


# -- where a guard may sit


def test_the_handler_keeps_its_looks():
    @Guard(Recorder())
    def tool(a: int, b: str = "x") -> list[int]:
        """Do it."""
        return [a]

    @Guard(Recorder())
    async def tool_async(a: int) -> int:
        return a

    assert (tool.__name__, tool.__doc__) == ("tool", "Do it.")
    assert str(inspect.signature(tool, eval_str=True)) == "(a: int, b: str = 'x') -> list[int]"
    assert not inspect.iscoroutinefunction(tool)
    assert inspect.iscoroutinefunction(tool_async)


def test_generators_are_refused():
    def rows():
        yield 1

    async def rows_async():
        yield 1

    for generator in (rows, rows_async):
        with pytest.raises(TypeError, match="generator"):
            Guard(Recorder())(generator)


@pytest.mark.parametrize(
    "thing",
    [7, object(), functools.partial(print), print, Desk, None, [], Desk()],
    ids=lambda thing: type(thing).__name__,
)
def test_only_functions_and_methods_are_taken(thing):
    with pytest.raises(TypeError, match=r"function|class"):
        Guard(Recorder())(thing)


def test_the_name_decorator_checks_too():
    with pytest.raises(TypeError):
        Guard(Recorder())("name")(print)


def test_a_marked_function_is_refused():
    def tool() -> None: ...

    tool.__fastmcp__ = object()

    @functools.wraps(tool)
    def around() -> None: ...

    for function in (tool, around):
        with pytest.raises(TypeError, match="registered"):
            Guard(Recorder())(function)


def test_threads_never_get_in_too_often():
    guard, ran = Guard(Recorder({"tool": {"rate_limit": {"max": 25, "window": 60}}})), []

    @guard
    def tool() -> None:
        ran.append(1)

    def hammer() -> None:
        for _ in range(20):
            try:
                tool()
            except PolicyDenied:
                continue

    threads = [threading.Thread(target=hammer) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(ran) == 25


def test_the_denial_is_an_exception_that_travels():
    import copy
    import pickle

    error = denied(Guard(Recorder({}))("rm")(lambda: None))
    assert copy.copy(error).decision == error.decision
    assert pickle.loads(pickle.dumps(error)).decision == error.decision
