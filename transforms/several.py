"""This module holds what taking messages about several patients apart has in common, whatever their format."""

from collections.abc import Sequence
from typing import Any, Protocol

from broker.errors import StepError
from broker.message import Document


class Part(Protocol):
    """What a message says of one of several patients; ``str`` is what people call it."""

    @property
    def place(self) -> str:
        """Where the patient stands in the whole message."""

    def message(self) -> Any:
        """Return it as a message of its own; made anew every time, so that not all of them are in memory."""

    def document(self, whole: Document) -> Document:
        """Return it as what the steps get; ``whole`` is the document of the whole message."""

    def located(self, text: str) -> str:
        """Return a location in it, or a text that names some, as of the whole message."""


class Split(Protocol):
    """Takes messages of one format apart."""

    def __call__(self, message: Any, most: int, /) -> Sequence[Part]:
        """Return the parts of a message about several patients; none for another.

        Raises `StepError` where there are more than ``most``, and where nobody can say what is whose.
        """


def too_many(count: int, most: int, location: str) -> StepError:
    """Return the error for a message about more patients than there are deliveries for."""
    text = f"the message is about {count} patients; at most {most} fit into one of this channel, so send it in several"
    return StepError(text, step="canonical", location=location)


def called(number: int, count: int) -> str:
    """Return what people call part ``number`` (from 1) of ``count``."""
    return f"patient {number} of {count}"
