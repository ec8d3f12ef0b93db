"""What in a tool's name and parameters an attack can take hold of, whatever the tool's category.

Rules kept here:

- A signal is read off names, formats and hints alone, so a catalogue entry, which has no description, shows the same
  ones as the definition it was made from.
- A signal says that something can be aimed, never that it is safe: no signal, no promise.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final, Literal, NamedTuple, TypeAlias

from .definition import Definition, parameters
from .verbs import split_name

Kind: TypeAlias = Literal[
    "actions", "amount", "command", "force", "foreign text", "open world", "path", "query", "recipient", "secret", "url"
]


class Signal(NamedTuple):
    """One thing that an attack can take hold of, and the parameter that shows it (empty: the tool's name or hints)."""

    kind: Kind
    parameter: str


def name_words(name: str) -> tuple[str, ...]:
    """Return the words of a name in lower case: `getTaskInfo`, `get-task_info` and `tasks.get-info` have three each."""
    return tuple(word.lower() for word in split_name(name))


def signals(name: str, definition: Definition | None = None) -> tuple[Signal, ...]:
    """Return the signals of a tool in the order of its parameters, the tool's own after them."""
    return tuple(_found(name, definition))


# The last word of a parameter's name says what it is: `output_file` is a path, `file_count` is none.
_HEADS: Final[dict[str, Kind]] = {
    **dict.fromkeys(("url", "urls", "uri", "uris", "href", "link", "endpoint", "webhook", "host", "domain"), "url"),
    **dict.fromkeys(("path", "paths", "file", "files", "filename", "filepath", "dir", "directory", "folder"), "path"),
    **dict.fromkeys(("command", "commands", "cmd", "script", "javascript", "shell"), "command"),
    **dict.fromkeys(("sql", "cypher", "jql", "cql", "promql", "statement", "statements"), "query"),
    **dict.fromkeys(("password", "passphrase", "secret", "secrets", "credential", "credentials", "token"), "secret"),
    **dict.fromkeys(("recipient", "recipients", "email", "emails", "cc", "bcc", "channel", "phone"), "recipient"),
    **dict.fromkeys(("amount", "cents"), "amount"),
}
# Words that mean something only where they are the whole name.
_WHOLE: Final[dict[str, Kind]] = {
    **dict.fromkeys(("code", "expression", "function", "program", "args"), "command"),
    **dict.fromkeys(("to", "to_email", "channel_id", "chat_id", "user_email"), "recipient"),
    **dict.fromkeys(("file_name", "cwd", "working_dir"), "path"),
    **dict.fromkeys(("api_key", "private_key", "access_key", "secret_key", "auth", "authorization"), "secret"),
    **dict.fromkeys(("force", "confirm", "confirmed", "recursive", "overwrite", "skip_confirmation", "sudo"), "force"),
}
_NO_SECRET: Final = frozenset({"page", "next", "continuation", "cursor", "max", "sync", "start", "previous"})
_ASKS: Final = frozenset({"query", "sql", "database", "db", "table"})
_CHOICES: Final = frozenset({"action", "operation", "method", "command", "op"})
# What other people write: a tool that reads it brings their words before the model.
_FOREIGN: Final = frozenset(
    {"web", "webpage", "website", "page", "html", "browser", "crawl", "scrape", "fetch", "rss", "news", "internet"}
    | {"email", "emails", "mail", "inbox", "message", "messages", "thread", "chat", "conversation", "transcript"}
    | {
        "issue",
        "issues",
        "comment",
        "comments",
        "discussion",
        "review",
        "reviews",
        "ticket",
        "tickets",
        "post",
        "posts",
    }
    | {"tweet", "tweets", "wiki", "article", "articles", "readme"}
)


def _found(name: str, definition: Definition | None) -> Iterator[Signal]:
    words = set(name_words(name))
    if definition is not None:
        for parameter, schema in parameters(definition):
            yield from (Signal(kind, parameter) for kind in _of_parameter(parameter, schema, words))
        if definition.annotations.get("openWorldHint") is True:
            yield Signal("open world", "")
    if words & _FOREIGN:
        yield Signal("foreign text", "")


def _of_parameter(parameter: str, schema: dict[str, Any], tool_words: set[str]) -> Iterator[Kind]:
    words = name_words(parameter)
    head = words[-1] if words else ""
    kind = _WHOLE.get("_".join(words)) or _HEADS.get(head)
    if head in _CHOICES and isinstance(schema.get("enum"), list):
        yield "actions"  # one of a few known words is a choice, not a command line
    elif schema.get("format") in {"uri", "url", "uri-reference", "iri"}:
        yield "url"
    elif head == "query" and tool_words & _ASKS:
        yield "query"
    elif head == "price" and schema.get("type") in {"number", "integer"}:
        yield "amount"  # a text would be the id of a price
    elif head == "token" and set(words) & _NO_SECRET:
        return
    elif kind is not None:
        yield kind
