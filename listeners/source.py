"""This module says what a place must offer that files are read from: a folder of this machine, or one of a server.

Every function of a `Source` blocks, and is called from a thread.
"""

import contextlib
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import BinaryIO, Final, Protocol

from broker.errors import Away, NotReady

LINK: Final = "it is a link, and links are not followed; put the file itself there"
DEEPEST: Final = 32  # folders below the one that is read
_LONGEST: Final = 255  # bytes of a name
# What programs call a file that they have not finished.
_UNFINISHED: Final = (".filepart", ".part", ".partial", ".tmp", ".temp", ".crdownload", ".swp", "~")


class Refused(Exception):
    """One file cannot be taken; ``str()`` says why."""


@dataclass(frozen=True, slots=True)
class Seen:
    """A file as it was when it was looked at: if nothing of this changes, nobody writes to it.

    ``name`` is its path below the folder, ``modified`` in nanoseconds, ``version`` what a place says instead of an
    inode. With a ``wrong`` it will never be read.
    """

    name: str
    size: int
    modified: int
    inode: int = 0
    version: str = ""
    wrong: str = ""


class Source(Protocol):
    """A folder in which others leave files."""

    @property
    def where(self) -> str:
        """The folder as people would write it."""

    def open(self) -> None:
        """Make ready what is ours; raise `NotReady` when that cannot be. A server that is away is no reason."""

    def close(self) -> None:
        """Let go of it."""

    def begun(self) -> Sequence[Seen]:
        """Return the files that were claimed and have not ended, the oldest first; raise `Away`."""

    def waiting(self) -> Sequence[Seen]:
        """Return the files that match, the oldest first; hidden and unfinished ones are left out. Raises `Away`."""

    def is_written(self, seen: Seen) -> bool:
        """Say whether somebody has a file open for writing, as far as can be told."""

    def claim(self, seen: Seen) -> bool:
        """Make a file ours; False when it is gone or another now. Raises `Refused` or `Away`."""

    def fetch(self, seen: Seen) -> BinaryIO | None:
        """Open a file, whole; None when it is gone or changes still. Raises `Refused` or `Away`."""

    def end(self, seen: Seen, *, well: bool) -> None:
        """Move a claimed file to where it stays, or remove it where it is not kept; raise `Away`."""

    def patience(self, size: int) -> float | None:
        """Return within how many seconds any of these must have ended, for a file of a size; None: whenever it does."""


def matches(name: str, patterns: Sequence[str]) -> bool:
    """Say whether a file of this name, without its folders, is to be read."""
    if name.startswith(".") or name.lower().endswith(_UNFINISHED):
        return False
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def in_order(files: Iterator[Seen]) -> list[Seen]:
    """Return files, the oldest first."""
    return sorted(files, key=lambda seen: (seen.modified, seen.name))


def free_names(name: str) -> Iterator[str]:
    """Yield names for a file that stays: its own, then others with the time in them, and none longer than may be."""
    yield name
    folder, slash, last = name.rpartition("/")
    stem, dot, suffix = last.rpartition(".")
    stem, ending = (stem, dot + suffix) if dot and stem else (last, "")
    number = 0
    while True:
        stamp = time.strftime(".%Y%m%dT%H%M%S", time.gmtime()) + (f"-{number}" if number else "") + ending
        kept = stem.encode("utf-8", "surrogateescape")[: max(_LONGEST - len(stamp.encode("utf-8", "replace")), 0)]
        yield f"{folder}{slash}{kept.decode('utf-8', 'ignore' if len(kept) < len(stem) else 'surrogateescape')}{stamp}"
        number += 1


def make_local(folder: Path) -> None:
    """Make the folder of this machine for copies of what is elsewhere; raise `NotReady` when that cannot be."""
    with local(folder):
        pass


@contextlib.contextmanager
def local(folder: Path) -> Iterator[None]:
    """Make a folder of this machine for us alone, and use it; raise `NotReady` when that cannot be."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        yield
    except OSError as error:
        raise NotReady(f"{folder}: cannot be made or used ({why(error)}); correct its permissions") from None


def write_copy(copied: BinaryIO, data: bytes) -> int:
    """Write a part of such a copy, and return how many bytes that was; raise `Away` when it cannot be written."""
    try:
        return copied.write(data)
    except OSError as error:
        raise Away(f"the copy of a file cannot be written on this machine ({why(error)})") from None


def why(error: OSError) -> str:
    """Return what the system says is wrong, for the middle of a sentence."""
    return (error.strerror or "it failed").lower()
