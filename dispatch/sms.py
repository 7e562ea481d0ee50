"""This module sends text messages through a gateway of ``handoff.yaml``.

A text cannot be taken back and hardly a gateway knows an idempotency key, so an unknown outcome is held for a person to
decide. What is frozen for every attempt is number and text, with the alphabet and the count of short messages that
they take; what goes on the wire is made from it without anything that changes (no clock, no random value).
"""

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, Final

import orjson
from pydantic import Field

from broker.delivery import Delivered, Delivery, Outcome, Retry, Suppressed
from broker.errors import NotAccepted, StepError
from broker.named import find_named
from broker.notices_texts import TextSent
from broker.spec import DestinationSpec, Seconds, Template
from broker.wire.gsm import cut
from dispatch.patients.consents import Consents, withdrawal_of
from dispatch.texts.arrivals import Arrivals
from dispatch.texts.gateway import Gateway, Text
from dispatch.texts.number import e164
from dispatch.texts.segments import SegmentsSpec, counted
from dispatch.way import witnessed

if TYPE_CHECKING:
    from broker.message import Document
    from broker.parts import Destination, Renderer, Tools

LONGEST_TEXT: Final = 1600  # characters; ten short messages, and what Twilio takes at most (else its code 21617)


class SmsSpec(DestinationSpec):
    """A text message through a gateway of ``handoff.yaml``."""

    unknown: ClassVar[str] = "hold"
    medium: ClassVar[str | None] = "sms"

    gateway: str = Field(description="Name of the gateway, as under `gateways:` in handoff.yaml.")
    to: Template = Field(description="The recipient's number, usually a hole such as `{{ patient.mobile }}`.")
    text: Template = Field(description="The text: a literal with holes, or the path of a .j2 file. 1600 characters.")
    region: str = Field(
        default="",
        pattern=r"^([A-Z]{2})?$",
        description="Two-letter country (such as US) for numbers written without a country code.",
    )
    segments: SegmentsSpec | None = Field(
        default=None, description="How many short messages a text may take, such as `{most: 3}`; by default any number."
    )
    concurrency: int = Field(default=8, ge=1, le=100, description="Texts under way at a time.")
    timeout: Seconds = Field(default=10.0, gt=0, description="How long the gateway may take to answer.")

    def build(self, tools: "Tools") -> "Destination":
        """Build the sending half; raise `ConfigError` when the gateway is missing or incomplete."""
        where = f"channel {tools.channel}"
        declared = find_named(tools.settings.gateways, self.gateway, where, "gateway", "gateways")
        gateway = declared.build(self.gateway, tools, timeout=self.timeout, limit=self.concurrency)
        arrivals = Arrivals(self.gateway, declared.replies, tools)
        return Texts(self.gateway, gateway, Consents(str(tools.settings.patients)), arrivals, declared.price, tools)

    def build_renderer(self, kit: Any) -> "Renderer":
        """Build the pure half: number and text, checked and frozen."""
        most = self.segments.most if self.segments else None
        return TextRenderer(kit.value(str(self.to)), kit.template(str(self.text), kind="filled"), self.region, most)


@dataclass(frozen=True, slots=True)
class TextRenderer:
    """Renders ``{"encoding", "segments", "text", "to"}`` as JSON; ``to`` in E.164."""

    to: Any
    text: Any
    region: str = ""
    most: int | None = None

    def __call__(self, document: "Document") -> bytes:
        """Return the request; raise `StepError` when number or text cannot be used."""
        text = str(self.text(document)).strip()
        if not text:
            raise StepError("sms: the text is empty; the template gave nothing for this message")
        if len(text) > LONGEST_TEXT:
            message = f"sms: the text has {len(text)} characters; a gateway takes at most {LONGEST_TEXT}, so shorten it"
            raise StepError(message)
        cut = counted(text, self.most)
        request = {
            "encoding": cut.encoding,
            "segments": cut.segments,
            "text": text,
            "to": e164(self.to(document), self.region),
        }
        return orjson.dumps(request, option=orjson.OPT_SORT_KEYS)


class Texts:
    """Sends texts through one gateway, but for those to recipients who opted out."""

    def __init__(
        self, name: str, gateway: Gateway, consents: Consents, arrivals: Arrivals, price: Any, tools: "Tools"
    ) -> None:
        self._name = name
        self._gateway = gateway
        self._consents = consents
        self._arrivals = arrivals
        self._price = price  # config.gateways.PriceSpec, or None
        self._notify = tools.notify

    async def open(self) -> None:
        """Get ready to send."""
        self._consents.open()
        await self._gateway.open()

    async def close(self) -> None:
        """Let go of connections."""
        await self._gateway.close()
        await self._consents.close()

    async def send(self, deliveries: Sequence[Delivery]) -> Sequence[Outcome]:
        """Send one text after the other."""
        return [await witnessed(self._send(delivery)) for delivery in deliveries]

    async def _send(self, delivery: Delivery) -> Outcome:
        request = orjson.loads(delivery.request)
        withdrawal = await self._consents.ask_or_wait(withdrawal_of, request["to"])
        if isinstance(withdrawal, Retry):
            return withdrawal
        if withdrawal is not None:
            return Suppressed(str(withdrawal))
        outcome = await self._gateway.send(Text(request["to"], request["text"], delivery.key))
        if isinstance(outcome, Suppressed):
            with contextlib.suppress(NotAccepted):  # the next text to that number finds out again
                await self._arrivals.opted_out(request["to"], delivery.key)
        if isinstance(outcome, Delivered):
            self._tell(request.get("segments") or cut(request["text"]).segments)
            named = " ".join(f"{self._name}/{one}" for one in outcome.reference.split())
            return replace(outcome, reference=named)
        return outcome

    def _tell(self, segments: int) -> None:
        price = self._price
        cost = 0.0 if price is None else float(price.segment * segments)
        currency = "" if price is None else price.currency
        self._notify(TextSent(gateway=self._name, segments=segments, cost=cost, currency=currency))
