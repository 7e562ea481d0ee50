"""This module writes a mail as it goes on the wire: the same bytes for every attempt."""

from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime
from hashlib import sha256
from typing import Final

from dispatch.mail.address import Mailbox

_POLICY: Final = SMTP.clone(cte_type="7bit")  # not every server takes eight bits


@dataclass(frozen=True, slots=True, kw_only=True)
class Mail:
    """One mail; ``sent_at`` in POSIX seconds, ``key`` is the delivery's idempotency key."""

    to: str = field(repr=False)
    subject: str = field(repr=False)
    text: str = field(repr=False)
    html: str = field(default="", repr=False)
    sent_at: float
    key: str


def message_id(mail: Mail, sender: Mailbox) -> str:
    """Return the Message-ID: a server that sees it again can tell that it is the same mail."""
    return f"<{mail.key}@{sender.domain}>"


def compose(mail: Mail, sender: Mailbox) -> bytes:
    """Return the message (RFC 5322) with its text, and HTML where there is any. ASCII throughout."""
    message = EmailMessage(_POLICY)
    message["From"] = sender.header()
    message["To"] = Mailbox(mail.to).header()
    message["Subject"] = mail.subject
    message["Date"] = format_datetime(datetime.fromtimestamp(mail.sent_at, UTC))
    message["Message-ID"] = message_id(mail, sender)
    message["Auto-Submitted"] = "auto-generated"  # RFC 3834: nobody's absence is to answer it
    message.set_content(mail.text)
    if mail.html:
        message.add_alternative(mail.html, subtype="html")
        # The library would roll dice for it.
        message.set_boundary(f"=_{sha256(mail.key.encode()).hexdigest()[:32]}")
    return message.as_bytes()
