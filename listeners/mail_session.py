"""This module speaks IMAP4rev1 (RFC 3501) with the server of a mailbox, over one connection for one look at a folder.

What the server says in words is never told: it may quote a mail. Everything here blocks, and is called from threads.
"""

import contextlib
import imaplib
import re
import socket
import ssl
from base64 import b64encode
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final

from broker.errors import Away
from broker.handshake import not_connected
from broker.places import reveal

_BESIDE: Final = 1 << 24  # bytes that a server may say besides a mail, to one command
_AT_ONCE: Final = 50_000  # mails that are searched with one command; their UIDs come in one line, and imaplib bounds it
_LATE: Final = "its server did not answer within the time allowed"
_NO_WAY: Final = "its server offers no way to log in that we know"
_ASCII: Final = re.compile(r"[\x20-\x25\x27-\x7e]+|&|[^\x20-\x7e]+")


class Refused(Exception):
    """The server does not do it to this one mail; ``str()`` says what it was."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Login:
    """How to get in; ``tls`` is implicit, starttls or none, and ``server_name`` the name in the certificate."""

    name: str
    host: str
    port: int
    tls: str
    account: str
    password: Any = field(repr=False)  # nothing where a token takes its place
    context: Callable[[], ssl.SSLContext] = field(repr=False)
    server_name: str
    timeout: float  # seconds, for each answer
    token: str = field(default="", repr=False)


class NotLetIn(Away):
    """The server knows us not, or not any more."""


class _Connection(imaplib.IMAP4):
    """A connection that ends where a server says more than it was asked for."""

    def __init__(self, login: Login) -> None:
        self._login = login
        self.may_say = _BESIDE  # bytes
        super().__init__(login.server_name, login.port, login.timeout)  # this is the name that STARTTLS looks for

    def _create_socket(self, timeout: float | None) -> socket.socket:
        opened = socket.create_connection((self._login.host, self._login.port), timeout)
        if self._login.tls == "implicit":
            return self._login.context().wrap_socket(opened, server_hostname=self._login.server_name)
        return opened

    def read(self, size: int) -> bytes:
        self._count(size)
        return super().read(size)

    def readline(self) -> bytes:
        line: bytes = super().readline()
        self._count(len(line))
        return line

    def _count(self, size: int) -> None:
        self.may_say -= size
        if self.may_say < 0:
            raise self.abort("it says more than it was asked for")


class MailSession:
    """A folder of a mailbox that is open; a mail in it is named by its UID, for as long as ``validity`` is the same.

    Every function raises `Away` where the server cannot be asked any more.
    """

    def __init__(self, login: Login, folder: str) -> None:
        with _told():
            self._imap = _Connection(login)
        try:
            with _told():
                if login.tls == "starttls":
                    _start_tls(self._imap, login)
                _log_in(self._imap, login)
                self._can = frozenset(b" ".join(_texts(self._imap.capability()[1])).upper().split())
                self.validity = self._open(folder)
        except BaseException:
            self.close()
            raise

    def _open(self, folder: str) -> int:
        """Open a folder; return its UIDVALIDITY."""
        try:
            said, told = self._imap.select(_quoted(folder))
        except imaplib.IMAP4.readonly:
            raise Away("its folder may be read only, so nothing in it can be marked or moved") from None
        if said != "OK":
            raise Away("it has no folder of the declared name, or does not let us open it")
        validity = b"".join(_texts(self._imap.response("UIDVALIDITY")[1]))
        if not validity.isdigit():
            raise Away("its folder has no UIDVALIDITY, so no mail in it would be known again")
        self._count = int(b"".join(_texts(told)[-1:]) or b"0")
        return int(validity)

    def find(self, *, unseen: bool) -> list[int]:
        """Return the UIDs of the mails that are there, the oldest first; ``unseen`` leaves out those marked as read."""
        uids: set[int] = set()
        for first in range(1, self._count + 1, _AT_ONCE):  # what comes meanwhile is found the next time
            last = first + _AT_ONCE - 1
            which = f"{first}:{last if last < self._count else '*'}"
            said, found = self._ask("SEARCH", which, "UNDELETED", *(("UNSEEN",) if unseen else ()))
            if said != "OK":
                raise Away("its server does not search its folder")
            uids.update(int(uid) for uid in b" ".join(_texts(found)).split() if uid.isdigit())
        return sorted(uids)

    def fetch(self, uid: int, most: int) -> bytes | None:
        """Return a mail without marking it as read, at most one byte more than ``most``; None where it is gone.

        Raises `Refused` where it is there and not given.
        """
        said, found = self._ask("FETCH", str(uid), f"(BODY.PEEK[]<0.{most + 1}>)", size=most + 1)
        if said != "OK":
            raise Refused("the server does not give it")
        for each in found:
            if isinstance(each, tuple) and b"BODY[" in each[0]:
                return bytes(each[1])
        return b"" if any(b"BODY[" in text for text in _texts(found)) else None

    def mark_seen(self, uid: int) -> None:
        """Mark a mail as read; raise `Refused` where that is not done."""
        self._do("it cannot be marked as read there", "STORE", str(uid), "+FLAGS.SILENT", r"(\Seen)")

    def delete(self, uid: int) -> None:
        """Delete a mail, or mark it as deleted where the server cannot remove one alone; raise `Refused`."""
        self._do("it cannot be deleted there", "STORE", str(uid), "+FLAGS.SILENT", r"(\Deleted)")
        if b"UIDPLUS" in self._can:  # RFC 4315; a plain EXPUNGE would remove what others have marked
            self._do("it cannot be deleted there", "EXPUNGE", str(uid))

    def move(self, uid: int, folder: str) -> None:
        """Move a mail to a folder, which is made where it is not there; raise `Refused` where that is not done."""
        moves = b"MOVE" in self._can  # RFC 6851
        word, target = "MOVE" if moves else "COPY", _quoted(folder)
        said, _ = self._ask(word, str(uid), target)
        if said != "OK":
            with _told():
                self._imap.create(target)
                self._imap.subscribe(target)
            self._do("it cannot be moved to its folder there, or that cannot be made", word, str(uid), target)
        if not moves:
            self.delete(uid)

    def _do(self, what_failed: str, *words: str) -> None:
        if self._ask(*words)[0] != "OK":
            raise Refused(what_failed)

    def _ask(self, *words: str, size: int = 0) -> tuple[str, list[Any]]:
        self._imap.may_say = size + _BESIDE
        with _told():
            return self._imap.uid(*words)

    def close(self) -> None:
        """End the session, and with it the connection."""
        with contextlib.suppress(imaplib.IMAP4.error, OSError):
            self._imap.logout()
        with contextlib.suppress(OSError):
            self._imap.shutdown()

    def cut(self) -> None:
        """End the connection for whoever waits for an answer; callable from any thread."""
        with contextlib.suppress(OSError):
            self._imap.sock.shutdown(socket.SHUT_RDWR)


def _start_tls(imap: imaplib.IMAP4, login: Login) -> None:
    if "STARTTLS" not in imap.capabilities or imap.state != "NONAUTH":
        raise Away("its server offers no STARTTLS here; see `tls` in handoff.yaml")
    imap.starttls(login.context())


def _log_in(imap: imaplib.IMAP4, login: Login) -> None:
    if imap.state == "AUTH":  # it knows who we are, by our certificate
        return
    try:
        if login.token:
            _show_token(imap, login)
        elif "AUTH=PLAIN" in imap.capabilities:  # RFC 4616, which alone is sure of letters beyond ASCII
            imap.authenticate("PLAIN", lambda _: f"\0{login.account}\0{reveal(login.password)}".encode())
        elif "LOGINDISABLED" in imap.capabilities:
            raise Away(_NO_WAY)
        else:
            imap.login(_string(login.account), reveal(login.password))
    except imaplib.IMAP4.abort:
        raise
    except (imaplib.IMAP4.error, UnicodeError):
        what = "access token" if login.token else "account or password"
        raise NotLetIn(f"its server refused our {what}") from None


def _show_token(imap: imaplib.IMAP4, login: Login) -> None:
    """Log in with an access token: RFC 7628, or as Google and Microsoft had it before that."""
    bearer = f"auth=Bearer {login.token}\1\1"
    if "AUTH=OAUTHBEARER" in imap.capabilities:
        name = login.account.replace("=", "=3D").replace(",", "=2C")
        answers = iter((f"n,a={name},\1host={login.host}\1port={login.port}\1{bearer}", "\1"))
        imap.authenticate("OAUTHBEARER", lambda _: next(answers, "").encode())
    elif "AUTH=XOAUTH2" in imap.capabilities:
        answers = iter((f"user={login.account}\1{bearer}",))
        imap.authenticate("XOAUTH2", lambda _: next(answers, "").encode())  # nothing, to what is wrong with the token
    else:
        raise Away(_NO_WAY)


@contextlib.contextmanager
def _told() -> Iterator[None]:
    """Raise `Away` for whatever keeps us from asking the server."""
    try:
        yield
    except imaplib.IMAP4.error:
        raise Away("its server ended the connection, or answered what is no IMAP") from None
    except OSError as error:
        raise Away(not_connected(error, late=_LATE, other="the connection failed")) from None


def _texts(found: list[Any]) -> list[bytes]:
    """Return what is text of an answer, without literals."""
    return [each for each in found if isinstance(each, bytes)]


def _string(text: str) -> str:
    """Return a text as a quoted string, RFC 3501, section 9."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _quoted(folder: str) -> str:
    """Return the name of a folder as a command takes it: in modified UTF-7, RFC 3501, 5.1.3."""
    return _string("".join(_encoded(found[0]) for found in _ASCII.finditer(folder)))


def _encoded(run: str) -> str:
    if run == "&":
        return "&-"
    if run.isascii() and run.isprintable():
        return run
    return "&" + b64encode(run.encode("utf-16-be")).rstrip(b"=").decode().replace("/", ",") + "-"
