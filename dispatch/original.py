"""This module gives the bytes of a message as it was received, to destinations that pass it on."""

from typing import TYPE_CHECKING, Final

from broker.errors import StepError

if TYPE_CHECKING:
    from broker.message import Document

ORIGINAL: Final = "original"


def original(document: "Document", part: str) -> bytes:
    """Return the message as it was received; raise `StepError`, which ``part`` begins, where nobody kept its bytes."""
    data = getattr(document.message, "raw", None) or document.body
    if not isinstance(data, bytes) or not data:
        raise StepError(f"{part}: the bytes of this message were not kept; write a template instead of `{ORIGINAL}`")
    return data
