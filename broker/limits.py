"""This module says how much may be taken in at most; see `broker.pressure`. Settings load it, and no engine."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Bytes: of messages that wait for their commit, of messages that are half read, and of space that must be free."""

    waiting: int = 64 * 1024**2
    unfinished: int = 256 * 1024**2
    free_space: int = 256 * 1024**2
