"""This module lets messages in from a mailbox: attachments, texts or whole mails, by a schedule, each mail once.

A mail is marked or moved only when all that it holds is committed. Until then it is where it came, and what is read
again the intake knows by the mail's place in its folder.
"""

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from broker.named import find_named
from broker.schedule import CatchUp, ScheduleSpec
from broker.spec import Bytes, ListenerSpec, Seconds
from broker.tls import TlsSpec, build_tls
from listeners.mail_parts import Rules, Take

if TYPE_CHECKING:
    from broker.parts import Tools
    from listeners.mail_session import Login
    from listeners.mailbox import MailboxListener

_SENDER: Final = re.compile(r"\*|(\*|[^\s@*?\[\]]+)@(\*\.)?[^\s@*?\[\]]+")


def _sender(value: str) -> str:
    if not _SENDER.fullmatch(value):
        raise ValueError("needs an address such as lab@example.org, *@example.org for a domain, or * for everybody")
    return value.lower()


def _small(value: str) -> str:
    return value.lower()


Sender = Annotated[str, AfterValidator(_sender)]
Pattern = Annotated[str, Field(min_length=1), AfterValidator(_small)]
OneOrMore = Pattern | Annotated[tuple[Pattern, ...], Field(min_length=1)]


class ImapSpec(ListenerSpec):
    """Mails of a folder on an IMAP server; their attachments or their text are messages, or hold some."""

    mailbox: str = Field(min_length=1, description="Name of the mailbox, as under `mailboxes:` in handoff.yaml.")
    folder: str = Field(default="INBOX", min_length=1, description="The folder in which mails arrive.")
    schedule: ScheduleSpec = Field(description="When the folder is looked at.")
    search: Literal["all", "unseen"] | None = Field(
        default=None,
        description="Which mails are taken: `all` that are in the folder, or those that nobody has opened (`unseen`). "
        "Without it all, or with `after: seen` the unseen ones.",
    )
    sender: Annotated[list[Sender], Field(min_length=1)] = Field(
        alias="from",
        description="From whom mail is taken, such as `lab@example.org` or `*@example.org`; other mail goes to "
        "`failed`.",
    )
    authenticated_by: str = Field(
        default="",
        description="The name that our mail server gives itself in `Authentication-Results`; with it, only mail that "
        "passed DMARC there is taken.",
    )
    take: Take = Field(
        default="attachments",
        description="What is read: the `attachments`, the text (`body`), or the whole mail as one JSON `message`.",
    )
    names: OneOrMore | None = Field(
        default=None, description="Which attachments by their names, such as `*.csv`, or a list; case does not count."
    )
    types: OneOrMore | None = Field(
        default=None, description="Which attachments by their content types, such as `text/csv`, or a list."
    )
    max_size: Bytes = Field(default=25 * 1024**2, ge=1, le=256 * 1024**2, description="The largest mail that is read.")
    after: Literal["move", "seen", "delete"] = Field(
        default="move",
        description="What becomes of a mail whose messages are all committed: it goes to `done`, is marked as read, or "
        "is deleted.",
    )
    done: str = Field(default="Handoff-Done", min_length=1, description="The folder where such mails go.")
    failed: str = Field(default="Handoff-Failed", min_length=1, description="The folder for mails that are not taken.")
    timeout: Seconds = Field(default=30.0, gt=0, description="How long the server may take for each answer.")
    catch_up: CatchUp = 3600.0

    @model_validator(mode="after")
    def _sensible(self) -> Self:
        if self.take == "attachments" and self.names is None and self.types is None:
            raise ValueError('needs `names` or `types`, else every logo would be a message; `names: "*"` means all')
        if self.take == "body" and (self.names is not None or self.types is not None):
            raise ValueError("`names` and `types` are for attachments, and `take: body` reads none")
        if self.after == "seen" and self.search == "all":
            raise ValueError("with `after: seen` and `search: all` every mail would be read again; remove `search`")
        if self.folder in {self.failed, self.done if self.after == "move" else ""}:
            raise ValueError("`done` and `failed` need to be other folders than `folder`, or mails are read again")
        return self

    def usable_formats(self) -> frozenset[str]:
        """Return any for parts of a mail, and JSON for whole ones."""
        return frozenset({"json"}) if self.take == "message" else frozenset()

    @property
    def only_unseen(self) -> bool:
        """Whether mails that somebody has opened are left alone."""
        return self.search == "unseen" or (self.search is None and self.after == "seen")

    def rules(self) -> Rules:
        """Return which mails are taken, and what of them."""
        return Rules(
            take=self.take,
            senders=self.sender,
            names=_all(self.names),
            types=_all(self.types),
            authenticated_by=self.authenticated_by.lower(),
            most=self.max_size,
        )

    def build(self, tools: "Tools") -> "MailboxListener":
        """Build the listener; raise `ConfigError` when the mailbox is missing or a certificate cannot be used."""
        from listeners.mailbox import MailboxListener  # noqa: PLC0415 - imaplib is for who reads mail

        login = find_mailbox(tools, self.mailbox, self.timeout)
        data = Path(tools.settings.data)
        tokens = tools.settings.mailboxes[self.mailbox].build_tokens(self.mailbox, data)
        return MailboxListener(self, tools, login, data / "imap" / tools.channel, tokens)


def _all(patterns: str | tuple[str, ...] | None) -> tuple[str, ...]:
    return (patterns,) if isinstance(patterns, str) else patterns or ()


def find_mailbox(tools: "Tools", name: str, timeout: float) -> "Login":
    """Look a mailbox up in the settings; raise `ConfigError` when it is missing or a certificate cannot be used."""
    from listeners.mail_session import Login  # noqa: PLC0415 - as above

    found = find_named(tools.settings.mailboxes, name, f"channel {tools.channel}", "mailbox", "mailboxes")
    host, _, port = found.endpoint.rpartition(":")
    host = host.strip("[]")
    spec = found.certificates or TlsSpec()
    tls = build_tls(spec, tools, f"mailboxes.{name}.certificates")
    assert tls is not None  # noqa: S101 - there is a Spec
    return Login(
        name=name,
        host=host,
        port=int(port),
        tls="none" if found.plain else found.tls,
        account=found.account,
        password=found.password,
        context=tls.context,
        server_name=spec.server_name or host,
        timeout=timeout,
    )
