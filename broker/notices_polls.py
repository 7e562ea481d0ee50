"""This module holds what polls of databases report."""

from dataclasses import dataclass
from typing import ClassVar

from broker.notices import Notice


@dataclass(frozen=True, slots=True, kw_only=True)
class PollFailed(Notice):
    """A database cannot be read, for ``reason``; it is tried again, and told once more when it can or why not."""

    level: ClassVar[str] = "error"
    channel: str
    database: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PollRecovered(Notice):
    """A database that could not be read was read again."""

    level: ClassVar[str] = "warning"
    channel: str
    database: str
