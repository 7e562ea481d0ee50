"""This module holds what the engine reports of itself when it can take, keep or tell nothing more."""

from dataclasses import dataclass
from typing import ClassVar

from broker.notices import Notice


@dataclass(frozen=True, slots=True, kw_only=True)
class IntakeStopped(Notice):
    """Nothing more is taken in, for ``reason``; what was acknowledged is kept, and senders keep the rest."""

    level: ClassVar[str] = "error"
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class IntakeResumed(Notice):
    """Messages are taken in again; ``reason`` is what had stopped it."""

    level: ClassVar[str] = "warning"
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SpaceLow(Notice):
    """Little space is left where the store is; below ``limit`` nothing more is taken in (bytes)."""

    level: ClassVar[str] = "warning"
    free: int
    limit: int


@dataclass(frozen=True, slots=True, kw_only=True)
class QuarantineFull(Notice):
    """A channel's quarantine has reached ``limit`` (bytes); from here on who holds most loses the oldest. Told once."""

    level: ClassVar[str] = "warning"
    channel: str
    limit: int


@dataclass(frozen=True, slots=True, kw_only=True)
class QuarantineDropped(Notice):
    """So many entries of the quarantine were deleted for others, or not kept at all; ``reason`` says which."""

    level: ClassVar[str] = "debug"
    channel: str
    count: int
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class NoticesLeftOut(Notice):
    """So many more notices of one kind about one peer came within a minute; they were counted, and not told."""

    level: ClassVar[str] = "warning"
    channel: str
    peer: str
    kind: str
    count: int
