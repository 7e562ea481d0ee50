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
