"""This module sends HL7 v2 messages on to a partner over MLLP, and believes nothing but the partner's answer.

What is frozen for every attempt is the message itself, so MSH-7 and MSH-10 stay the same and a partner can tell that a
message came before.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Final, Literal, Self

from pydantic import Field, model_validator

from broker.errors import ConfigError, MessageError, StepError
from broker.hosts import is_loopback
from broker.spec import DestinationSpec, Endpoint, Seconds, Template
from broker.tls import TlsSpec, build_tls, make_context
from broker.wire.ack import check_header, is_acknowledgment
from broker.wire.draft import Draft
from broker.wire.er7 import Message
from broker.wire.header import read_header
from dispatch.hl7_payload import encoded, in_lines
from dispatch.mllp_answer import Action, Code, Table
from dispatch.mllp_partner import Awaited, Dialled, Lines, Partner, WaitFor
from dispatch.original import ORIGINAL

if TYPE_CHECKING:
    from broker.message import Document
    from broker.parts import Destination, Renderer, Tools

_FRAMING: Final = (b"\x0b", b"\x1c\r")
_PARTS: Final = 3  # of MSH-3 to MSH-6: namespace, universal id, its type

Wish = Literal["AL", "NE", "ER", "SU"]


def _is_here(endpoint: str) -> bool:
    return is_loopback(endpoint.rpartition(":")[0].strip("[]"))


class MllpOutSpec(DestinationSpec):
    """An HL7 v2 message sent to a partner over MLLP."""

    unknown: ClassVar[str] = "retry"

    endpoint: Endpoint | None = Field(default=None, description="Where the partner listens, as host:port.")
    listen: Endpoint | None = Field(
        default=None, description="Instead of `endpoint`: where we listen, for a partner that dials in to get messages."
    )
    message: Template = Field(
        default=Template(ORIGINAL),
        description="The message: `original` for the bytes as received, or a template such as "
        "`{{ event | hl7('ADT^A08') }}`.",
    )
    sending: str | None = Field(
        default=None, min_length=1, description="MSH-3 and MSH-4 to send under, such as HANDOFF|MERCY."
    )
    receiving: str | None = Field(default=None, min_length=1, description="MSH-5 and MSH-6, such as EHR|MERCY.")
    accept_ack: Wish | None = Field(default=None, description="MSH-15 to send: when the partner says that it kept it.")
    application_ack: Wish | None = Field(
        default=None, description="MSH-16 to send: when the partner's application answers."
    )
    wait_for: WaitFor = Field(
        default="answer",
        description="What settles a delivery: the first `answer`, be it AA or CA; only the `application`'s own after a "
        "CA; or `nothing`, for partners that never answer.",
    )
    check_control_id: bool = Field(
        default=True, description="Whether MSA-2 must be the message's control id; some partners leave it empty."
    )
    actions: dict[Code, Action] = Field(
        default={},
        description="What an acknowledgment code leads to: delivered, retry, unknown or refused. By default AA and CA "
        "are delivered, AE and CE retried, AR and CR refused.",
    )
    conditions: dict[str, Action] = Field(
        default={},
        description="What an error condition (ERR-3, table 0357) leads to, whatever the code. By default 100 to 104 "
        "and 198 to 205 are refused, and 206 is retried.",
    )
    connections: int = Field(default=1, ge=1, le=100, description="Connections, each with one message under way.")
    connect: Seconds = Field(default=5.0, gt=0, description="How long it may take until a connection stands.")
    timeout: Seconds = Field(default=30.0, gt=0, description="How long the partner may take to answer.")
    keepalive: Seconds = Field(default=60.0, description="Idle time after which TCP asks after the partner; 0 never.")
    tls: TlsSpec | None = Field(default=None, description="TLS, for partners that speak it.")
    unprotected: str = Field(
        default="",
        description="Why it is safe to `listen` for other machines without TLS; without `tls` and without a reason "
        "partners can dial in from this machine only.",
    )

    @property
    def concurrency(self) -> int:
        """How many deliveries may be under way."""
        return self.connections

    @model_validator(mode="after")
    def _sensible(self) -> Self:
        if (self.endpoint is None) == (self.listen is None):
            raise ValueError("needs either `endpoint`, where the partner listens, or `listen`, where it dials in")
        if self.tls is not None and self.listen is not None and self.tls.certificate is None:
            raise ValueError("`listen` with `tls` needs a certificate; name its file in tls.certificate")
        if self.listen is not None and self.tls is None and not self.unprotected and not _is_here(self.listen):
            raise ValueError(f"{self.listen} lets other machines in without TLS; add tls, or say in `unprotected` why")
        if self.wait_for == "application" and self.application_ack == "NE":
            raise ValueError("`wait_for: application` waits for what `application_ack: NE` forbids; leave one out")
        wrong = [name for name in self.conditions if not (name.isascii() and name.isdigit())]
        if wrong:
            raise ValueError("`conditions` has codes of HL7 table 0357, which are numbers such as 206")
        return self

    def build(self, tools: "Tools") -> "Destination":
        """Build the sending half; raise `ConfigError` when a certificate cannot be used."""
        return Partner(
            peer=f"partner {self.endpoint or self.listen}",
            lines=self._lines(tools),
            table=Table({str(code): action for code, action in self.actions.items()}, self.conditions),
            connections=self.connections,
            timeout=self.timeout,
            wait_for=self.wait_for,
            check_control_id=self.check_control_id,
        )

    def _lines(self, tools: "Tools") -> Lines:
        root = getattr(tools.settings, "root", None) or Path()
        host, _, port = (self.endpoint or self.listen or "").rpartition(":")
        host = host.strip("[]")
        where = f"channel {tools.channel}: mllp.tls"
        if self.listen is not None:
            context = make_context(self.tls, root, where, serving=True) if self.tls is not None else None
            times = (self.connect, self.keepalive)
            return Awaited(host, int(port), *times, self.connections, tools.channel, tools.notify, context)
        return Dialled(host, int(port), self.connect, self.keepalive, build_tls(self.tls, tools, where))

    def build_renderer(self, kit: Any) -> "Renderer":
        """Build the pure half: the message, with its own header values."""
        source = None
        if self.message.strip() == ORIGINAL:
            if kit.format.kind != "hl7":
                text = f"the messages of this channel are {kit.format.kind}, and a partner gets HL7 v2; "
                raise ConfigError(text + "write `message: \"{{ event | hl7('ADT^A08') }}\"`")
        else:
            source = kit.template(str(self.message), kind="hl7")
        return MessageRenderer(source, self._changes())

    def _changes(self) -> tuple[tuple[str, str], ...]:
        changes: list[tuple[str, str]] = []
        for names, first in ((self.sending, 3), (self.receiving, 5)):
            if names is not None:
                application, _, facility = names.partition("|")
                changes += _party(first, application) + _party(first + 1, facility)
        wishes = (("MSH-15", self.accept_ack), ("MSH-16", self.application_ack))
        return (*changes, *((place, wish) for place, wish in wishes if wish is not None))


def _party(field: int, name: str) -> list[tuple[str, str]]:
    """Return what makes a field of MSH the name of one party, with nothing left of another's universal id."""
    parts = [*name.split("^"), "", ""][:_PARTS]
    return [(f"MSH-{field}.{number}", part) for number, part in enumerate(parts, 1)]


@dataclass(frozen=True, slots=True)
class MessageRenderer:
    """Renders the payload of the frame: the message as received, or from a template, with some of MSH set."""

    source: Any  # None: the message as received
    changes: tuple[tuple[str, str], ...] = ()

    def __call__(self, document: "Document") -> bytes:
        """Return the message; raise `StepError` where it is none that a partner could take and answer."""
        payload = in_lines(document.message) if self.source is None else encoded(str(self.source(document)), "mllp")
        try:
            if self.changes:
                draft = Draft(Message.parse(payload))
                for place, value in self.changes:
                    draft.set(place, value)
                payload = draft.encode()
            header = read_header(payload)
        except MessageError as error:
            raise StepError(f"mllp: {error}", location=error.location) from None
        refusal = check_header(header)
        if refusal is not None:
            raise StepError(f"mllp: a partner would refuse this message: {refusal}", location=refusal.location)
        if is_acknowledgment(header, payload):
            raise StepError("mllp: the message is an acknowledgment, which nobody answers", location="MSH-9")
        if any(mark in payload for mark in _FRAMING):
            raise StepError("mllp: the message holds bytes that end an MLLP frame, so a partner would get a part of it")
        return payload
