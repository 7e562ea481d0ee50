"""This module holds what mailboxes report of the mails in them; no notice says who wrote, to whom, or about what."""

from dataclasses import dataclass
from typing import ClassVar

from broker.notices import Notice


@dataclass(frozen=True, slots=True, kw_only=True)
class MailRead(Notice):
    """Every message of a mail is committed; ``duplicates`` of them were before. ``mail`` is folder and UID."""

    channel: str
    mailbox: str
    mail: str
    messages: int
    duplicates: int


@dataclass(frozen=True, slots=True, kw_only=True)
class MailFailed(Notice):
    """A mail was not taken, or not all of it; ``messages`` of it are committed, and it is kept where it came."""

    level: ClassVar[str] = "error"
    channel: str
    mailbox: str
    mail: str
    messages: int
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class MailRefused(Notice):
    """A mail is from somebody who may not send here, for ``reason``; nothing of it was taken."""

    level: ClassVar[str] = "warning"
    channel: str
    mailbox: str
    mail: str
    reason: str
