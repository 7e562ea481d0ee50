"""This module is a folder of this machine in which others leave files: which of them are whole, and where they go then.

A file is claimed by renaming it into a folder of our own beside it, so nobody reads it twice and a restart knows what
was begun. Folders are opened one below the other and never through a link, so nothing outside is reached.
"""

import contextlib
import errno
import fcntl
import os
import signal
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import BinaryIO, Final

from broker.errors import Away, NotReady
from broker.lock import lock_folder
from listeners.source import DEEPEST, LINK, Refused, Seen, free_names, in_order, local, matches, why

_FOLDER: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_EVERY: Final = ("*",)


class Inbox:
    """One folder; see `listeners.source.Source`.

    ``working``, ``done`` and ``failed`` are where its files go, on the same file system. Without ``claims`` files stay
    where they are, and ``working`` only keeps others from reading them too.
    """

    def __init__(
        self,
        folder: Path,
        patterns: Sequence[str],
        *,
        working: Path,
        done: Path | None,
        failed: Path | None,
        recursive: bool = False,
        claims: bool = True,
    ) -> None:
        self.folder = folder
        self._patterns = patterns
        self._recursive = recursive
        self._claims = claims
        self._working = working
        self._claimed = working / "claimed"
        self._done = done
        self._failed = failed
        self._lock = -1

    @property
    def where(self) -> str:
        """The folder."""
        return str(self.folder)

    def open(self) -> None:
        """Make the folders that are ours, and claim the work in them; raise `NotReady` when that cannot be."""
        if not self.folder.is_dir():
            raise NotReady(f"{self.folder}: there is no such folder; make it, or correct listen.files.folder")
        for folder in (self._claimed, self._done, self._failed) if self._claims else (self._working,):
            if folder is not None:
                self._make(folder)
        try:
            self._lock = lock_folder(self._working)
        except NotReady:
            text = f"{self.folder}: another engine reads this folder for the same channel; stop it, or choose another"
            raise NotReady(text) from None

    def _make(self, folder: Path) -> None:
        with local(folder):
            if self._claims and folder.stat().st_dev != self.folder.stat().st_dev:
                text = f"{folder}: lies on another file system than {self.folder}, so no file can be moved in one step"
                raise NotReady(f"{text}; choose a folder beside it")

    def close(self) -> None:
        """Let others have the folder."""
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def begun(self) -> list[Seen]:
        """Return the files that were claimed and have not ended, the oldest first."""
        return self._listed(self._claimed, _EVERY, recursive=True) if self._claims else []

    def waiting(self) -> list[Seen]:
        """Return the files that match, the oldest first."""
        return self._listed(self.folder, self._patterns, recursive=self._recursive)

    def _listed(self, root: Path, patterns: Sequence[str], *, recursive: bool) -> list[Seen]:
        ours = {self._working, self._done, self._failed}
        left_out = {
            path.relative_to(root).as_posix() for path in ours if path is not None and path.is_relative_to(root)
        }
        try:
            # The folder itself may be reached through a link; what is below it may not.
            descriptor = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            return in_order(_files(descriptor, "", patterns, left_out, DEEPEST if recursive else 0))
        except OSError as error:
            raise Away(f"the folder cannot be used ({why(error)})") from None

    def is_written(self, seen: Seen) -> bool:
        """Say whether a program on this machine has a file open for writing, as far as the system tells."""
        try:
            descriptor = self._opened(self.folder, seen.name)
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

    def _opened(self, root: Path, name: str) -> int:
        with _parent(root, name) as (folder, last):
            return os.open(last, _FILE, dir_fd=folder)

    def claim(self, seen: Seen) -> bool:
        """Move a file to where it is read; False when it is gone or another now, or one of its name is being read."""
        target = self._claimed / seen.name
        if os.path.lexists(target):
            return False
        try:
            with _parent(self.folder, seen.name) as (folder, last):
                if _seen(seen.name, os.stat(last, dir_fd=folder, follow_symlinks=False)) != seen:
                    return False
                target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                os.rename(last, target, src_dir_fd=folder)
        except FileNotFoundError:
            return False
        except OSError as error:
            raise Refused(f"it cannot be moved ({why(error)}); let us, or declare `after: keep`") from None
        return True

    def fetch(self, seen: Seen) -> BinaryIO | None:
        """Open a file; None when it is gone or another now."""
        try:
            descriptor = self._opened(self._claimed if self._claims else self.folder, seen.name)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise Refused(f"it cannot be read ({why(error)})") from None
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode) or _seen(seen.name, found) != seen:
            os.close(descriptor)
            return None
        return os.fdopen(descriptor, "rb")

    def end(self, seen: Seen, *, well: bool) -> None:
        """Move a file to where it stays, or remove it where it is not kept."""
        path, folder = self._claimed / seen.name, self._done if well else self._failed
        try:
            if folder is None:
                path.unlink(missing_ok=True)
            else:
                target = next(each for name in free_names(seen.name) if not os.path.lexists(each := folder / name))
                target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                path.rename(target)
        except OSError as error:
            raise Away(f"a file that was read cannot be moved away ({why(error)})") from None
        for empty in list(PurePosixPath(seen.name).parents)[:-1]:
            with contextlib.suppress(OSError):  # another file is in it
                (self._claimed / empty).rmdir()

    def patience(self, size: int) -> None:  # noqa: ARG002 - a disk takes the time that it takes
        """Return None: what a mounted folder does not answer hangs in a thread, and stops nothing else."""
        return


@contextlib.contextmanager
def _parent(root: Path, name: str) -> Iterator[tuple[int, str]]:
    """Open the folder that a file is in, going through no link below ``root``; with the file's name in it."""
    *folders, last = name.split("/")
    descriptor = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for each in folders:
            below = os.open(each, _FOLDER, dir_fd=descriptor)
            os.close(descriptor)
            descriptor = below
        yield descriptor, last
    finally:
        os.close(descriptor)


def _files(folder: int, before: str, patterns: Sequence[str], left_out: set[str], deep: int) -> Iterator[Seen]:
    """Yield the files of an open folder, which is closed at the end, and of those below it."""
    try:
        with os.scandir(folder) as entries:
            found = list(entries)
        for entry in found:
            name = before + entry.name
            with contextlib.suppress(FileNotFoundError):
                if (
                    deep
                    and not entry.name.startswith(".")
                    and name not in left_out
                    and entry.is_dir(follow_symlinks=False)
                ):
                    below = _below(folder, entry.name)
                    yield from _files(below, f"{name}/", patterns, left_out, deep - 1) if below is not None else ()
                elif matches(entry.name, patterns):
                    status = entry.stat(follow_symlinks=False)
                    if stat.S_ISREG(status.st_mode):
                        yield _seen(name, status)
                    elif stat.S_ISLNK(status.st_mode):
                        yield Seen(name, 0, status.st_mtime_ns, status.st_ino, wrong=LINK)
    finally:
        os.close(folder)


def _below(folder: int, name: str) -> int | None:
    try:
        return os.open(name, _FOLDER, dir_fd=folder)
    except OSError as error:
        if error.errno in {errno.ELOOP, errno.ENOTDIR, errno.ENOENT}:  # it was replaced meanwhile
            return None
        raise


def _seen(name: str, found: os.stat_result) -> Seen:
    return Seen(name, found.st_size, found.st_mtime_ns, found.st_ino)
