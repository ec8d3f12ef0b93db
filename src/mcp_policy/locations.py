"""Places that an argument names: absolute paths and the hosts of URLs, each in the one form that is compared.

Rules kept here: a path is resolved by its text alone (symbolic links are the server's business); a text that two
programs could read differently names no place. So whatever is not plainly an absolute POSIX path or an http(s) URL is
refused, not repaired.
"""

from __future__ import annotations

import re
from typing import Final

_URL: Final = r"https?://(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9.-]+)(?::(\d{1,5}))?(?:[/?#].*)?"
_UNSAFE: Final = frozenset({"Cc", "Cf", "Cs", "Zs", "Zl", "Zp"})


def resolve_path(path: str) -> tuple[str, ...] | None:
    """Return the names of an absolute POSIX path with `.` and `..` resolved lexically, or None where it is none."""
    if not path.startswith("/") or "\0" in path:
        return None
    names: list[str] = []
    for name in path.split("/"):
        if name == "..":
            del names[-1:]
        elif name not in ("", "."):
            names.append(name)
    return tuple(names)


def url_host(url: str) -> str | None:
    """Return the host of a plain http(s) URL in lower case, or None where `url` is not one."""
    match = re.fullmatch(_URL, url, re.IGNORECASE | re.ASCII | re.DOTALL)
    if match is None or int(match[2] or 0) > 65_535 or "\\" in url or not _is_clean(url):
        return None
    return plain_host(match[1])


def _is_clean(url: str) -> bool:
    if url.isascii():
        return url.isprintable() and " " not in url
    from unicodedata import category

    return not any(category(character) in _UNSAFE for character in url)


MAX_HOST: Final = 255  # what a resolver takes, and the brackets of an address


def plain_host(host: str) -> str | None:
    """Return a host name or address in the one form that is compared, or None where it is none.

    A name that resolvers would read as a number (`2130706433`, `0x7f.1`, `127.1`) is none unless it is a plain dotted
    quad.
    """
    if len(host) > MAX_HOST:
        return None
    if host.startswith("["):
        return _address(host)
    labels = host.lower().split(".")
    if not all(re.fullmatch(r"[a-z0-9-]+", label, re.ASCII) for label in labels):
        return None
    if re.fullmatch(r"\d+|0x[0-9a-f]*", labels[-1], re.ASCII):
        quad = len(labels) == 4 and all(re.fullmatch(r"0|[1-9]\d{0,2}", label, re.ASCII) for label in labels)
        return host if quad and all(int(label) <= 255 for label in labels) else None
    return ".".join(labels)


def _address(host: str) -> str | None:
    from ipaddress import IPv6Address

    try:
        address = IPv6Address(host[1:-1] if host.endswith("]") else "")
    except ValueError:
        return None
    return str(address.ipv4_mapped or f"[{address}]")
