"""How much is at stake when a tool of a category is called.

Rules kept here:

- What destroys or pays is `critical`, what runs code `high`.
- A write is `medium`; `high` where it reaches other people, or changes who may do what.
- A read is `low`; `medium` where the caller aims it at any address or file, or it reads what people wrote to each
  other; `high` where it hands out secrets.
"""

from __future__ import annotations

from collections.abc import Collection
from itertools import pairwise
from typing import Final

from .definition import Definition, parameters
from .lexicon import word_set
from .profile import Category, Level

_SECRET: Final = word_set("credential credentials passphrase password passwords secret secrets")
_KEYED: Final = word_set("access api encryption private secret signing ssh")
_COUNTED: Final = word_set("audit check count list policies policy rotate scan search validate")
_PEOPLE: Final = word_set(
    """
    broadcast dm email emails fax invite mail message notify post publish reply send share sms text tweet
    """
)
_POWERS: Final = word_set(
    """
    acl admin collaborator credential credentials grant key keys member members permission permissions policy role
    roles secret secrets token tokens visibility webhook webhooks
    """
)
_RECIPIENTS: Final = word_set("bcc cc recipient recipients to to_email to_number")
_AIMED: Final = word_set("file_path filepath path paths uri uris url urls")
_PRIVATE: Final = word_set(
    """
    chat chats conversation conversations dm email emails inbox mail mails message messages transcript transcripts
    """
)


def level_of(definition: Definition, category: Category, words: Collection[str]) -> Level:
    """Return the level of a tool of this category; `words` are those of its name."""
    if category in ("destructive", "financial"):
        return "critical"
    if category == "execute":
        return "high"
    low = [word.lower() for word in words]
    names = {name.lower() for name, _ in parameters(definition)}
    if category == "write":
        return "high" if not _PEOPLE.isdisjoint(low) or not _POWERS.isdisjoint(low) or names & _RECIPIENTS else "medium"
    if _hands_out_secrets(low):
        return "high"
    return "medium" if names & _AIMED or not _PRIVATE.isdisjoint(low) else "low"


def _hands_out_secrets(low: list[str]) -> bool:
    secret = not _SECRET.isdisjoint(low) or any(
        first in _KEYED and second in ("key", "keys", "token", "tokens") for first, second in pairwise(low)
    )
    if {"env", "environment"} & set(low) and low[-1] in ("env", "environment", "variables", "vars"):
        secret = True
    return secret and _COUNTED.isdisjoint(low)
