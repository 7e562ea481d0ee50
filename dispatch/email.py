"""This module sends e-mail through a mail server of ``handoff.yaml``.

A mail cannot be taken back, and few receivers look at its Message-ID to see that it came before, so an unknown outcome
is held for a person to decide. What is frozen is recipient, subject, text and date; with the delivery's key they make
the same bytes for every attempt.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Final, Literal

import orjson
from pydantic import Field

from broker.delivery import Delivery, Outcome
from broker.errors import StepError
from broker.named import find_named
from broker.spec import DestinationSpec, Seconds, Template
from dispatch.mail.address import read_address
from dispatch.mail.compose import Mail
from dispatch.mail.server import MailServer, submit
from dispatch.way import witnessed

if TYPE_CHECKING:
    from broker.message import Document
    from broker.parts import Destination, Renderer, Tools

LONGEST_SUBJECT: Final = 250  # characters
LONGEST_TEXT: Final = 200_000
_CONTROL: Final = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]")


class EmailSpec(DestinationSpec):
    """An e-mail through a mail server of ``handoff.yaml``."""

    unknown: ClassVar[str] = "hold"
    medium: ClassVar[str | None] = "email"

    mail_server: str = Field(description="Name of the mail server, as under `mail_servers:` in handoff.yaml.")
    to: Template = Field(description="The recipient's address, usually a hole such as `{{ patient.email }}`.")
    subject: Template = Field(description="The subject. Keep it without anything clinical.")
    text: Template = Field(description="The text: a literal with holes, or the path of a .j2 file.")
    html: Template | None = Field(
        default=None, description="The same as HTML, for readers that show it; values are escaped."
    )
    notify: list[Literal["failure", "delay", "success"]] = Field(
        default=[], description="Reports (DSN) to ask for, where the server knows them; they go to the sender."
    )
    concurrency: int = Field(default=4, ge=1, le=50, description="Mails under way at a time.")
    timeout: Seconds = Field(default=30.0, gt=0, description="How long the server may take for each answer.")

    def build(self, tools: "Tools") -> "Destination":
        """Build the sending half; raise `ConfigError` when the mail server is missing."""
        server = find_mail_server(tools.settings, self.mail_server, tools.channel)
        return Mails(server, self.timeout, ",".join(word.upper() for word in self.notify))

    def build_renderer(self, kit: Any) -> "Renderer":
        """Build the pure half: recipient, subject and text, checked and frozen."""
        html = kit.template(str(self.html), kind="filled_html") if self.html is not None else None
        subject, text = kit.template(str(self.subject), kind="filled"), kit.template(str(self.text), kind="filled")
        return MailRenderer(kit.value(str(self.to)), subject, text, html)


def find_mail_server(settings: Any, name: str, channel: str) -> MailServer:
    """Look a mail server up in the settings; raise `ConfigError` when it is missing."""
    import ssl  # noqa: PLC0415 - only where there is a mail server

    found = find_named(settings.mail_servers, name, f"channel {channel}", "mail server", "mail_servers")
    host, _, port = found.endpoint.rpartition(":")
    return MailServer(
        name=name,
        host=host.strip("[]"),
        port=int(port),
        tls="none" if found.plain else found.tls,
        sender=found.mailbox,
        account=found.account,
        password=found.password,
        context=None if found.plain else ssl.create_default_context(),
    )


@dataclass(frozen=True, slots=True)
class MailRenderer:
    """Renders ``{"date", "html", "subject", "text", "to"}`` as JSON; the date is when the message came."""

    to: Any
    subject: Any
    text: Any
    html: Any = None

    def __call__(self, document: "Document") -> bytes:
        """Return the request; raise `StepError` when recipient, subject or text cannot be used."""
        request = {
            "date": int(document.received_at),
            "html": "" if self.html is None else _body(self.html(document), "html"),
            "subject": _subject(self.subject(document)),
            "text": _body(self.text(document), "text"),
            "to": _recipient(self.to(document)),
        }
        return orjson.dumps(request, option=orjson.OPT_SORT_KEYS)


def _recipient(value: object) -> str:
    text = "" if value is None else str(value).strip()
    if not text:
        raise StepError("email: there is no address to send to; guard with `when: patient.email`")
    address = read_address(text)
    if address is None:
        raise StepError("email: the recipient is no mail address (one, in ASCII, without a name)")
    return address


def _subject(value: object) -> str:
    text = str(value).strip()
    if not text:
        raise StepError("email: the subject is empty; the template gave nothing for this message")
    if _CONTROL.search(text):  # a line break would begin another header
        raise StepError("email: the subject holds a line break or control character; clean the value that brings it")
    if len(text) > LONGEST_SUBJECT:
        raise StepError(f"email: the subject has {len(text)} characters and may have {LONGEST_SUBJECT}; shorten it")
    return text


def _body(value: object, part: str) -> str:
    text = str(value).strip()
    if not text:
        raise StepError(f"email: the {part} is empty; the template gave nothing for this message")
    if len(text) > LONGEST_TEXT:
        raise StepError(f"email: the {part} has {len(text)} characters and may have {LONGEST_TEXT}; shorten it")
    return text + "\n"


class Mails:
    """Sends mails through one server, each over a connection of its own."""

    def __init__(self, server: MailServer, timeout: float, notify: str) -> None:
        self._server = server
        self._timeout = timeout
        self._notify = notify

    async def open(self) -> None:
        """Get ready to send; nothing is kept open."""

    async def close(self) -> None:
        """Let go of connections; none is kept."""

    async def send(self, deliveries: Sequence[Delivery]) -> Sequence[Outcome]:
        """Send one mail after the other."""
        return [await witnessed(self._send(delivery)) for delivery in deliveries]

    async def _send(self, delivery: Delivery) -> Outcome:
        said = orjson.loads(delivery.request)
        mail = Mail(
            to=said["to"],
            subject=said["subject"],
            text=said["text"],
            html=said["html"],
            sent_at=said["date"],
            key=delivery.key,
        )
        return await submit(self._server, mail, seconds=self._timeout, notify=self._notify)
