"""How the client of a call is asked, in both protocol eras; knows no SDK, only the names that all of them share.

- Handshake era: the question goes to the client while its call waits, tied to that call.
- From 2026-07-28 on nothing goes to a client unasked: the call ends with the question, and comes again with the answer.
- A client is asked only for what it said that it can.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from .approvers import Client, NotYet, Reply, Unable, reply_to_form, reply_to_page

ROUNDS: Final = "2026-07-28"
"""The protocol version from which on a client answers with its next request. Versions are dates and sort as text."""


def client_of(session: Any, request_id: Any, version: str | None, responses: Mapping[str, Any] | None) -> Client:
    """Return the client at the other end of an SDK's session.

    `version` is the protocol's, None where the stack knows one era only; `responses` are what came with this request.
    """
    if version is not None and version >= ROUNDS:
        return RoundsClient(getattr(session, "client_capabilities", None), responses or {})
    return SessionClient(session, request_id)


class SessionClient:
    """A client that answers while its call waits."""

    def __init__(self, session: Any, request_id: Any) -> None:
        self._session = session
        self._request_id = request_id

    async def form(self, key: str, message: str, schema: Mapping[str, Any]) -> Reply:  # noqa: ARG002  # one at a time
        """Show a form."""
        if not takes_forms(self._capabilities()):
            raise Unable("the client cannot show a form (it declares no `elicitation`)")
        answer = await self._sent("elicit_form", message, dict(schema))
        return reply_to_form(answer.action, answer.content)

    async def page(self, key: str, message: str, url: str) -> Reply:
        """Offer to open a page."""
        if not takes_pages(self._capabilities()) or not hasattr(self._session, "elicit_url"):
            raise Unable("the client cannot open a page (it declares no `elicitation.url`)")
        answer = await self._sent("elicit_url", message, url, key)
        return reply_to_page(answer.action)

    def _capabilities(self) -> Any:
        return getattr(getattr(self._session, "client_params", None), "capabilities", None)

    async def _sent(self, method: str, *question: Any) -> Any:
        if getattr(self._session, "can_send_request", True) is not True:
            raise Unable("the connection has no way to ask the client anything")
        try:
            return await getattr(self._session, method)(*question, related_request_id=self._request_id)
        except Exception as error:
            raise Unable(f"the client gave no proper answer ({type(error).__name__})") from error


class RoundsClient:
    """A client that answers with its next request."""

    def __init__(self, capabilities: Any, responses: Mapping[str, Any]) -> None:
        self._capabilities = capabilities
        self._responses = responses

    async def form(self, key: str, message: str, schema: Mapping[str, Any]) -> Reply:
        """Show a form."""
        answer = self._responses.get(key)
        if answer is not None:
            return reply_to_form(_field(answer, "action"), _field(answer, "content"))
        if not takes_forms(self._capabilities):
            raise Unable("the client cannot show a form (it declares no `elicitation`)")
        raise NotYet(key, message, schema=schema)

    async def page(self, key: str, message: str, url: str) -> Reply:
        """Offer to open a page."""
        answer = self._responses.get(key)
        if answer is not None:
            return reply_to_page(_field(answer, "action"))
        if not takes_pages(self._capabilities):
            raise Unable("the client cannot open a page (it declares no `elicitation.url`)")
        raise NotYet(key, message, url=url)


def takes_forms(capabilities: Any) -> bool:
    """Tell whether a client shows forms. One that declares `elicitation` and no mode means forms."""
    found = _field(capabilities, "elicitation")
    return found is not None and (_field(found, "form") is not None or _field(found, "url") is None)


def takes_pages(capabilities: Any) -> bool:
    """Tell whether a client opens pages."""
    return _field(_field(capabilities, "elicitation"), "url") is not None


def _field(of: Any, name: str) -> Any:
    return of.get(name) if isinstance(of, Mapping) else getattr(of, name, None)
