"""This module is the answer to whoever sent a message: text that is kept as a delivery, and given out by the listener.

`listen.http.answer.from` names it. A message that comes again is answered with the text of the first time.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from broker.delivery import Delivered, Delivery, Outcome
from broker.spec import DestinationSpec, Escape, Template
from dispatch.hl7_payload import encoded

if TYPE_CHECKING:
    from broker.message import Document
    from broker.parts import Destination, Renderer, Tools


class AnswerOutSpec(DestinationSpec):
    """The answer to whoever sent the message, which waits for it: see `answer` of listen.http."""

    unknown: ClassVar[str] = "retry"
    short_form: ClassVar[str] = "body"
    batch: ClassVar[int] = 64

    body: Template = Field(description="The answer: a template, also as the path of a .j2 file.")
    escape: Escape = "json"

    def build(self, tools: "Tools") -> "Destination":  # noqa: ARG002 - it needs none
        """Build the sending half."""
        return Answering()

    def build_renderer(self, kit: Any) -> "Renderer":
        """Build the pure half: the text."""
        return AnswerRenderer(kit.template(str(self.body), kind=self.escape), hl7=self.escape == "hl7")


@dataclass(frozen=True, slots=True)
class AnswerRenderer:
    """Renders the answer."""

    source: Any
    hl7: bool = False

    def __call__(self, document: "Document") -> bytes:
        """Return the text, in UTF-8; an HL7 message in its own character set."""
        text = str(self.source(document))
        return encoded(text, "answer") if self.hl7 else text.encode("utf-8", "replace")


class Answering:
    """The sending half, which has nothing to send: the listener takes the answer from the delivery."""

    async def open(self) -> None:
        """Need nothing."""

    async def close(self) -> None:
        """Let go of nothing."""

    async def send(self, deliveries: Sequence[Delivery]) -> Sequence[Outcome]:
        """Say that each is ready."""
        return [Delivered(response=delivery.request) for delivery in deliveries]
