"""This module sends text messages through a gateway that speaks Twilio's Messages API.

A text cannot be taken back and Twilio knows no idempotency key, so an unknown outcome is held for a person to decide.
What is frozen for every attempt is ``{"text", "to"}``; the form that goes on the wire is made from it without
anything that changes (no clock, no random value).
"""

import base64
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Final
from urllib.parse import quote, urlencode

import orjson
from pydantic import Field

from broker.delivery import Delivered, Delivery, Outcome, Rejected, Retry, Unknown
from broker.errors import ConfigError, StepError
from broker.spec import DestinationSpec, Seconds, Template
from dispatch.http import Answer, Exchange, by_status, retry_after, reveal, web_address, witnessed

if TYPE_CHECKING:
    from broker.message import Document
    from broker.parts import Destination, Renderer, Tools

LONGEST_TEXT: Final = 1600  # characters; Twilio refuses more with code 21617

# Twilio error codes that say why a text can never be sent, in an operator's words.
PERMANENT: Final = {
    20404: "the account is not known to the gateway",
    21211: "the recipient's number is not valid",
    21214: "the recipient's number cannot be reached",
    21217: "the recipient's number does not look valid",
    21408: "the account may not send to the recipient's country",
    21602: "the text is missing",
    21604: "the recipient's number is missing",
    21606: "the sender's number cannot send texts from this account",
    21610: "the recipient has opted out",
    21612: "this sender cannot reach the recipient",
    21614: "the recipient's number is not a mobile number",
    21617: "the text is too long",
    21659: "the sender's number does not belong to this account",
    30003: "the recipient's handset cannot be reached",
    30004: "the message was blocked",
    30005: "the recipient's handset is unknown",
    30006: "the recipient's number is a landline",
    30007: "the carrier filtered the message",
    30034: "the sender's number is not registered with the carriers",
    63016: "the recipient's messaging window is closed",
}
# Twilio error codes with which the request was not processed and may be sent again.
TRANSIENT: Final = {20429: "too many requests at a time", 30001: "the gateway's queue is full"}

_FAILED: Final = frozenset({"failed", "undelivered", "canceled"})


class SmsSpec(DestinationSpec):
    """A text message through a gateway of ``handoff.yaml`` that speaks Twilio's Messages API."""

    unknown: ClassVar[str] = "hold"

    gateway: str = Field(description="Name of the gateway, as under `gateways:` in handoff.yaml.")
    to: Template = Field(description="The recipient's number, usually a hole such as `{{ patient.mobile }}`.")
    text: Template = Field(description="The text: a literal with holes, or the path of a .j2 file. 1600 characters.")
    region: str = Field(
        default="",
        pattern=r"^([A-Z]{2})?$",
        description="Two-letter country (such as US) for numbers written without a country code.",
    )
    concurrency: int = Field(default=8, ge=1, le=100, description="Texts under way at a time.")
    timeout: Seconds = Field(default=10.0, gt=0, description="How long the gateway may take to answer.")

    def build(self, tools: "Tools") -> "Destination":
        """Build the sending half; raise `ConfigError` when the gateway is missing or incomplete."""
        return Twilio(find_gateway(tools.settings, self.gateway, tools.channel), self)

    def build_renderer(self, kit: Any) -> "Renderer":
        """Build the pure half: number and text, checked and frozen."""
        return TextRenderer(kit.value(str(self.to)), kit.template(str(self.text), kind="text"), self.region)


@dataclass(frozen=True, slots=True)
class TextRenderer:
    """Renders ``{"text", "to"}`` as JSON; ``to`` in E.164."""

    to: Any
    text: Any
    region: str = ""

    def __call__(self, document: "Document") -> bytes:
        """Return the request; raise `StepError` when number or text cannot be used."""
        text = str(self.text(document)).strip()
        if not text:
            raise StepError("sms: the text is empty; the template gave nothing for this message")
        if len(text) > LONGEST_TEXT:
            message = f"sms: the text has {len(text)} characters; a gateway takes at most {LONGEST_TEXT}, so shorten it"
            raise StepError(message)
        return orjson.dumps({"text": text, "to": e164(self.to(document), self.region)}, option=orjson.OPT_SORT_KEYS)


def e164(number: object, region: str = "") -> str:
    """Return a telephone number in E.164; raise `StepError`, without the number, when it cannot be one.

    Only the length for its country is checked: which numbers exist changes faster than any table of them.
    """
    import phonenumbers  # noqa: PLC0415 - only needed in a worker, at the first text

    text = "" if number is None else str(number).strip()
    if not text:
        raise StepError("sms: there is no number to send to; guard with `when: patient.mobile`")
    try:
        parsed = phonenumbers.parse(text, region or None)
    except phonenumbers.NumberParseException:
        parsed = None
    if parsed is None or not phonenumbers.is_possible_number(parsed):
        hint = "" if region else ", or set `region:` for numbers without a country code"
        raise StepError(f"sms: the number cannot be a telephone number; it needs + and the country code{hint}")
    return phonenumbers.format_number(parsed, phonenumbers.PhoneNumberFormat.E164)


@dataclass(frozen=True, slots=True)
class Gateway:
    """One gateway of ``handoff.yaml``; ``sender`` is a number, a name, or a Messaging Service (``MG…``)."""

    name: str
    base: str
    account: str
    token: Any
    sender: str
    callback: str = ""


def find_gateway(settings: Any, name: str, channel: str) -> Gateway:
    """Look a gateway up in the settings; raise `ConfigError` when it is missing or incomplete."""
    gateways = settings.gateways
    if name not in gateways:
        known = ", ".join(sorted(gateways)) or "none"
        message = f"channel {channel}: gateway {name!r} is not in handoff.yaml under `gateways:` (there: {known})"
        raise ConfigError(message)
    found, where = gateways[name], f"handoff.yaml, gateways.{name}"
    values = {key: str(getattr(found, key, "") or "") for key in ("account", "sender")}
    for key, value in values.items():
        if not value:
            raise ConfigError(f"{where}: needs `{'from' if key == 'sender' else key}`")
    callback = str(getattr(found, "callback", "") or "")
    return Gateway(
        name=name,
        base=web_address(getattr(found, "base", ""), f"{where}.base"),
        token=getattr(found, "token", ""),
        callback=web_address(callback, f"{where}.callback") if callback else "",
        **values,
    )


class Twilio:
    """Sends texts through Twilio's Messages API (2010-04-01), each over a connection of its own."""

    def __init__(self, gateway: Gateway, spec: SmsSpec) -> None:
        self._gateway = gateway
        self._peer = f"gateway {gateway.name}"
        self._url = f"{gateway.base}/2010-04-01/Accounts/{quote(gateway.account, safe='')}/Messages.json"
        self._http = Exchange(self._peer, timeout=spec.timeout, limit=spec.concurrency, reuse=False)

    async def open(self) -> None:
        """Get ready to send."""
        await self._http.open()

    async def close(self) -> None:
        """Let go of connections."""
        await self._http.close()

    async def send(self, deliveries: Sequence[Delivery]) -> Sequence[Outcome]:
        """Send one text after the other."""
        return [await witnessed(self._send(delivery)) for delivery in deliveries]

    async def _send(self, delivery: Delivery) -> Outcome:
        headers = {
            "Authorization": self._authorization(),
            "Content-Type": "application/x-www-form-urlencoded",
            "Accept": "application/json",
            "X-Request-Id": delivery.key,
        }
        answer = await self._http.exchange("POST", self._url, headers, form(self._gateway, delivery))
        if isinstance(answer, Answer):
            return outcome(answer, self._gateway.name, time.time())
        return answer

    def _authorization(self) -> str:
        pair = f"{self._gateway.account}:{reveal(self._gateway.token)}"
        return "Basic " + base64.b64encode(pair.encode()).decode("ascii")


def form(gateway: Gateway, delivery: Delivery) -> bytes:
    """Return the form body for a delivery: the same bytes for every attempt."""
    request = orjson.loads(delivery.request)
    service = gateway.sender.startswith("MG")
    fields = {
        "To": request["to"],
        ("MessagingServiceSid" if service else "From"): gateway.sender,
        "Body": request["text"],
    }
    if gateway.callback:
        fields["StatusCallback"] = f"{gateway.callback}?{urlencode({'delivery': delivery.key})}"
    return urlencode(fields).encode("ascii")


def outcome(answer: Answer, gateway: str, now: float) -> Outcome:
    """Class what the gateway answered, by its status and Twilio's error code."""
    said = _json(answer.body)
    code = said.get("code") or said.get("error_code")
    code = code if isinstance(code, int) and not isinstance(code, bool) else None
    if 200 <= answer.status < 300:  # noqa: PLR2004 - the class of success, RFC 9110 15.3
        return _accepted(answer, said, code, gateway)
    reason = _reason(answer.status, gateway, code)
    if code in TRANSIENT:
        return Retry(f"{reason}: {TRANSIENT[code]}", after=retry_after(answer.headers, now), response=answer.body)
    if code in PERMANENT and answer.status < 500:  # noqa: PLR2004 - a server error says nothing for sure
        return Rejected(f"{reason}: {PERMANENT[code]}", response=answer.body)
    if answer.status in {401, 403}:
        advice = f"the gateway refused the credentials; mend gateways.{gateway} in handoff.yaml, then replay"
        return Rejected(f"{reason}: {advice}", response=answer.body)
    return by_status(answer, f"gateway {gateway}", now, "" if code is None else f"code {code}")


def _accepted(answer: Answer, said: dict[str, Any], code: int | None, gateway: str) -> Outcome:
    sid = said.get("sid")
    if not (isinstance(sid, str) and sid.isascii() and sid.isalnum() and len(sid) <= 64):  # noqa: PLR2004 - Twilio: 34
        reason = _reason(answer.status, gateway, code)
        return Unknown(f"{reason}: success without a message sid", response=answer.body)
    if said.get("status") in _FAILED:
        why = PERMANENT.get(code or 0, "the gateway gave the message up")
        return Rejected(f"{_reason(answer.status, gateway, code)}: {why}", response=answer.body)
    return Delivered(reference=sid, response=answer.body)


def _reason(status: int, gateway: str, code: int | None) -> str:
    return f"HTTP {status} from gateway {gateway}" + ("" if code is None else f" (code {code})")


def _json(body: bytes) -> dict[str, Any]:
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError:
        return {}
    return value if isinstance(value, dict) else {}
