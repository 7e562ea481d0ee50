"""This module holds what polls report, of databases, FHIR servers and mailboxes."""

from dataclasses import dataclass
from typing import ClassVar

from broker.notices import Notice


@dataclass(frozen=True, slots=True, kw_only=True)
class PollFailed(Notice):
    """What is polled cannot be read, for ``reason``; it is tried again, and told once more when it can or why not."""

    level: ClassVar[str] = "error"
    channel: str
    source: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PollRecovered(Notice):
    """What could not be read was read again."""

    level: ClassVar[str] = "warning"
    channel: str
    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchRemarked(Notice):
    """A FHIR server gave remarks along with what a search found, such as that it left a parameter out; their codes."""

    level: ClassVar[str] = "warning"
    channel: str
    source: str
    codes: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportBegun(Notice):
    """A FHIR server has begun a Bulk Data export for us."""

    channel: str
    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportProgressed(Notice):
    """A Bulk Data export goes on; ``percent`` is how far it is, where the server says that."""

    level: ClassVar[str] = "debug"
    channel: str
    source: str
    percent: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportRead(Notice):
    """All files of a Bulk Data export are read; the next one asks for what was changed after it."""

    channel: str
    source: str
    files: int
    seconds: float  # since it was asked for


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportIncomplete(Notice):
    """A Bulk Data export is not whole, for ``reason``; what came is taken, and the next one is of all of it again."""

    level: ClassVar[str] = "error"
    channel: str
    source: str
    reason: str
