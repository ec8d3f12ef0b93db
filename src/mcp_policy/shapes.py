"""The shapes of a policy document: which keys stand where, and of what type their values are.

Every shape is closed (no other keys) and strict (nothing is coerced). The JSON Schema that editors use is made from
these shapes, so each key says what it means. What a shape cannot say (paths, regular expressions, keys that
exclude each other) is left to `validation`.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Annotated, Any, Final, Literal, NotRequired, Required, TypeAlias

from pydantic import ConfigDict, Discriminator, Field, Tag, TypeAdapter, with_config
from typing_extensions import TypedDict  # pydantic asks for this one before Python 3.12

from .paths import CLOSED_ROOTS, OPEN_ROOTS

Category: TypeAlias = Literal["read", "write", "execute", "destructive", "financial"]
Dimension: TypeAlias = Literal["session", "principal", "grant", "agent", "tool", "server", "global"]
Op: TypeAlias = Literal[
    "eq", "neq", "in", "not_in", "intersects", "lt", "lte", "gt", "gte", "contains", "not_contains", "starts_with",
    "ends_with", "regex", "not_regex", "glob", "exists", "length_lte", "length_gte", "keys_in", "within", "host_in",
]  # fmt: skip

# Patterns for editors, in the syntax that Python and JavaScript share. They take all that loads, and a little more.
_SPAN: Final = "(second|minute|hour|day|(?=0*[1-9])[0-9]{1,11}[smhd])"
WINDOW_TEXT: Final = f"^{_SPAN}$"
SHORTHAND_TEXT: Final = f"^[0-9]{{1,10}}/{_SPAN}$"


def _path_text(*, star: bool) -> str:
    bare, key = r"[^\s.\[\]\x22'*\\]+", r'"([^"\\\x00-\x1f]|\\["\\/bfnrt]|\\u[0-9a-fA-F]{4})*"'
    inside = "|".join(("0", "[1-9][0-9]{0,17}", key, *([r"\*"] if star else [])))
    closed, free = ("|".join(roots).replace(".", r"\.") for roots in (CLOSED_ROOTS, OPEN_ROOTS))
    return rf"^(({closed})|({free})(\.{bare}|\[({inside})\])*)$"


PATH_TEXT: Final = _path_text(star=True)
PATH_TEXT_WITHOUT_STAR: Final = _path_text(star=False)

# What the value of each operator is, for editors; `operators` decides.
_STRINGS: Final = {"type": "array", "items": {"type": "string"}}
_VALUES: Final[dict[tuple[Op, ...], dict[str, Any]]] = {
    ("lt", "lte", "gt", "gte"): {"type": "number"},
    ("in", "not_in"): {"type": "array", "items": {"not": {"type": "null"}}},
    ("intersects",): {"type": "array"},
    ("starts_with", "ends_with", "regex", "not_regex"): {"type": "string"},
    ("glob",): {"anyOf": [{"type": "string"}, _STRINGS]},
    ("exists",): {"type": "boolean"},
    ("length_lte", "length_gte"): {"type": "integer", "minimum": 0},
    ("keys_in",): _STRINGS,
    ("within",): {
        "anyOf": [{"type": "string", "pattern": "^/"}, {"type": "array", "items": {"type": "string", "pattern": "^/"}}]
    },
    ("host_in",): {"type": "array", "items": {"type": "string", "minLength": 1}},
}


def _by_operator() -> list[dict[str, Any]]:
    """Return what a condition's `value` has to be by its operator, and which operators take no `value_from`."""
    fixed = {"op": {"enum": ["regex", "not_regex", "glob", "exists"]}}
    return [
        *(
            {"if": {"properties": {"op": {"enum": list(ops)}}}, "then": {"properties": {"value": value}}}
            for ops, value in _VALUES.items()
        ),
        {"if": {"properties": fixed}, "then": {"not": {"required": ["value_from"]}}},
    ]


_CONFIG = ConfigDict(strict=True, extra="forbid")


def _closed(shape: Any, **schema: Any) -> None:
    """Close a shape: no other keys, nothing coerced. `schema` is added to its JSON Schema."""
    with_config(ConfigDict(**_CONFIG, json_schema_extra=schema or None))(shape)


def _exclusive(*pairs: tuple[str, str]) -> dict[str, Any]:
    return {"allOf": [{"not": {"required": list(pair)}} for pair in pairs]}


def _guards() -> list[dict[str, Any]]:
    """Return which paths `when` takes: none with `[*]`, and none to the arguments where the action is `hide`."""
    hides = {"properties": {"action": {"const": "hide"}}, "required": ["action"]}
    not_args = {"pattern": "^(?!args)"}
    return [
        _each_guard(path={"pattern": PATH_TEXT_WITHOUT_STAR}),
        {"if": hides, "then": _each_guard(path=not_args, value_from=not_args)},
    ]


def _each_guard(**keys: dict[str, Any]) -> dict[str, Any]:
    return {"properties": {"when": {"items": {"properties": keys}}}}


def _by_type(**tags: tuple[type, ...]) -> Discriminator:
    """Tell the members of a union apart by the exact type of the value, so that a boolean is no number."""
    names = {kind: name for name, kinds in tags.items() for kind in kinds}
    return Discriminator(
        lambda value: names.get(type(value)), custom_error_type="union_type", custom_error_message=" or ".join(tags)
    )


Text: TypeAlias = Annotated[str, Field(min_length=1)]
Reason: TypeAlias = Annotated[Text, Field(description="Said to the agent when this stops the call. Literal text.")]
OnDeny: TypeAlias = Annotated[Text, Field(description="Another name for `reason`.")]
Pattern: TypeAlias = Annotated[
    str,
    Field(
        description="A tool name; `*` stands for any run of characters, `?` for one. Case-sensitive, whole name.",
        json_schema_extra={"minLength": 1, "maxLength": 256},
    ),
]
PathText: TypeAlias = Annotated[
    str,
    Field(
        description='Where the value is found, such as `args.amount`, `args["odd key"]`, `args.ids[*]`, '
        "`context.time.hour`, `principal.roles`, `tool.category`.",
        json_schema_extra={"pattern": PATH_TEXT},
    ),
]


_OP_SAYS: Final = (
    "How the found value is compared; `value` is a JSON value, unless another type is said here. "
    "`eq`, `neq`: equals, differs. `in`, `not_in` (list): equals a member, none. `intersects` (list): shares a member. "
    "`lt`, `lte`, `gt`, `gte` (number): is less, at most, more, at least. `contains`, `not_contains`: a string holds "
    "the text, a list the member. `starts_with`, `ends_with` (string). `regex`, `not_regex` (pattern): found anywhere "
    "in a string. `glob` (string or list): the whole string matches `*` and `?`. `exists` (boolean): is given and not "
    "null. `length_lte`, `length_gte` (integer): number of elements. `keys_in` (list): an object has only these keys. "
    "`within` (string or list): an absolute path below one of these directories. `host_in` (list): a URL whose host is "
    "one of these, or below one written `*.example.com`."
)


class Condition(TypedDict):
    """One comparison of a value of the call."""

    path: PathText
    op: Annotated[Op, Field(description=_OP_SAYS)]
    value: NotRequired[
        Annotated[
            Any,
            Field(
                description="What the found value is compared with: of the type that the operator takes, never null.",
                json_schema_extra={"not": {"type": "null"}},
            ),
        ]
    ]
    value_from: NotRequired[
        Annotated[
            str,
            Field(
                description="The path of the value to compare with, instead of `value`; no `[*]`.",
                json_schema_extra={"pattern": PATH_TEXT_WITHOUT_STAR},
            ),
        ]
    ]
    reason: NotRequired[Reason]
    on_deny: NotRequired[OnDeny]


class Clause(TypedDict):
    """Conditions that are taken together. An empty list always holds."""

    conditions: Annotated[list[Condition], Field(description="All must hold; read in order.")]
    reason: NotRequired[Reason]
    on_deny: NotRequired[OnDeny]


def _item_tag(value: Any) -> str | None:
    if type(value) is dict:
        return "clause" if "conditions" in value else "condition"
    return None


Item: TypeAlias = Annotated[
    Annotated[Condition, Tag("condition")] | Annotated[Clause, Tag("clause")],
    Discriminator(_item_tag, custom_error_type="union_type", custom_error_message="object"),
]


class Length(TypedDict):
    """A cost that is the number of elements."""

    length: Annotated[
        str,
        Field(
            description="The path of the string, list or object whose elements count.",
            json_schema_extra={"pattern": PATH_TEXT_WITHOUT_STAR},
        ),
    ]


Window: TypeAlias = Annotated[
    Annotated[float, Field(gt=0, le=1e10), Tag("number")]
    | Annotated[str, Field(json_schema_extra={"pattern": WINDOW_TEXT}), Tag("string")],
    _by_type(number=(int, float), string=(str,)),
]
Per: TypeAlias = Annotated[
    Annotated[Dimension, Tag("string")] | Annotated[list[Dimension], Field(min_length=1), Tag("list")],
    _by_type(string=(str,), list=(list,)),
]
Cost: TypeAlias = Annotated[
    Annotated[float, Field(ge=0), Tag("number")]
    | Annotated[str, Field(json_schema_extra={"pattern": PATH_TEXT_WITHOUT_STAR}), Tag("string")]
    | Annotated[Length, Tag("object")],
    _by_type(number=(int, float), string=(str,), object=(dict,)),
]


class Limit(TypedDict):
    """At most so much within any window of time."""

    max: Annotated[float, Field(ge=0, le=9_000_000_000, description="Most that may count; 0 blocks every call.")]
    window: Annotated[
        Window, Field(description="Seconds, `second`, `minute`, `hour`, `day`, or digits with `s`, `m`, `h` or `d`.")
    ]
    per: NotRequired[Annotated[Per, Field(description="What is counted apart; `session` when absent.")]]
    scope: NotRequired[Annotated[Per, Field(description="Another name for `per`.")]]
    counter: NotRequired[
        Annotated[Text, Field(description="Limits that name one counter share its count, over the whole document.")]
    ]
    cost: NotRequired[
        Annotated[
            Cost,
            Field(description='What one call counts: a number, a path, or `{"length": path}`; 1 when absent.'),
        ]
    ]
    reason: NotRequired[Reason]
    on_deny: NotRequired[OnDeny]
    refund_on_error: NotRequired[
        Annotated[bool, Field(description="Give back what a call took that failed; false when absent.")]
    ]
    on_unavailable: NotRequired[
        Annotated[
            Literal["deny", "allow"],
            Field(description="What happens when the count cannot be kept; `deny` when absent."),
        ]
    ]


RateLimit: TypeAlias = Annotated[
    Annotated[Limit, Tag("object")]
    | Annotated[str, Field(json_schema_extra={"pattern": SHORTHAND_TEXT}), Tag("string")],
    _by_type(object=(dict,), string=(str,)),
]


class Approval(TypedDict):
    """How an approval is asked for."""

    ttl: NotRequired[Annotated[float, Field(gt=0, description="Seconds until an approval expires; 900 when absent.")]]


Rule = TypedDict(
    "Rule",
    {
        "action": Annotated[
            Literal["allow", "deny", "approve", "hide"],
            Field(description="What happens to a call that the rule applies to; `allow` when absent."),
        ],
        "reason": Reason,
        "on_deny": OnDeny,
        "except": Annotated[list[Pattern], Field(description="Tools that the rule does not apply to.")],
        "when": Annotated[list[Condition], Field(description="The rule applies only if all of these hold; no `[*]`.")],
        "require": Annotated[list[Item], Field(description="Each must hold, or the call is denied.")],
        "deny_if": Annotated[list[Item], Field(description="If any holds, the call is denied.")],
        "approve_if": Annotated[list[Item], Field(description="If any holds, the call needs an approval.")],
        "rate_limit": Annotated[RateLimit, Field(description="One limit, or a short form such as `10/minute`.")],
        "limits": Annotated[list[Limit], Field(description="Limits; all are counted.")],
        "approval": Annotated[Approval, Field(description="How approvals of this rule are asked for.")],
        "mode": Annotated[Literal["shadow"], Field(description="The rule is decided and recorded, never enforced.")],
    },
    total=False,
)

Entry: TypeAlias = Annotated[
    Annotated[Rule, Tag("object")] | Annotated[list[Rule], Field(min_length=1), Tag("list")],
    _by_type(object=(dict,), list=(list,)),
]
Default: TypeAlias = Annotated[
    Literal["deny", "allow"], Field(description="What happens to tools that nothing lists; `deny` when absent.")
]
Hide: TypeAlias = Annotated[list[Pattern], Field(description="Tools that are answered as if they did not exist.")]
AllTools: TypeAlias = Annotated[Rule, Field(description="Applies to every call; lists no tool.")]
Categories: TypeAlias = Annotated[
    dict[Category, Rule], Field(description="Rules for every tool of a risk category, which they list.")
]
Tools: TypeAlias = Annotated[
    dict[str, Entry],
    Field(
        description="Rules, or lists of rules, for the tools that a pattern matches, which they list.",
        json_schema_extra={"propertyNames": {"minLength": 1, "maxLength": 256}},
    ),
]


class Server(TypedDict, total=False):
    """What applies to the calls of one server, added to the top level."""

    default: Annotated[
        Literal["deny", "allow"],
        Field(description="What happens to tools that nothing lists; the section then stands alone for listing."),
    ]
    hide: Hide
    all_tools: AllTools
    categories: Categories
    tools: Tools


Document = TypedDict(
    "Document",
    {
        "$schema": NotRequired[Annotated[str, Field(description="For editors; ignored.")]],
        "version": Required[Annotated[Literal["1"], Field(description="The version of this format.")]],
        "name": Annotated[Text, Field(description="A name, for people and logs.")],
        "description": Annotated[str, Field(description="What this policy is for, for people.")],
        "default": Default,
        "mode": Annotated[
            Literal["enforce", "shadow"],
            Field(description="`shadow` decides and records, and blocks nothing; `enforce` when absent."),
        ],
        "hide": Hide,
        "all_tools": AllTools,
        "categories": Categories,
        "tools": Tools,
        "servers": Annotated[
            dict[str, Server],
            Field(
                description="Sections by the name of a server.",
                json_schema_extra={"propertyNames": {"minLength": 1}},
            ),
        ],
    },
    total=False,
)

_REASONS = ("reason", "on_deny")
_closed(
    Condition,
    oneOf=[{"required": ["value"]}, {"required": ["value_from"]}],
    allOf=[*_exclusive(_REASONS)["allOf"], *_by_operator()],
)
_closed(Clause, **_exclusive(_REASONS))
_closed(Length)
_closed(Limit, **_exclusive(_REASONS, ("per", "scope")))
_closed(Approval)
_closed(
    Rule,
    description="What applies to the tools that its key names. An empty rule allows.",
    allOf=[*_exclusive(_REASONS)["allOf"], *_guards()],
)
_closed(Server)
_closed(Document, description="Which tools may be called, how, and how often.")


@lru_cache(maxsize=1)
def adapter() -> TypeAdapter[Any]:
    """Return the validator of whole documents. It is built on first use: an import stays cheap."""
    return TypeAdapter(Document)


def json_schema() -> dict[str, Any]:
    """Return the JSON Schema of policy documents (draft 2020-12)."""
    schema = adapter().json_schema()
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema, "title": "MCP policy"}
