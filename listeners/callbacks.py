"""This module is the way in for what gateways for texts call back with: reports on texts, and replies to them.

A report is kept with the delivery that it is about; whether that is known yet makes no difference, because a gateway
may report before it has answered. A reply is a message of the channel, in the format ``text``.
"""

import time
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Final

import orjson
from pydantic import AfterValidator, Field, model_validator

from broker.delivery import Report
from broker.errors import NotReady, StoreError
from broker.parts import Tools
from listeners.http_callers import Caller
from listeners.http_request import RETRY_AFTER, Answer, Refusal, Request
from listeners.http_service import HttpPortSpec, HttpService
from listeners.signatures import load_preset
from listeners.text_callbacks import PRESETS, READERS, Replied, Reported
from listeners.webhook import called_address
from listeners.webhook_events import events_of

_CLOCKS_APART: Final = 86_400.0  # seconds; a report's own time is not believed beyond


class CallbacksSpec(HttpPortSpec):
    """What a gateway for texts calls back with: reports on texts become facts of deliveries, replies messages."""

    formats: ClassVar[frozenset[str]] = frozenset({"text"})

    gateway: str = Field(description="The gateway, as under `gateways:` in handoff.yaml: a Twilio or Vonage one.")
    url: Annotated[str, AfterValidator(called_address)] | None = Field(
        None, description="The address that the gateway calls, without query; by default its `callback`."
    )

    @model_validator(mode="after")
    def _is_signed(self) -> "CallbacksSpec":
        if not self.callers:
            raise ValueError("name the caller with the secret by which the gateway signs, in `callers`")
        return self

    @property
    def caller_kinds(self) -> frozenset[str]:
        """The kinds of callers that it can tell apart."""
        return frozenset({"signature"})

    def build(self, tools: Tools) -> "Callbacks":
        """Build the listener; raise `NotReady` where handoff.yaml does not say enough of the gateway."""
        return Callbacks(self, tools)


class Callbacks(HttpService):
    """Serves one path for one gateway; see `broker.parts.Listener`."""

    finishes = True  # a report is small, and some gateways send it only once; the intake refuses texts by itself

    def __init__(self, spec: CallbacksSpec, tools: Tools) -> None:
        where = f"channel {tools.channel}: listen.callbacks"
        gateway: Any = getattr(tools.settings, "gateways", {}).get(spec.gateway)
        kind = getattr(gateway, "kind", "")
        if kind not in READERS:
            raise NotReady(f"{where}.gateway: handoff.yaml has no Twilio or Vonage gateway {spec.gateway}")
        self._preset = load_preset(PRESETS[kind])
        self._called = spec.url or gateway.callback or ""
        if not self._called:
            raise NotReady(f"{where}: say in `url`, or in gateways.{spec.gateway}.callback, what the gateway calls")
        self._read = READERS[kind]
        self._gateway = spec.gateway
        signature = self._preset.signature
        super().__init__(spec, tools, "callbacks", signature.verify if signature is not None else None)

    def url(self, request: Request) -> str:
        """Return the address that the gateway called, as it signs it."""
        return request.called(self._called)

    async def take(self, request: Request, body: bytes, caller: Caller) -> Answer:  # noqa: ARG002 - all may do the same
        """Keep what a request says; return once it is committed."""
        ((_, fields),) = events_of(self._preset.body, "", request, body)
        if not isinstance(fields, Mapping):
            raise Refusal(400, "the body has no fields")
        try:
            called = self._read(fields)
        except ValueError as error:
            raise Refusal(400, str(error)) from None
        if isinstance(called, Reported):
            await self._report(request, called)
        elif isinstance(called, Replied):
            await self._hand_in(request, called.said, called.identifier)
        return Answer(self._preset.status, self._preset.answer.encode(), self._preset.answer_type)

    async def _report(self, request: Request, told: Reported) -> None:
        now = time.time()
        at = told.at if told.at is not None and abs(told.at - now) < _CLOCKS_APART else now
        try:
            await self.tools.intake.report(Report(f"{self._gateway}/{told.identifier}", told.state, told.code, at))
        except StoreError as error:
            raise Refusal(503, str(error), headers={"retry-after": RETRY_AFTER}) from None
        if told.opted_out:
            await self._hand_in(request, {"kind": "opted_out", "from": told.opted_out}, told.identifier)

    async def _hand_in(self, request: Request, said: Mapping[str, Any], identifier: str) -> None:
        """Keep a message of the channel; its time is when it first came, unless the gateway says another."""
        body = orjson.dumps({"gateway": self._gateway} | dict(said))
        key = "\0".join((self._gateway, str(said["kind"]), identifier, str(said.get("part", "")))).encode()
        await self.accept(request, body, key, key_decides=True)
