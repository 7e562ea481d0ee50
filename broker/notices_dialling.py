"""This module holds what listeners report of peers that they dial."""

from dataclasses import dataclass
from typing import ClassVar

from broker.notices import Notice


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerAway(Notice):
    """A peer that we dial cannot be reached, for ``reason``; it is dialled again, and told again when that changes."""

    level: ClassVar[str] = "error"
    channel: str
    peer: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerReached(Notice):
    """A peer that could not be reached is connected again."""

    level: ClassVar[str] = "warning"
    channel: str
    peer: str
