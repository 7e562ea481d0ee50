"""This module passes messages on to another channel of the same engine, which takes each of them once.

The message there and the end of the delivery here are committed in one transaction: there is neither without the other.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from broker.delivery import Delivered, Delivery, Outcome, Rejected, Retry
from broker.errors import NotAccepted, StepError
from broker.message import Inbound
from broker.passing import passed_by
from broker.spec import DestinationSpec, Escape, Template
from dispatch.hl7_payload import encoded
from dispatch.original import ORIGINAL, original

if TYPE_CHECKING:
    from broker.message import Document
    from broker.parts import Destination, Intake, Renderer, Tools


class ChannelOutSpec(DestinationSpec):
    """Another channel of this engine, which gets the message as if it had come in there."""

    unknown: ClassVar[str] = "retry"
    short_form: ClassVar[str] = "to"

    to: str = Field(min_length=1, description="Name of the other channel.")
    message: Template = Field(
        default=Template(ORIGINAL),
        description="The message: `original` for the bytes as received, or a template, also as the path of a .j2 file.",
    )
    escape: Escape = "text"
    concurrency: int = Field(default=16, ge=1, le=200, description="Messages under way at a time.")

    @property
    def passes_original(self) -> bool:
        """Whether the other channel gets what this one got, so that both must read the same format."""
        return self.message.strip() == ORIGINAL

    def build(self, tools: "Tools") -> "Destination":
        """Build the sending half."""
        return OtherChannel(tools.channel, self.to, tools.intake)

    def build_renderer(self, kit: Any) -> "Renderer":
        """Build the pure half: the message."""
        source = None if self.passes_original else kit.template(str(self.message), kind=self.escape)
        return MessageRenderer(source, hl7=self.escape == "hl7")


@dataclass(frozen=True, slots=True)
class MessageRenderer:
    """Renders the message that the other channel gets."""

    source: Any  # None: the message as received
    hl7: bool = False

    def __call__(self, document: "Document") -> bytes:
        """Return the message; raise `StepError` where there is none."""
        if self.source is None:
            return original(document, "channel")
        text = str(self.source(document))
        if not text.strip():
            raise StepError("channel: the message is empty; the template gave nothing for this one")
        return encoded(text, "channel") if self.hl7 else text.encode("utf-8", "replace")


@dataclass(frozen=True, slots=True)
class OtherChannel:
    """The sending half; see `broker.parts.Destination`."""

    own: str
    to: str
    intake: "Intake"

    async def open(self) -> None:
        """Need nothing."""

    async def close(self) -> None:
        """Let go of nothing."""

    async def send(self, deliveries: Sequence[Delivery]) -> Sequence[Outcome]:
        """Hand in one message after the other."""
        return [self._send(delivery) for delivery in deliveries]

    def _send(self, delivery: Delivery) -> Outcome:
        inbound = Inbound(
            channel=self.to,
            body=delivery.request,
            peer=passed_by(self.own, delivery.id),
            received_at=time.time(),
            key=delivery.key.encode(),
        )
        try:
            return Delivered(commit=self.intake.pass_on(inbound))
        except NotAccepted as refusal:
            reason = f"channel {self.to}: did not take the message ({refusal})"
            return Retry(reason, is_away=True) if refusal.is_ours else Rejected(reason, location=refusal.location)
        except KeyError:
            return Retry(f"channel {self.to}: it does not run", is_away=True)
