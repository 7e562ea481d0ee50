"""This module writes messages into files of an SFTP server, over connections that stay.

A server whose host key is not known is not logged in to. A file is written under a hidden name and renamed; only while
that rename is under way can its outcome be unknown.
"""

import contextlib
import posixpath
import threading
import time
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import TYPE_CHECKING

from pydantic import Field

from broker.delivery import Delivered, Outcome, Retry, Unknown, Via
from broker.spec import Seconds
from broker.ssh import Login, Session, find_login, what_kept_out
from dispatch.filing import Exists, File, FileOutSpec, Filing, there_already
from dispatch.way import address_of

if TYPE_CHECKING:
    from broker.parts import Destination, Tools


class SftpOutSpec(FileOutSpec):
    """Files on an SFTP server of ``handoff.yaml``."""

    place: str = Field(description="Name of the server, as under `places:` in handoff.yaml.")
    connections: int = Field(default=2, ge=1, le=20, description="Connections, each with one file under way.")
    connect: Seconds = Field(default=10.0, gt=0, description="How long it may take until a connection stands.")

    @property
    def sessions(self) -> int:
        """How many files may be written at a time."""
        return self.connections

    def build(self, tools: "Tools") -> "Destination":
        """Build the sending half; raise `ConfigError` when the place or its keys are missing or unreadable."""
        where = f"channel {tools.channel}: sftp.place"
        login = find_login(tools.settings, self.place, where, self.connect, self.timeout)
        temporary = posixpath.join(self.folder, self.temporary) if self.temporary else self.folder
        return Filing(Server(login, self.folder, temporary), self, time.time, tools.marks)


class Server:
    """An SFTP server; see `dispatch.filing.Place`."""

    def __init__(self, login: Login, folder: str, temporary: str) -> None:
        self._login = login
        self._folder = folder
        self._temporary = temporary
        self._idle: list[Session] = []
        self._lock = threading.Lock()

    @property
    def peer(self) -> str:
        """How reasons call it."""
        return f"place {self._login.name}"

    def close(self) -> None:
        """Close every connection that nobody uses."""
        with self._lock:
            idle, self._idle = self._idle, []
        for session in idle:
            session.close()

    def put(self, file: File, exists: Exists) -> Outcome:
        """Write one file; a connection that turns out to have ended meanwhile is replaced once."""
        import paramiko  # noqa: PLC0415 - as above

        for last in (False, True):
            session = self._taken()
            reused = session is not None
            try:
                session = session or Session(self._login)
            except (paramiko.SSHException, EOFError, OSError) as error:
                return Retry(f"{self.peer}: {what_kept_out(error)}", is_away=True)
            via = _via(session)
            writing = Writing(session, file, self._folder, self._temporary, self.peer)
            outcome = self._written(writing, exists)
            if outcome is not None:
                return replace(outcome, via=via)
            if writing.renaming:
                return Unknown(f"{self.peer}: the connection ended while the file was given its name", via=via)
            if last or not reused:
                break
        return Retry(f"{self.peer}: the connection ended before the file was given its name")

    def digest(self, name: str) -> str | None:
        """Return the SHA-256 of the file of a name, None where there is none; raise `OSError` when nobody can say."""
        import paramiko  # noqa: PLC0415 - as above

        try:
            with (
                contextlib.closing(Session(self._login)) as session,
                session.files.open(posixpath.join(self._folder, name), "rb") as opened,
            ):
                opened.prefetch()
                return sha256(opened.read()).hexdigest()
        except FileNotFoundError:
            return None
        except (paramiko.SSHException, EOFError) as error:
            raise OSError(what_kept_out(error)) from None

    def _written(self, writing: "Writing", exists: Exists) -> Outcome | None:
        """Write, and keep the connection for the next file; None when it ended."""
        import paramiko  # noqa: PLC0415 - as above

        session, outcome = writing.session, None
        try:
            outcome = writing.put(exists)
        except (paramiko.SSHException, EOFError, OSError) as error:
            if session.stands and not isinstance(error, TimeoutError | EOFError):
                outcome = Retry(f"{self.peer}: the file could not be written ({_why(error)})")
        if outcome is not None and session.stands:
            with self._lock:
                self._idle.append(session)
        else:
            session.close()
        return outcome

    def _taken(self) -> Session | None:
        with self._lock:
            while self._idle:
                session = self._idle.pop()
                if session.stands:
                    return session
                session.close()
        return None


@dataclass(slots=True)
class Writing:
    """One file on its way; ``renaming`` says that it may have got its name."""

    session: Session
    file: File
    folder: str
    temporary: str
    peer: str
    renaming: bool = False

    def put(self, exists: Exists) -> Outcome:
        """Write it under its hidden name, and rename it."""
        target = posixpath.join(self.folder, self.file.name)
        temporary = posixpath.join(self.temporary, self.file.temporary)
        found = self._found(target, exists)
        if found is not None:
            return found
        files = self.session.files
        with files.open(temporary, "wb") as opened:
            opened.set_pipelined(True)
            opened.write(self.file.content)
        if files.stat(temporary).st_size != len(self.file.content):
            return Retry(f"{self.peer}: the server kept only a part of the file")
        self.renaming = True
        try:
            self._rename(temporary, target, exists)
        except OSError:
            if not self.session.stands:
                raise
            self.renaming = False  # the server said no
            found = self._found(target, exists)
            with contextlib.suppress(OSError):
                files.remove(temporary)
            return found or Retry(f"{self.peer}: the server would not rename the file")
        return Delivered(reference=self.file.name)

    def _found(self, target: str, exists: Exists) -> Outcome | None:
        same = self._holds(target)
        return None if same is None else there_already(self.file, exists, self.peer, same=same)

    def _holds(self, path: str) -> bool | None:
        """Say whether a file has our content; None where there is none."""
        content = self.file.content
        try:
            if self.session.files.stat(path).st_size != len(content):
                return False
            with self.session.files.open(path, "rb") as opened:
                opened.prefetch(len(content))
                return bool(opened.read(len(content) + 1) == content)
        except FileNotFoundError:
            return None
        except PermissionError:
            return False  # whatever it is, nobody may read it

    def _rename(self, temporary: str, target: str, exists: Exists) -> None:
        """Rename: version 3 of SFTP refuses a name that is taken, which is what we want unless we write over."""
        files = self.session.files
        if exists != "replace":
            files.rename(temporary, target)
            return
        try:
            files.posix_rename(temporary, target)
        except OSError as error:
            if not self.session.stands or error.errno is not None:
                raise  # the server named a reason, so it knows the extension
            with contextlib.suppress(FileNotFoundError):
                files.remove(target)  # a server without that extension: for a moment there is no such file
            files.rename(temporary, target)


def _via(session: Session) -> Via | None:
    address = address_of(session.peer)
    return Via(address) if address else None


def _why(error: BaseException) -> str:
    if isinstance(error, FileNotFoundError):
        return "there is no such folder"
    return "no permission" if isinstance(error, PermissionError) else "the server refused"
