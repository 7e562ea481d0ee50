"""This module is a folder in which others leave files: which of them are whole, and where they go then.

A file is claimed by renaming it into a folder of our own beside it, so nobody reads it twice and a restart knows what
was begun. Every function here blocks, and is called from a thread.
"""

import contextlib
import fcntl
import os
import signal
import stat
import time
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Final

from broker.errors import NotReady
from broker.lock import lock_folder

# What programs call a file that they have not finished.
_UNFINISHED: Final = (".filepart", ".part", ".partial", ".tmp", ".temp", ".crdownload", ".swp", "~")


@dataclass(frozen=True, slots=True)
class Seen:
    """A file as it was when it was looked at: if nothing of this changes, nobody writes to it."""

    name: str
    size: int
    modified: int
    inode: int


class Inbox:
    """One folder; ``working``, ``done`` and ``failed`` are where its files go, on the same file system."""

    def __init__(self, folder: Path, pattern: str, *, working: Path, done: Path | None, failed: Path | None) -> None:
        self.folder = folder
        self._pattern = pattern
        self._working = working
        self._claimed = working / "claimed"
        self._done = done
        self._failed = failed
        self._lock = -1

    def open(self) -> None:
        """Make the folders that are ours, and claim the work in them; raise `NotReady` when that cannot be."""
        if not self.folder.is_dir():
            raise NotReady(f"{self.folder}: there is no such folder; make it, or correct listen.files.folder")
        for ours in (self._claimed, self._done, self._failed):
            if ours is not None:
                self._make(ours)
        try:
            self._lock = lock_folder(self._working)
        except NotReady:
            text = f"{self.folder}: another engine reads this folder for the same channel; stop it, or choose another"
            raise NotReady(text) from None

    def _make(self, ours: Path) -> None:
        try:
            ours.mkdir(mode=0o700, parents=True, exist_ok=True)
            if ours.stat().st_dev != self.folder.stat().st_dev:
                text = f"{ours}: lies on another file system than {self.folder}, so a file cannot be moved in one step"
                raise NotReady(f"{text}; choose a folder beside it")
        except OSError as error:
            why = (error.strerror or "it failed").lower()
            raise NotReady(f"{ours}: cannot be made or used ({why}); correct its permissions") from None

    def close(self) -> None:
        """Let others have the folder."""
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def begun(self) -> list[Path]:
        """Return the files that an earlier run claimed and did not end, the oldest first."""
        return [self._claimed / seen.name for seen in _in_order(_files(self._claimed, "*"))]

    def waiting(self) -> list[Seen]:
        """Return the files that match, the oldest first; links, hidden and unfinished files are left alone."""
        return _in_order(_files(self.folder, self._pattern))

    def is_written(self, name: str) -> bool:
        """Say whether a program on this machine has a file open for writing, as far as the system tells."""
        try:
            descriptor = os.open(self.folder / name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        except OSError:
            return False
        try:
            # A lease is given only while nobody writes. Somebody who opens the file meanwhile makes the system send a
            # signal: one that is ignored.
            fcntl.fcntl(descriptor, fcntl.F_SETSIG, signal.SIGURG)
            fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_RDLCK)
            fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_UNLCK)
        except BlockingIOError:
            return True
        except OSError:  # another's file, or a file system without leases: what was seen must do
            return False
        finally:
            os.close(descriptor)
        return False

    def claim(self, seen: Seen) -> Path | None:
        """Move a file to where it is read; None when it is gone or another now, or one of its name is being read."""
        source, target = self.folder / seen.name, self._claimed / seen.name
        if target.exists():
            return None
        try:
            if _seen(seen.name, source.lstat()) != seen:
                return None
            source.rename(target)
        except FileNotFoundError:
            return None
        return target

    def end(self, path: Path, *, well: bool) -> None:
        """Move a file to where it stays, or remove it where it is not kept."""
        folder = self._done if well else self._failed
        if folder is None:
            path.unlink(missing_ok=True)
        else:
            path.rename(_free(folder, path.name))


def _files(folder: Path, pattern: str) -> Iterator[Seen]:
    with os.scandir(folder) as entries:
        for entry in entries:
            name = entry.name
            if name.startswith(".") or name.lower().endswith(_UNFINISHED) or not fnmatchcase(name, pattern):
                continue
            with contextlib.suppress(FileNotFoundError):
                found = entry.stat(follow_symlinks=False)
                if stat.S_ISREG(found.st_mode):
                    yield _seen(name, found)


def _seen(name: str, found: os.stat_result) -> Seen:
    return Seen(name, found.st_size, found.st_mtime_ns, found.st_ino)


def _in_order(files: Iterator[Seen]) -> list[Seen]:
    return sorted(files, key=lambda seen: (seen.modified, seen.name))


def _free(folder: Path, name: str) -> Path:
    """Return a path in a folder that nothing has yet: the name, or the name with the time in it."""
    path, number = folder / name, 0
    while os.path.lexists(path):
        stamp = time.strftime("%Y%m%dT%H%M%S", time.gmtime())
        stem, dot, suffix = name.rpartition(".")
        stem, suffix = (stem, suffix) if dot and stem else (name, "")
        path = folder / f"{stem}.{stamp}{f'-{number}' if number else ''}{dot if suffix else ''}{suffix}"
        number += 1
    return path
