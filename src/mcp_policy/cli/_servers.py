"""The servers that a scan is to look at: from an `mcp.json`, from the command line.

Rules kept here:

- Reads the file that MCP clients read (`mcpServers`; `servers` in that of VS Code), without starting anything.
- What is wrong with one server is that server's `problem`; the others are read all the same. What is wrong with the
  file as a whole raises `ValueError`.
- `${VAR}`, `${env:VAR}` and `${VAR:-default}` stand for variables of the environment. One that is not set, or that only
  a client can fill in, is a problem: a server that starts without its settings is not the one that was meant.
- A server gets the variables that MCP clients hand on, and those that its entry names: not the whole environment.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple, TypeAlias
from urllib.parse import unquote, urlsplit

from ..errors import readable

Kind: TypeAlias = Literal["stdio", "http", "sse", "any"]

_KINDS: Final[dict[str, Kind]] = {
    "stdio": "stdio",
    "sse": "sse",
    "http": "http",
    "streamable-http": "http",
    "streamableHttp": "http",
    "streamable_http": "http",
}
_HANDED_ON: Final = (
    *("HOME", "LOGNAME", "PATH", "SHELL", "TERM", "USER", "LANG", "LC_ALL", "TMPDIR"),
    *(
        "APPDATA",
        "COMSPEC",
        "HOMEDRIVE",
        "HOMEPATH",
        "LOCALAPPDATA",
        "PATHEXT",
        "PROCESSOR_ARCHITECTURE",
        "PROGRAMDATA",
    ),
    *("SYSTEMDRIVE", "SYSTEMROOT", "TEMP", "TMP", "USERNAME", "USERPROFILE"),
)
_VARIABLE: Final = re.compile(r"\$\{(?:env:)?([A-Za-z_]\w*)(?::-([^}]*))?\}")
_OTHER: Final = re.compile(r"\$\{[^}]*\}")
_SECRETIVE: Final = re.compile("key|token|secret|passw|credential|auth", re.IGNORECASE)
_SHORTEST_SECRET: Final = 6
_PATHS: Final = ("/", ".", "~")
_BETWEEN: Final = re.compile(r"[\s,;:=\"'@]+")  # parts of a header's value, or of a connection string
_SCHEMES: Final = ("bearer", "digest", "negotiate")  # of a header; no secrets


class Server(NamedTuple):
    """One server to look at. `problem` says why it cannot be, `note` why it need not be; no message holds `secrets`."""

    name: str
    kind: Kind = "stdio"
    command: tuple[str, ...] = ()
    env: Mapping[str, str] = {}
    cwd: str | None = None
    url: str = ""
    headers: Mapping[str, str] = {}
    secrets: frozenset[str] = frozenset()
    problem: str | None = None
    note: str | None = None


def from_command(name: str, command: Sequence[str], environ: Mapping[str, str]) -> Server:
    """Return the server that a command starts: as typed at a shell, so with the whole environment."""
    likely = {variable: value for variable, value in environ.items() if _SECRETIVE.search(variable)}
    return Server(name, "stdio", tuple(command), dict(environ), secrets=_secrets(likely))


def from_url(name: str, url: str, headers: Mapping[str, str]) -> Server:
    """Return the server at an address."""
    return Server(name, "any", url=url, headers=dict(headers), secrets=_parts(headers.values()) | _secrets_of(url))


def handed_on(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the variables that every server may see."""
    return {name: environ[name] for name in _HANDED_ON if name in environ and not environ[name].startswith("()")}


def from_config(
    tree: object, environ: Mapping[str, str], folder: Path, more: Mapping[str, str] | None = None
) -> tuple[Server, ...]:
    """Return the servers of an `mcp.json`'s content, in its order. Raises `ValueError` where it has none.

    A relative `cwd` counts from `folder`; `more` are variables that all of them get.
    """
    if not isinstance(tree, dict):
        raise ValueError("an MCP configuration is an object with `mcpServers`")
    entries = next((tree[key] for key in ("mcpServers", "servers") if key in tree), None)
    if entries is None and isinstance(tree.get("mcp"), dict):  # the settings file of VS Code
        entries = tree["mcp"].get("servers")
    if not isinstance(entries, dict):
        raise ValueError("found neither `mcpServers` nor `servers`, an object with one entry for each server")
    if not entries:
        raise ValueError("no server is configured")
    base = handed_on(environ) | dict(more or {})
    return tuple(_server(name, entry, environ, base, folder) for name, entry in entries.items())


def _server(name: str, entry: object, environ: Mapping[str, str], base: Mapping[str, str], folder: Path) -> Server:
    if not isinstance(entry, dict):
        return Server(name, problem="its entry is not an object")
    if entry.get("disabled") is True or entry.get("enabled") is False:
        return Server(name, note="disabled in the configuration")
    try:
        return _read(name, _Settings(entry, environ), base, folder)
    except ValueError as error:
        return Server(name, problem=str(error))


def _read(name: str, settings: _Settings, base: Mapping[str, str], folder: Path) -> Server:
    stated = settings.text("type") or settings.text("transport")
    if stated and stated not in _KINDS:
        raise ValueError(f"its `type` is `{readable(stated)}`; `stdio`, `http` and `sse` are known")
    command, url = settings.text("command"), settings.text("url") or settings.text("serverUrl")
    if bool(command) == bool(url):
        raise ValueError("its entry needs either a `command` or a `url`" + (", not both" if command else ""))
    if url:
        kind = _KINDS.get(stated, "any")
        if kind == "stdio":
            raise ValueError('its `type` is "stdio", and it has a `url`')
        headers = settings.texts("headers")
        secrets = _parts(headers.values()) | _secrets(settings.filled) | _secrets_of(url)
        return Server(name, kind, url=url, headers=headers, secrets=secrets)
    env, cwd = settings.texts("env"), settings.text("cwd")
    place = str(folder / Path(cwd).expanduser()) if cwd else None
    args = tuple(settings.list("args"))
    more = {variable: value for variable, value in base.items() if variable not in _HANDED_ON}
    secrets = _secrets(more) | _secrets(env) | _secrets(settings.filled)
    return Server(name, "stdio", (command, *args), {**base, **env}, place, secrets=secrets)


def _secrets(settings: Mapping[str, str]) -> frozenset[str]:
    """Return the variables' values that could be secrets, and their parts; a path is none unless its name says so."""
    return _parts(value for name, value in settings.items() if not value.startswith(_PATHS) or _SECRETIVE.search(name))


def _parts(values: Iterable[str]) -> frozenset[str]:
    """Return secrets with their parts, but for short words: `***` for each of those would leave nothing to read."""
    return frozenset(
        part
        for value in values
        for part in (value, value.strip(), *value.split(), *_BETWEEN.split(value))
        if len(part) >= _SHORTEST_SECRET and part.lower() not in _SCHEMES
    )


def _secrets_of(url: str) -> frozenset[str]:
    """Return what an address gives away of secrets: who asks, and the values of its query."""
    try:
        parts = urlsplit(url)
    except ValueError:  # the client will say so
        return frozenset()
    given = (parts.username, parts.password, *(pair.partition("=")[2] for pair in parts.query.split("&")))
    values = {form for value in given if value for form in (value, unquote(value))}
    return frozenset(value for value in values if len(value) >= _SHORTEST_SECRET)


class _Settings:
    """An entry whose values are read by type, with the variables filled in. Every method raises `ValueError`.

    `filled` has the variables that were, for what was read so far.
    """

    def __init__(self, entry: Mapping[str, Any], environ: Mapping[str, str]) -> None:
        self._entry = entry
        self.environ = environ
        self.filled: dict[str, str] = {}

    def text(self, key: str) -> str:
        value = self._entry.get(key)
        if value is None:
            return ""
        if not isinstance(value, str):
            raise ValueError(f"its `{key}` is not a string")
        return self._filled(key, value)

    def list(self, key: str) -> Iterator[str]:
        values = self._entry.get(key) or []
        if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
            raise ValueError(f"its `{key}` is not a list of strings")
        return (self._filled(key, value) for value in values)

    def texts(self, key: str) -> dict[str, str]:
        values = self._entry.get(key) or {}
        if not isinstance(values, dict) or not all(isinstance(value, str | int | float) for value in values.values()):
            raise ValueError(f"its `{key}` is not an object of strings")
        return {name: self._filled(f"{key}.{name}", str(value)) for name, value in values.items()}

    def _filled(self, key: str, value: str) -> str:
        def variable(match: re.Match[str]) -> str:
            found = self.environ.get(match[1]) or match[2]
            if found is None:
                raise ValueError(f"its `{key}` needs the variable `{match[1]}`, which is not set")
            self.filled[match[1]] = found
            return found

        for other in _OTHER.finditer(value):
            if not _VARIABLE.fullmatch(other[0]):
                raise ValueError(f"its `{key}` needs `{readable(other[0])}`, which only a client can fill in")
        return _VARIABLE.sub(variable, value)
