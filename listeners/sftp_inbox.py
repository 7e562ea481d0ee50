"""This module is a folder of an SFTP server in which others leave files.

A file is claimed by renaming it into a folder of our own there, so nobody reads it twice and a restart knows what was
begun. It is copied whole before anything of it is read. The copy needs no name, and a crash leaves none behind: until
all of a file is committed the server keeps it.
"""

import contextlib
import posixpath
import queue
import stat
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO, Final, TypeVar

import paramiko

from broker.errors import Away
from broker.ssh import Login, Session, what_kept_out
from listeners.folder import FolderSpec
from listeners.source import DEEPEST, LINK, Refused, Seen, free_names, in_order, make_local, matches, write_copy

R = TypeVar("R")

_SLOWEST: Final = 16_384  # bytes a second below which a copy is given up
_ANSWERS: Final = 6  # that a file waits for until it is copied
_EVERY: Final = ("*",)
_ENDED: Final = (paramiko.SSHException, EOFError)
_STRANGE: Final = "the server gives it a name that no file can have; have it renamed there"


class SftpInbox:
    """One folder of a server; see `listeners.source.Source`. At most ``most`` connections."""

    def __init__(self, login: Login, spec: FolderSpec, local: Path, working: str, most: int) -> None:
        self._login = login
        self._spec = spec
        self._local = local
        self._folder = spec.folder
        self._claims = spec.after != "keep"
        self._claimed = posixpath.join(spec.folder, working)
        self._done = posixpath.join(spec.folder, spec.done) if spec.after == "move" else None
        self._failed = posixpath.join(spec.folder, spec.failed)
        self._made: set[str] = set()  # folders of ours that are there
        self._free = threading.BoundedSemaphore(most)
        self._idle: queue.LifoQueue[Session] = queue.LifoQueue()

    @property
    def where(self) -> str:
        """The place and the folder."""
        return f"{self._login.name}:{self._folder}"

    def open(self) -> None:
        """Make the local folder for copies. Raises `NotReady`."""
        make_local(self._local)

    def close(self) -> None:
        """Close every connection that nobody uses."""
        with contextlib.suppress(queue.Empty):
            while True:
                self._idle.get_nowait().close()

    def begun(self) -> list[Seen]:
        """Return the files that were claimed and have not ended, the oldest first."""
        try:
            return self._listed(self._claimed, _EVERY, DEEPEST) if self._claims else []
        except FileNotFoundError:
            return []  # nothing was ever claimed

    def waiting(self) -> list[Seen]:
        """Return the files that match, the oldest first."""
        try:
            return self._listed(self._folder, self._spec.patterns, DEEPEST if self._spec.recursive else 0)
        except OSError as error:
            raise Away(f"{self.where}: the folder cannot be used ({_why(error)})") from None

    def _listed(self, root: str, patterns: Sequence[str], deep: int) -> list[Seen]:
        ours = {posixpath.normpath(each) for each in (self._spec.done, self._spec.failed)}
        return self._over(lambda files: in_order(_files(files, root, "", patterns, ours, deep)))

    def is_written(self, seen: Seen) -> bool:  # noqa: ARG002 - a server does not tell
        """Return False: a server does not tell who writes, so what was seen must do."""
        return False

    def claim(self, seen: Seen) -> bool:
        """Rename a file into our folder; False when it is gone or another now, or one of its name is being read."""
        source, target = posixpath.join(self._folder, seen.name), posixpath.join(self._claimed, seen.name)

        def rename(files: Any) -> bool:
            found, claimed = files.look_at(source, target)
            if found is None:
                return claimed is not None  # the connection ended after the server had renamed it
            if claimed is not None or _seen(seen.name, found) != seen:
                return False
            self._make(files, posixpath.dirname(target))
            files.rename(source, target)
            return True

        try:
            return self._over(rename)
        except FileNotFoundError:
            return False
        except OSError as error:
            text = f"it cannot be moved on the server ({_why(error)}); have that allowed, or declare `after: keep`"
            raise Refused(text) from None

    def _make(self, files: Any, folder: str) -> None:
        """Make a folder of ours, and those above it."""
        if folder in self._made or folder == self._folder:
            return
        self._make(files, posixpath.dirname(folder))
        if not _is_there(files, folder):
            try:
                files.mkdir(folder, 0o700)
            except OSError:
                if not _is_there(files, folder):  # else another connection of ours was first
                    raise
        self._made.add(folder)

    def fetch(self, seen: Seen) -> BinaryIO | None:
        """Copy a file; None when it is gone, or is written to still."""
        path = posixpath.join(self._claimed if self._claims else self._folder, seen.name)

        def copy(files: Any) -> BinaryIO | None:
            with contextlib.ExitStack() as unless_whole:
                copied = unless_whole.enter_context(tempfile.TemporaryFile(dir=self._local))
                size, status = files.copy(path, seen.size, lambda data: write_copy(copied, data))
                if size != seen.size or _seen(seen.name, status) != seen:
                    return None
                copied.seek(0)
                unless_whole.pop_all()
                return copied

        try:
            return self._over(copy)
        except FileNotFoundError:
            return None
        except PermissionError:
            raise Refused("it cannot be read on the server (no permission)") from None
        except OSError as error:
            raise Away(f"{self.where}: a file cannot be copied ({_why(error)})") from None

    def end(self, seen: Seen, *, well: bool) -> None:
        """Move a file to where it stays, or remove it where it is not kept; one that is gone was moved before."""
        path, folder = posixpath.join(self._claimed, seen.name), self._done if well else self._failed

        def move(files: Any) -> None:
            if folder is None:
                files.remove(path)
                return
            names = (posixpath.join(folder, name) for name in free_names(seen.name))
            target = next(name for name in names if not _is_there(files, name))
            self._make(files, posixpath.dirname(target))
            files.rename(path, target)

        try:
            self._over(move)
        except OSError as error:
            self._made.clear()  # somebody may have removed them
            if self._over(lambda files: _is_there(files, path)):
                raise Away(f"{self.where}: a file that was read cannot be moved away ({_why(error)})") from None

    def patience(self, size: int) -> float:
        """Return what a connection and a few answers may take, and the copy of a file of this size."""
        login = self._login
        return login.connect + _ANSWERS * login.timeout + size / _SLOWEST

    def _over(self, work: Callable[[Any], R]) -> R:
        """Do some work over a connection, a new one where that which was kept has ended.

        What the server refuses is raised as it is. Raises `Away` where there is no connection any more.
        """
        with self._free:
            while True:
                session, is_kept = self._session()
                try:
                    result = work(session.files)
                except (Away, OSError) as error:
                    if session.stands and not isinstance(error, TimeoutError):
                        self._idle.put(session)
                        raise
                    session.close()
                except _ENDED:
                    session.close()
                except BaseException:
                    session.close()
                    raise
                else:
                    self._idle.put(session)
                    return result
                if not is_kept:
                    raise Away(f"{self.where}: the connection ended; what was begun is read again")

    def _session(self) -> tuple[Session, bool]:
        """Return a connection, and whether it was kept from before."""
        while True:
            try:
                session = self._idle.get_nowait()
            except queue.Empty:
                break
            if session.stands:
                return session, True
            session.close()
        try:
            return Session(self._login), False
        except (*_ENDED, OSError) as error:
            raise Away(f"place {self._login.name}: {what_kept_out(error)}") from None


def _files(
    files: Any, root: str, before: str, patterns: Sequence[str], left_out: set[str], deep: int
) -> Iterator[Seen]:
    """Yield the files of a folder of the server, and of those below it."""
    try:
        found = files.listdir_attr(posixpath.join(root, before))
    except UnicodeDecodeError:
        raise Away("the folder has a name in it that is not UTF-8; have it renamed on the server") from None
    except FileNotFoundError:
        if before:  # it was removed meanwhile
            return
        raise
    for status in found:
        name = before + status.filename
        if not stat.S_ISDIR(status.st_mode or 0):
            yield from _matching(name, status, patterns)
        elif deep and name not in left_out and not status.filename.startswith(".") and "/" not in status.filename:
            yield from _files(files, root, f"{name}/", patterns, left_out, deep - 1)


def _matching(name: str, status: Any, patterns: Sequence[str]) -> Iterator[Seen]:
    if not matches(status.filename, patterns):
        return
    seen = _seen(name, status)
    if "/" in status.filename or "\0" in status.filename:
        yield replace(seen, wrong=_STRANGE)
    elif stat.S_ISLNK(status.st_mode or 0):
        yield replace(seen, wrong=LINK)
    elif stat.S_ISREG(status.st_mode or 0):
        yield seen


def _seen(name: str, status: Any) -> Seen:
    return Seen(name, int(status.st_size or 0), int(status.st_mtime or 0) * 10**9)


def _is_there(files: Any, path: str) -> bool:
    try:
        files.lstat(path)
    except FileNotFoundError:
        return False
    return True


def _why(error: OSError) -> str:
    if isinstance(error, FileNotFoundError):
        return "there is no such folder"
    return "no permission" if isinstance(error, PermissionError) else "the server refused"
