"""This module lets events in that other systems report by webhooks; what is known of each system is a preset."""

import asyncio
import hashlib
import hmac
from typing import Annotated, Any, ClassVar, Final
from urllib.parse import urlsplit

import orjson
from pydantic import AfterValidator, Field, model_validator

from broker.errors import NotReady
from broker.hosts import safe_place
from broker.message import Receipt
from broker.parts import Tools
from listeners.http_callers import Caller, live
from listeners.http_keys import Keys, KeysAway
from listeners.http_request import RETRY_AFTER, Answer, Refusal, Request
from listeners.http_service import HttpPortSpec, HttpService
from listeners.signatures import PresetSpec, load_preset
from listeners.tink import is_signed, read_keyset
from listeners.webhook_events import Event, events_of, value_at

_ACK: Final = (
    '<?xml version="1.0" encoding="UTF-8"?><soapenv:Envelope xmlns:soapenv="http://schemas.xmlsoap.org/soap/envelope/">'
    '<soapenv:Body><notificationsResponse xmlns="http://soap.sforce.com/2005/09/outbound"><Ack>%s</Ack>'
    "</notificationsResponse></soapenv:Body></soapenv:Envelope>"
)


def _known(value: str) -> str:
    load_preset(value)
    return value


def called_address(value: str) -> str:
    """Return the address that a system calls. Raises `ValueError` where it is none, or has a query."""
    parts = urlsplit(value)
    if parts.scheme not in {"http", "https"} or not parts.hostname or parts.query or parts.fragment:
        raise ValueError("needs the address that the system calls, such as https://hooks.example.org/twilio")
    return value


class WebhookSpec(HttpPortSpec):
    """Webhooks: events that another system reports, signed as that system does it."""

    formats: ClassVar[frozenset[str]] = frozenset({"json"})

    preset: Annotated[str, AfterValidator(_known)] = Field(
        description="The system: the name of a preset, such as stripe."
    )
    url: Annotated[str, AfterValidator(called_address)] | None = Field(
        None, description="The address that the system calls, without query; some sign it."
    )
    accounts: list[str] = Field([], description="Whose events are taken, as the system names accounts; empty: any.")
    keyset: Annotated[str, Field(min_length=1), AfterValidator(safe_place)] | None = Field(
        None,
        description="Public keys of a system that signs with ECDSA: a file (JSON), or an https address that is asked "
        "when a key is new.",
    )

    @model_validator(mode="after")
    def _is_complete(self) -> "WebhookSpec":
        known = load_preset(self.preset)
        signature = known.signature
        if signature is not None and self.url is None and (signature.kind == "twilio" or "{url}" in signature.signs):
            raise ValueError(f"{known.title} signs the address that it calls: say it in `url`")
        if signature is not None and signature.kind == "tink" and self.keyset is None:
            raise ValueError(f"{known.title} signs with keys that it publishes: say where they are in `keyset`")
        if not self.callers and not self.anonymous:
            raise ValueError(f"a webhook needs `callers` ({', '.join(known.callers)}), or a reason in `anonymous`")
        if self.accounts and not known.account:
            raise ValueError(f"{known.title} does not say whose account an event is about; leave `accounts` out")
        return self

    @property
    def caller_kinds(self) -> frozenset[str]:
        """The kinds of callers that it can tell apart."""
        return frozenset(load_preset(self.preset).callers)

    def build(self, tools: Tools) -> "WebhookListener":
        """Build the listener; it takes its port when it is started."""
        return WebhookListener(self, tools)


class WebhookListener(HttpService):
    """Serves one path for one channel; see `broker.parts.Listener`."""

    def __init__(self, spec: WebhookSpec, tools: Tools) -> None:
        self._preset: PresetSpec = load_preset(spec.preset)
        signature = self._preset.signature
        super().__init__(spec, tools, "webhook", signature.verify if signature is not None else None)
        self._webhook = spec
        self._keyset = Keys(spec.keyset, self._root, read_keyset) if spec.keyset is not None else None

    async def start(self) -> None:
        """Serve the path; raise `NotReady` when that is not possible."""
        if self._keyset is not None:
            try:
                self._keyset.load()
            except KeysAway:
                text = f"{self.where}.keyset: {self._webhook.keyset} holds no public keyset; fetch it again"
                raise NotReady(text) from None
        await super().start()

    def url(self, request: Request) -> str:
        """Return the address that the system called, as it signs it."""
        return request.called(self._webhook.url or request.path)

    async def take(self, request: Request, body: bytes, caller: Caller) -> Answer:
        """Hand in the events of a request."""
        if self._keyset is not None:
            await self._see_signature(self._keyset, request, body)
        sent = b"{}" if self._preset.may_be_empty and not body else body
        events = events_of(self._preset.body, self._preset.each, request, sent)
        handshake = self._handshake(events, caller)
        if handshake is not None:
            return handshake
        self._see_accounts(request, events)
        await self._take_all(request, events, caller)
        return self._answered()

    async def _see_signature(self, keys: Keys, request: Request, body: bytes) -> None:
        header = self._preset.signature.header if self._preset.signature is not None else ""
        try:
            if not await is_signed(keys, request.headers.get(header, ""), body):
                raise Refusal(401, "the signature is none of the keys' of `keyset`")
        except KeysAway as error:
            raise Refusal(503, str(error), headers={"retry-after": RETRY_AFTER}) from None

    def _handshake(self, events: list[Event], caller: Caller) -> Answer | None:
        """Return the answer to a request that only asks whether we are there."""
        asked = self._preset.handshake
        if asked is None or len(events) != 1 or not isinstance(events[0][1], dict):
            return None
        event: dict[str, Any] = events[0][1]
        if event.get(asked.field) != asked.equals:
            return None
        if asked.kind == "plain":
            return Answer(200)
        token = str((event.get("payload") or {}).get("plainToken", ""))
        signing = self.tools.settings.callers[caller.name].signature if caller.name else None
        if not token or signing is None:
            raise Refusal(400, "there is no token to sign")
        secret = live(signing.secret, None)[0]
        signed = hmac.new(secret.encode(), token.encode(), hashlib.sha256).hexdigest()
        return Answer(200, orjson.dumps({"plainToken": token, "encryptedToken": signed}))

    def _see_accounts(self, request: Request, events: list[Event]) -> None:
        allowed = self._webhook.accounts
        if allowed and any(value_at(self._preset.account, request, event) not in allowed for _, event in events):
            raise Refusal(403, "its account is not in listen.webhook.accounts")

    async def _take_all(self, request: Request, events: list[Event], caller: Caller) -> None:
        """Return once every event is committed; else raise the first `Refusal`, ours before theirs."""
        results = await asyncio.gather(
            *(self._accept(request, data, event, caller) for data, event in events), return_exceptions=True
        )
        failed = [result for result in results if not isinstance(result, Receipt)]
        failed.sort(key=lambda error: isinstance(error, Refusal) and not error.is_ours)
        if failed:
            raise failed[0]

    async def _accept(self, request: Request, data: bytes, event: Any, caller: Caller) -> Receipt:
        """Return once an event is committed, or was before; one that does not say what it is, is always new."""
        values = [value_at(place, request, event) for place in self._preset.key]
        key = "\0".join((self._webhook.preset, caller.name, *values)).encode() if any(values) else b""
        return await self.accept(request, data, key, key_decides=bool(key and values[0]) and self._preset.key_decides)

    def _answered(self) -> Answer:
        preset = self._preset
        text = _ACK % "true" if preset.body == "soap" else preset.answer
        return Answer(preset.status, text.encode(), preset.answer_type)

    def refusal(self, request: Request, refusal: Refusal) -> Answer:
        """Return what a refusal is answered with; SOAP has a form of its own for it."""
        if self._preset.body != "soap" or not refusal.is_ours:
            return super().refusal(request, refusal)
        return Answer(refusal.status, (_ACK % "false").encode(), "text/xml", refusal.headers)
