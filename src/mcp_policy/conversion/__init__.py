"""Policies of other tools, turned into native documents.

Rules kept here:

- A converted document never allows a call that the original denies. What cannot be kept becomes stricter, and a note
  says so; where nothing stricter can be written the conversion is refused, with every reason.
- Where the original's meaning leaves a choice, the strictest reading is taken.
- A converted document loads: it has been through `Policy.model_validate`.
"""

from .intercept import Conversion, convert
from .notes import Note

__all__ = ["Conversion", "Note", "convert"]
