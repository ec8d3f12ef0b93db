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
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple, TypeAlias

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
    return Server(name, "any", url=url, headers=dict(headers), secrets=_secrets(headers))


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
        return Server(name, kind, url=url, headers=headers, secrets=_secrets(headers))
    env, cwd = settings.texts("env"), settings.text("cwd")
    place = str(folder / Path(cwd).expanduser()) if cwd else None
    return Server(name, "stdio", (command, *settings.list("args")), {**base, **env}, place, secrets=_secrets(env))


def _secrets(settings: Mapping[str, str]) -> frozenset[str]:
    """Return the values that look as if they could be secrets: paths and short words are not."""
    return frozenset(value for value in settings.values() if len(value) >= _SHORTEST_SECRET and value[0] not in "/.~")


class _Settings:
    """An entry whose values are read by type, with the variables filled in. Every method raises `ValueError`."""

    def __init__(self, entry: Mapping[str, Any], environ: Mapping[str, str]) -> None:
        self._entry = entry
        self.environ = environ

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
            return found

        for other in _OTHER.finditer(value):
            if not _VARIABLE.fullmatch(other[0]):
                raise ValueError(f"its `{key}` needs `{readable(other[0])}`, which only a client can fill in")
        return _VARIABLE.sub(variable, value)
