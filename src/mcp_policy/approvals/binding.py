"""What an approval is bound to: one exact call, by digest.

The digest is SHA-256 over the canonical JSON of the policy's digest, server, tool, arguments, caller, and the `context`
values that the applying rules read. What has no canonical JSON cannot be bound, and so cannot be approved.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any, NamedTuple

from ..call import ToolCall
from ..conditions import read_context
from ..paths import Path
from ..values import canonical, plain


class Binding(NamedTuple):
    """A call as it is put to a person."""

    digest: str
    owner: str
    """Whose pending approvals are counted together."""
    arguments: Any
    principal: Mapping[str, str | None] | None


def bind(policy_digest: str, call: ToolCall, reads: dict[str, Path]) -> Binding:
    """Bind a call. Raises `NotJson`, its message saying what cannot be bound."""
    arguments, caller = plain(call.arguments), _caller(call)
    bound = [policy_digest, call.server or None, call.tool, arguments, caller, read_context(reads, call)]
    digest = hashlib.sha256(canonical(bound).encode()).hexdigest()
    who = call.principal
    principal = None if who is None else {"id": who.id, "issuer": who.issuer, "client": who.client}
    return Binding(digest, canonical(caller), arguments, principal)


def _caller(call: ToolCall) -> list[str | None] | None:
    if call.principal is not None and call.principal.id:
        return ["principal", call.principal.issuer or None, call.principal.id]
    return ["session", call.session] if call.session else None
