"""Where a guard may sit, and what its refusal has to be for the server around it.

A guard that nobody would ever call is a mistake that must not stay silent. `@guard` belongs directly above the
function, and `@mcp.tool` above `@guard`. The other way round the server keeps the unguarded function, whether its
decorator returns a tool object or the function itself.

Servers keep from the agent what a tool raises, unless it is their own `ToolError`. They are known here by the names of
their modules: none is imported, and where none is loaded none matters.
"""

from __future__ import annotations

import gc
import inspect
import sys
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from .engine import PolicyEngine

_SWAP: Final = "put the guard below: `@mcp.tool` first, `@guard` under it, then the function"
_TOOL_ERRORS: Final = ("fastmcp.exceptions", "mcp.server.mcpserver.exceptions", "mcp.server.fastmcp.exceptions")
_RECEIVERS: Final = ("self", "cls")
_POSITIONAL: Final = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


def check_handler(handler: Any) -> None:
    """Raise `TypeError` unless a guard around `handler` would be called in its stead, and would see it run."""
    function = handler.__func__ if isinstance(handler, staticmethod | classmethod) else handler
    name = getattr(function, "__name__", type(function).__name__)
    if isinstance(function, type):
        raise TypeError(f"`{name}` is a class; guard its methods one by one")
    if not (inspect.isfunction(function) or inspect.ismethod(function)):
        kind = type(function).__name__
        raise TypeError(f"a guard takes a function or a method, not a `{kind}`; if that is a tool already, {_SWAP}")
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        raise TypeError(f"`{name}` is a generator: it would be judged when called but run later; return a list instead")
    if is_registered(function):
        raise TypeError(f"`{name}` is registered as a tool already, and the server would call it unguarded; {_SWAP}")


def has_receiver(handler: Any) -> bool:
    """Return whether the function stands in a class and takes `self` or `cls`, which is no argument of the tool."""
    if not inspect.isfunction(handler):
        return False
    around, _, _ = handler.__qualname__.rpartition(".")
    if not around or around.endswith("<locals>"):
        return False
    first = next(iter(inspect.signature(handler).parameters.values()), None)
    return first is not None and first.kind in _POSITIONAL and first.name in _RECEIVERS


def is_registered(function: Any) -> bool:
    """Return whether a server holds this very function as a tool.

    fastmcp leaves a mark on the function; the MCP SDK does not, so there the tools are looked for among those who refer
    to it.
    """
    held = {id(one): one for one in (function, getattr(function, "__func__", function), inspect.unwrap(function))}
    if any(hasattr(one, "__fastmcp__") for one in held.values()):
        return True
    if not any(name in sys.modules for name in ("mcp.server.mcpserver", "mcp.server.fastmcp")):
        return False
    return any(_is_tool(referrer, held) for referrer in gc.get_referrers(*held.values()))


def _is_tool(referrer: Any, held: dict[int, Any]) -> bool:
    fields = referrer if type(referrer) is dict else vars(referrer) if type(referrer).__name__ == "Tool" else {}
    return id(fields.get("fn")) in held and "fn_metadata" in fields and "parameters" in fields


def tool_errors() -> tuple[type[Exception], ...]:
    """Return what the servers that are loaded pass on to the agent when a tool raises it."""
    loaded = (getattr(sys.modules.get(name), "ToolError", None) for name in _TOOL_ERRORS)
    return tuple(error for error in loaded if isinstance(error, type) and issubclass(error, Exception))


def check_engine(engine: PolicyEngine) -> PolicyEngine:
    """Return `engine` if it is one. Raises `TypeError`: a guard without an engine would deny every call, one by one."""
    if not callable(getattr(engine, "authorize", None)):
        raise TypeError(f"a guard needs a `PolicyEngine`, not {type(engine).__name__}; pass `PolicyEngine(policy)`")
    return engine
