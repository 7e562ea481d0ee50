"""This module holds the interface of a format: how bytes become a message that can be kept, and one that steps see."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, BinaryIO, NamedTuple, Protocol

from broker.message import Document, Inbound

# Reads the index values of a message: pairs of index name and value.
Index = Callable[[Document], Sequence[tuple[str, str]]]


def no_index(_document: Document) -> Sequence[tuple[str, str]]:
    """Read the index values of a channel that has none; a format may know that it need not be called."""
    return ()


class Reading(NamedTuple):
    """What the intake needs to know of a message to keep it.

    Two messages of one channel with the same ``key`` and the same bytes are one message that came twice (with any bytes
    where ``Inbound.key_decides``); one without a key is never taken for another. ``control_id`` is what its sender
    calls it.
    """

    type: str
    key: tuple[bytes, ...] = ()
    control_id: str = ""
    values: Sequence[tuple[str, str]] = ()


@dataclass(slots=True, kw_only=True)
class Piece:
    """One message of a file: its body, and the line of the file that it begins with (from 1).

    With a ``reason`` it cannot become a message, and ``body`` is its beginning.
    """

    body: bytes = field(repr=False)
    line: int
    reason: str = ""


class Format(Protocol):
    """One format, as one channel declares it. Used by the intake, by worker processes and by listeners of files."""

    @property
    def kind(self) -> str:
        """How channels call it: ``hl7``, ``csv``."""

    @property
    def names(self) -> Mapping[str, Any]:
        """The names that its messages bring into expressions, each with what is known of its value.

        That is a type, a `Columns`, or None where nothing is known.
        """

    def read(self, inbound: Inbound, index: Index) -> Reading:
        """Read as much as is needed to keep a message; raise `MessageError` or `NotAccepted` where it cannot be."""

    def document(self, body: bytes, received_at: float) -> Document:
        """Return the document that the first step gets; raise `MessageError` where the body cannot be read."""

    def split(self, file: BinaryIO, name: str) -> Iterator[Piece]:
        """Yield the messages of a file that can seek, in order and in bounded memory; ``name`` is the file's.

        Raises `MessageError` where it is no file of this format, or stops being one.
        """


@dataclass(frozen=True, slots=True)
class Columns:
    """What is known of the value of a row's name before any row is there: its columns, or None for any."""

    names: tuple[str, ...] | None = None
