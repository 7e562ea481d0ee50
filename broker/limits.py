"""This module says how much may be taken in at most; see `broker.pressure`. Settings load it, and no engine."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Bytes: of messages that wait for their commit, of messages that are half read, of space that must be free.

    ``quarantine`` is of what each channel keeps of what never became a message.
    """

    waiting: int = 64 * 1024**2
    unfinished: int = 256 * 1024**2
    free_space: int = 256 * 1024**2
    quarantine: int = 64 * 1024**2
