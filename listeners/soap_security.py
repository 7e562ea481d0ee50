"""This module reads who calls from an envelope: WS-Security's UsernameToken, each of which is taken once.

Web Services Security: SOAP Message Security 1.0 and Username Token Profile 1.0 (OASIS, 2004). Signatures and encryption
in an envelope are not understood; TLS does both.
"""

import base64
import hashlib
import hmac
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final
from xml.etree.ElementTree import Element

from listeners.http_callers import UNKNOWN, is_one_of
from listeners.http_request import RETRY_AFTER, Refusal
from listeners.soap_envelope import SoapRefusal

_OASIS: Final = "http://docs.oasis-open.org/wss/2004/01/oasis-200401-wss-"
WSSE: Final = f"{_OASIS}wssecurity-secext-1.0.xsd"
_WSU: Final = f"{_OASIS}wssecurity-utility-1.0.xsd"
_PROFILE: Final = f"{_OASIS}username-token-profile-1.0#"
SECURITY: Final = f"{{{WSSE}}}Security"
_TOKEN: Final = f"{{{WSSE}}}UsernameToken"
_STAMP: Final = f"{{{_WSU}}}Timestamp"
_MOST_TOKENS: Final = 100_000  # that are remembered at a time


@dataclass(frozen=True, slots=True)
class Login:
    """A user, and what tells whether a password is what it showed."""

    user: str = field(repr=False)
    shows: Callable[[str], bool] = field(repr=False)
    token: bytes = field(default=b"", repr=False)  # what makes it the same as one before; nothing where none does


def plain_login(user: str, password: str) -> Login:
    """Return the login of somebody who showed the password itself."""
    return Login(user, _is(password))


def _is(password: str) -> Callable[[str], bool]:
    return lambda known: is_one_of(password, [known])


class Tokens:
    """Reads the tokens of one listener, and knows those again that it has read within the ``window`` (seconds)."""

    def __init__(self, window: float, clock: Callable[[], float]) -> None:
        self._window = window
        self._clock = clock
        self._seen: dict[bytes, float] = {}  # by digest; until when it could come again

    def read(self, security: Element) -> Login | None:
        """Return who the header `wsse:Security` says it is, None where it does not say. Raises `Refusal`."""
        for stamp in security.findall(_STAMP):
            self._see_stamp(stamp)
        found = security.findall(_TOKEN)
        strange = [child for child in security if child.tag not in {_TOKEN, _STAMP}]
        if strange or len(found) > 1:
            text = "of wsse:Security one UsernameToken and a Timestamp are understood, and nothing else"
            raise SoapRefusal(text, subcode=(WSSE, "UnsupportedSecurityToken"), kind="security", status=401)
        return self._login(found[0]) if found else None

    def _login(self, token: Element) -> Login:
        user = (token.findtext(f"{{{WSSE}}}Username") or "").strip()
        password = token.find(f"{{{WSSE}}}Password")
        created = (token.findtext(f"{{{_WSU}}}Created") or "").strip()
        nonce = (token.findtext(f"{{{WSSE}}}Nonce") or "").strip()
        if not user or password is None:
            raise _invalid("a UsernameToken needs Username and Password")
        if created:
            self._see_near(created)
        salt = _decoded(nonce) + created.encode()
        once = hashlib.sha256(user.encode() + b"\0" + salt).digest() if nonce else b""
        kind, shown = password.get("Type", ""), password.text or ""
        if kind in {"", f"{_PROFILE}PasswordText"}:
            return Login(user, _is(shown), once)
        if kind != f"{_PROFILE}PasswordDigest" or not nonce or not created:
            raise _invalid("a UsernameToken has a PasswordText, or a PasswordDigest with Nonce and Created")
        return Login(user, _digested(shown.strip(), salt), once)

    def spend(self, login: Login) -> None:
        """Take a login as used, once it is known whose it is. Raises `Refusal` where it was used already."""
        if not login.token:
            return
        now = self._clock()
        while self._seen and next(iter(self._seen.values())) < now:
            del self._seen[next(iter(self._seen))]
        if login.token in self._seen:
            raise _failed("a UsernameToken came again; make a new one for each request")
        if len(self._seen) >= _MOST_TOKENS:
            raise Refusal(503, "too many logins at a time; come again later", headers={"retry-after": RETRY_AFTER})
        self._seen[login.token] = now + 2 * self._window  # one from ahead of us is taken for so long

    def _see_near(self, created: str) -> None:
        if not abs(_moment(created) - self._clock()) <= self._window:
            raise _failed("the UsernameToken is too old, or its clock is not ours", "MessageExpired")

    def _see_stamp(self, stamp: Element) -> None:
        """See that a message has not expired."""
        expires = (stamp.findtext(f"{{{_WSU}}}Expires") or "").strip()
        if expires and _moment(expires) + self._window < self._clock():
            raise _failed("the message has expired", "MessageExpired")


def _decoded(nonce: str) -> bytes:
    """Return what a nonce stands for: spelt otherwise, it is the same."""
    try:
        return base64.b64decode(nonce, validate=True)
    except ValueError:
        raise _invalid("the Nonce of the UsernameToken is no Base64") from None


def _digested(shown: str, salt: bytes) -> Callable[[str], bool]:
    """Return what compares a digest: Base64 of SHA-1 over nonce, created and password (Username Token Profile, 3.1)."""

    def shows(password: str) -> bool:
        digest = hashlib.sha1(salt + password.encode()).digest()  # noqa: S324 - the profile says which
        return hmac.compare_digest(base64.b64encode(digest), shown.encode())

    return shows


def _moment(text: str) -> float:
    try:
        moment = datetime.fromisoformat(text)
        return (moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        raise _invalid("a time in wsse:Security is none; write it as 2026-11-28T09:30:00Z") from None


def _invalid(text: str) -> SoapRefusal:
    return SoapRefusal(text, subcode=(WSSE, "InvalidSecurityToken"), kind="security", status=401)


def _failed(text: str, subcode: str = "FailedAuthentication") -> SoapRefusal:
    return SoapRefusal(text, subcode=(WSSE, subcode), kind="security", status=401)


def stranger(*, of_header: bool) -> SoapRefusal:
    """Return the refusal of a login that nobody has; what was wrong with it is not said."""
    subcode = (WSSE, "FailedAuthentication") if of_header else None
    return SoapRefusal(UNKNOWN, subcode=subcode, kind="security", status=401)
