"""This module takes a mail apart: who sent it, and which parts of it are messages. It is pure.

A mail is text of strangers, so nothing of it is believed that is not needed, and nothing of it is told: a `Stranger` or
an `Unreadable` says what is wrong in words of ours.
"""

import hashlib
import re
from base64 import b64encode
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from email import errors, policy
from email.message import EmailMessage, MIMEPart
from email.parser import BytesHeaderParser, BytesParser
from email.utils import parsedate_to_datetime
from fnmatch import fnmatchcase
from typing import Any, Final, Literal

import orjson

_MOST_PARTS: Final = 1000
_MOST_NESTED: Final = 32  # parts that hold others; the parser compares each line with the ends of all that are open
_ENCODINGS: Final = frozenset({"", "7bit", "8bit", "binary", "base64", "quoted-printable"})
# What a name may have that is no address, where it is not quoted: a full stop, as in St. Mary.
_HARMLESS: Final = (errors.ObsoleteHeaderDefect,)
_COMMENT: Final = re.compile(r"\([^()]*\)")
_DAMAGED: Final = "a part of it is damaged; have it sent again"

Take = Literal["attachments", "body", "message"]


class Stranger(Exception):
    """The mail is from nobody who may send here."""


class Unreadable(Exception):
    """The mail cannot be taken; ``str()`` says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """Which mails are taken, and what of them; addresses and patterns are in small letters."""

    take: Take
    senders: Sequence[str]
    names: Sequence[str] = ()
    types: Sequence[str] = ()
    authenticated_by: str = ""
    most: int  # bytes of a mail


def read_mail(raw: bytes, rules: Rules) -> list[bytes]:
    """Return what of a mail is a message or holds some; raise `Stranger` or `Unreadable`.

    ``raw`` may have one byte more than ``rules.most``, and is then known to be too large.
    """
    _check_sender(raw, rules)
    try:
        return _read(raw, rules)
    except Unreadable:
        raise
    except Exception:  # noqa: BLE001 - the parser raises whatever it stumbles over (RecursionError, IndexError …)
        raise Unreadable("it is written as no mail is; have it sent again") from None


def _read(raw: bytes, rules: Rules) -> list[bytes]:
    if len(raw) > rules.most:
        raise Unreadable("it is larger than `max_size` allows")
    if raw.lower().count(b"multipart/") > _MOST_NESTED:
        raise Unreadable(f"it has more than {_MOST_NESTED} parts that hold others")
    mail = BytesParser(EmailMessage, policy=policy.default).parsebytes(raw)
    leaves = list(_leaves(mail))
    if rules.take == "message":
        return [_as_json(mail, leaves, rules)]
    if rules.take == "body":
        return [_text(leaves).encode()]
    found = [_content(leaf) for leaf in leaves if _is_wanted(leaf, rules)]
    if not found:
        raise Unreadable("it has no attachment that is taken; see `names` and `types`")
    return found


def identify(raw: bytes) -> bytes:
    """Return 16 bytes by which a mail is known where its folder was numbered anew: of its Message-ID and its body."""
    head, _, body = raw.partition(b"\r\n\r\n")
    names = BytesHeaderParser(policy=policy.compat32).parsebytes(head).get_all("message-id") or []
    known = "".join(str(name).strip() for name in names).encode("utf-8", "surrogateescape")
    # Headers may change on the way from one server to another, but without a Message-ID there is nothing else.
    return hashlib.sha256(known + b"\0" + (body if known else raw)).digest()[:16]


def _check_sender(raw: bytes, rules: Rules) -> None:
    head, _, _ = raw.partition(b"\r\n\r\n")
    try:
        headers = BytesHeaderParser(EmailMessage, policy=policy.default).parsebytes(head)
        told: list[Any] = headers.get_all("from", [])
        sender = _sole_address(told).lower()
    except Exception:  # noqa: BLE001 - as above
        raise Stranger("nobody can tell who sent it: it needs one `From` with one address") from None
    if not any(fnmatchcase(sender, pattern) for pattern in rules.senders):
        raise Stranger("it is from an address that `from` does not name")
    if rules.authenticated_by and not _is_authenticated(headers, rules.authenticated_by):
        raise Stranger("our mail server did not find that it is from whom it says (DMARC); see `authenticated_by`")


def _sole_address(told: Sequence[Any]) -> str:
    """Return the one address that there is, written without any doubt; raise ValueError else."""
    [header] = told
    [address] = header.addresses
    if any(not isinstance(defect, _HARMLESS) for defect in header.defects):
        raise ValueError
    return str(address.addr_spec)


def _is_authenticated(headers: EmailMessage, server: str) -> bool:
    """Say whether the newest word of a server about this mail is that it passed DMARC (RFC 8601, RFC 7489).

    A server puts its word on top, and removes what others said in its name (RFC 8601, section 5).
    """
    for header in headers.get_all("authentication-results", []):
        name, *results = _COMMENT.sub("", str(header)).lower().split(";")
        if name.split()[:1] == [server]:
            return any(re.match(r"\s*dmarc\s*=\s*pass\b", result) for result in results)
    return False


def _leaves(mail: EmailMessage) -> Iterator[MIMEPart]:
    """Yield the parts that hold no others; a mail in a mail is one. Raises `Unreadable`."""
    waiting: list[MIMEPart] = [mail]
    count = 0
    while waiting:
        part = waiting.pop(0)
        count += 1
        if count > _MOST_PARTS:
            raise Unreadable(f"it has more than {_MOST_PARTS} parts")
        if part.get_content_maintype() == "message" or not part.is_multipart():
            if part.get_content_maintype() == "multipart":
                raise Unreadable("its parts cannot be told apart")
            yield part
            continue
        if part.defects:
            raise Unreadable("it is not whole, or its parts cannot be told apart; have it sent again")
        waiting[:0] = part.iter_parts()


def _is_wanted(leaf: MIMEPart, rules: Rules) -> bool:
    """Say whether a part is an attachment that is taken; where nothing says which, every one is."""
    name, kind = _name(leaf).lower(), leaf.get_content_type()
    if not name and not leaf.is_attachment() and kind in {"text/plain", "text/html"}:
        return False
    fits_name = not rules.names or any(fnmatchcase(name, pattern) for pattern in rules.names)
    return fits_name and (not rules.types or any(fnmatchcase(kind, pattern) for pattern in rules.types))


def _name(leaf: MIMEPart) -> str:
    """Return what the sender calls an attachment, without folders."""
    return re.split(r"[/\\]", leaf.get_filename() or "")[-1].strip()


def _content(leaf: MIMEPart) -> bytes:
    """Return the bytes of a part; raise `Unreadable` where they are not sure to be what was sent."""
    if leaf.get_content_maintype() == "message":
        inner = leaf.get_payload()
        if leaf.get_content_type() != "message/rfc822" or not isinstance(inner, list) or not inner:
            raise Unreadable(_DAMAGED)
        return inner[0].as_bytes()  # type: ignore[union-attr]  # it is a message
    if str(leaf.get("content-transfer-encoding", "")).strip().lower() not in _ENCODINGS:
        raise Unreadable("a part of it is encoded in a way that mail does not have")
    found = leaf.get_payload(decode=True)
    if leaf.defects or not isinstance(found, bytes):
        raise Unreadable(_DAMAGED)
    return found


def _text(leaves: Sequence[MIMEPart]) -> str:
    """Return the first plain text that is no attachment; raise `Unreadable` where there is none."""
    for leaf in leaves:
        if leaf.get_content_type() == "text/plain" and not leaf.is_attachment():
            try:
                return _content(leaf).decode(leaf.get_content_charset("us-ascii"))
            except (LookupError, UnicodeError):
                raise Unreadable("its text is not in the encoding that it names") from None
    raise Unreadable("it has no plain text")


def _as_json(mail: EmailMessage, leaves: Sequence[MIMEPart], rules: Rules) -> bytes:
    """Return a mail as one JSON message, with the attachments that are wanted in Base64."""
    has_text = any(leaf.get_content_type() == "text/plain" and not leaf.is_attachment() for leaf in leaves)
    return orjson.dumps(
        {
            "message_id": _header(mail, "message-id"),
            "date": _date(mail),
            "from": _header(mail, "from"),
            "to": _header(mail, "to"),
            "subject": _header(mail, "subject"),
            "text": _text(leaves) if has_text else None,
            "attachments": [
                {"name": _name(leaf), "type": leaf.get_content_type(), "content": b64encode(_content(leaf)).decode()}
                for leaf in leaves
                if _is_wanted(leaf, rules)
            ],
        }
    )


def _header(mail: EmailMessage, name: str) -> str | None:
    value = mail.get(name)
    return None if value is None else str(value).encode("utf-8", "replace").decode()


def _date(mail: EmailMessage) -> str | None:
    try:
        return parsedate_to_datetime(str(mail["date"])).isoformat()
    except (ValueError, TypeError):
        return None
