"""This module writes messages into files of an SFTP server, over connections that stay.

A server whose host key is not known is not logged in to. A file is written under a hidden name and renamed; only while
that rename is under way can its outcome be unknown.
"""

import contextlib
import logging
import posixpath
import socket
import threading
import time
from base64 import b64decode
from dataclasses import dataclass, field
from io import StringIO
from typing import TYPE_CHECKING, Any, Final

from pydantic import Field

from broker.delivery import Delivered, Outcome, Retry, Unknown
from broker.errors import ConfigError
from broker.spec import Seconds
from dispatch.filing import Exists, File, FileOutSpec, Filing, there_already
from dispatch.http import reveal
from dispatch.named import find_place

if TYPE_CHECKING:
    from pathlib import Path

    from broker.parts import Destination, Tools

_KEEPALIVE: Final = 30  # seconds
_NO_WAY: Final = "the server offers only algorithms that are not safe any more"


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
        return Filing(Server(login, self.folder, temporary), self, time.time)


@dataclass(frozen=True, slots=True)
class Login:
    """How to get in: times are in seconds."""

    name: str
    host: str
    port: int
    user: str
    password: Any = field(repr=False)
    key: Any = field(repr=False)  # a paramiko.PKey
    hosts: Any = field(repr=False)  # paramiko.HostKeys
    connect: float = 10.0
    timeout: float = 60.0


def find_login(settings: Any, name: str, where: str, connect: float, timeout: float) -> Login:
    """Look a place up in the settings, and read its keys; raise `ConfigError` when that cannot be done."""
    place = find_place(settings.places, name, where, "sftp", "SFTP server")
    at = f"handoff.yaml, places.{name}.sftp"
    return Login(
        name=name,
        host=place.host,
        port=place.port,
        user=place.user,
        password=place.password,
        key=_read_key(reveal(place.private_key), reveal(place.passphrase), at) if place.private_key else None,
        hosts=_read_hosts(place, settings.root, at),
        connect=connect,
        timeout=timeout,
    )


def _read_key(text: str, passphrase: str, at: str) -> Any:
    import paramiko  # noqa: PLC0415 - costs 200 ms, which reading a channel file must not

    for kind in (paramiko.Ed25519Key, paramiko.ECDSAKey, paramiko.RSAKey):
        with contextlib.suppress(paramiko.SSHException, ValueError, IndexError):
            return kind.from_private_key(StringIO(text), passphrase or None)
    hint = "its passphrase does not open it" if passphrase else "or it needs a `passphrase`"
    raise ConfigError(f"{at}.private_key: this is no private key in PEM or OpenSSH form, {hint}")


def _read_hosts(place: Any, root: "Path", at: str) -> Any:
    import paramiko  # noqa: PLC0415 - as above

    hosts = paramiko.HostKeys()
    try:
        if place.known_hosts is not None:
            hosts.load(str(root / place.known_hosts))
        else:
            kind, _, rest = place.host_key.strip().partition(" ")
            key = paramiko.PKey.from_type_string(kind, b64decode(rest.partition(" ")[0]))
            hosts.add(_known_as(place.host, place.port), kind, key)
    except OSError as error:
        raise ConfigError(f"{at}.known_hosts: {place.known_hosts} cannot be read ({error.strerror})") from None
    except (paramiko.SSHException, ValueError, TypeError):
        raise ConfigError(f"{at}: the host key cannot be read; write it as ssh-keyscan does") from None
    if hosts.lookup(_known_as(place.host, place.port)) is None:
        name = _known_as(place.host, place.port)
        raise ConfigError(f"{at}.known_hosts: {place.known_hosts} has no key of {name}; add it with ssh-keyscan")
    return hosts


def _known_as(host: str, port: int) -> str:
    return host if port == 22 else f"[{host}]:{port}"  # noqa: PLR2004 - SSH's own port


class Session:
    """One connection that is logged in."""

    def __init__(self, login: Login) -> None:
        import paramiko  # noqa: PLC0415 - as above

        self._client = client = paramiko.SSHClient()
        client._host_keys = login.hosts  # noqa: SLF001 - there is no other way to give what was read already
        client.set_missing_host_key_policy(paramiko.RejectPolicy())
        try:
            client.connect(
                login.host,
                login.port,
                login.user,
                reveal(login.password) or None,
                login.key,
                timeout=login.connect,
                banner_timeout=login.connect,
                auth_timeout=login.connect,
                channel_timeout=login.connect,
                allow_agent=False,
                look_for_keys=False,
            )
            self._transport: Any = client.get_transport()
            self._transport.set_keepalive(_KEEPALIVE)
            self.files: Any = client.open_sftp()
            self._channel: Any = self.files.get_channel()
            self._channel.settimeout(login.timeout)
        except BaseException:
            client.close()
            raise

    @property
    def stands(self) -> bool:
        """Whether the connection stands, as far as we know."""
        return bool(self._transport.is_active()) and not self._channel.closed

    def close(self) -> None:
        """Close it."""
        with contextlib.suppress(Exception):
            self._client.close()


class Server:
    """An SFTP server; see `dispatch.filing.Place`."""

    def __init__(self, login: Login, folder: str, temporary: str) -> None:
        self._login = login
        self._folder = folder
        self._temporary = temporary
        self._idle: list[Session] = []
        self._lock = threading.Lock()
        # Its debug lines hold names of files, and its errors are told by their outcomes.
        logging.getLogger("paramiko").setLevel(logging.CRITICAL)

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
                return Retry(f"{self.peer}: {_what_kept_out(error)}")
            writing = Writing(session, file, self._folder, self._temporary, self.peer)
            outcome = self._written(writing, exists)
            if outcome is not None:
                return outcome
            if writing.renaming:
                return Unknown(f"{self.peer}: the connection ended while the file was given its name")
            if last or not reused:
                break
        return Retry(f"{self.peer}: the connection ended before the file was given its name")

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


def _why(error: BaseException) -> str:
    if isinstance(error, FileNotFoundError):
        return "there is no such folder"
    return "no permission" if isinstance(error, PermissionError) else "the server refused"


def _what_kept_out(error: BaseException) -> str:
    import paramiko  # noqa: PLC0415 - as above

    causes = getattr(error, "errors", None)  # of one host, each address with its error
    if isinstance(causes, dict) and causes:
        error = next(iter(causes.values()))
    for kind, words in (
        (paramiko.BadHostKeyException, "its host key is not the one that is known; make sure who it is, then correct"),
        (paramiko.AuthenticationException, "it refused our user, password or key"),
        (paramiko.ssh_exception.IncompatiblePeer, f"{_NO_WAY}{_missing(error)}; its operator must allow newer ones"),
        (socket.gaierror, "its host name could not be resolved"),
        (ConnectionRefusedError, "the connection was refused"),
        (TimeoutError, "no connection within the time allowed"),
    ):
        if isinstance(error, kind):
            return words
    if "not found in known_hosts" in str(error):
        return "the host key that it shows is of a kind that is not known; add that one"
    return f"no connection ({type(error).__name__})"


def _missing(error: BaseException) -> str:
    """Return which kind of algorithm nobody agreed on: paramiko says it in one of four texts of its own."""
    kinds = ("kex algorithm", "host key", "ciphers", "macs")
    return next((f" ({kind})" for kind in kinds if kind in str(error)), "")
