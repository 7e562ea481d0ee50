"""This module lets messages in over SOAP: an operation of a service, answered once its message is committed."""

import asyncio
import time
from typing import Annotated, Final

from pydantic import AfterValidator, Field, model_validator

from broker.hosts import is_unspecified
from broker.parts import Tools
from broker.spec import Seconds
from listeners.http_answer import WaitSpec
from listeners.http_callers import ANYBODY, Caller
from listeners.http_hl7 import exchange_hl7, speakers
from listeners.http_request import RETRY_AFTER, Answer, Refusal, Request
from listeners.http_service import LONGEST_KEY, HttpPortSpec, HttpService, idempotency_key
from listeners.soap_addressing import FAULT, UNDERSTOOD, addressed, see_replies_come_back
from listeners.soap_content import codec_of, message_in, see_parts, text_at
from listeners.soap_envelope import (
    Envelope,
    SoapRefusal,
    Version,
    read_envelope,
    version_of,
    write_envelope,
    write_fault,
)
from listeners.soap_response import Responses, concluded, of_receipt
from listeners.soap_security import SECURITY, Tokens, plain_login, stranger
from listeners.soap_service import OperationSpec, ServiceSpec, load_service
from listeners.soap_wsdl import action_of, write_wsdl
from listeners.webhook import called_address

_AT_ONCE: Final = 64 * 1024  # bytes
_WSDL: Final = frozenset({"wsdl", "singlewsdl"})
_WAIT: Final = WaitSpec.model_validate({})


def _known(value: str) -> str:
    load_service(value)
    return value


class SoapSpec(HttpPortSpec):
    """Messages over SOAP: a web service that is described here or is known, and writes its own WSDL."""

    preset: Annotated[str, AfterValidator(_known)] | None = Field(
        None, description="A service that is known: the name of a preset, such as cdc_2011."
    )
    service: ServiceSpec | None = Field(None, description="Another service: its operations, and where a message is.")
    url: Annotated[str, AfterValidator(called_address)] | None = Field(
        None, description="The address that senders call, for the WSDL; without it, the endpoint's."
    )
    token_window: Seconds = Field(
        300.0, gt=0, le=3600, description="How far the time in a wsse:UsernameToken may be from ours."
    )
    answer: WaitSpec = Field(_WAIT, description="When a message is answered.")

    @model_validator(mode="after")
    def _is_described(self) -> "SoapSpec":
        if (self.preset is None) == (self.service is None):
            raise ValueError("a service is a known one or described here: say `preset` or `service`")
        if self.url is None and is_unspecified(self.endpoint.rpartition(":")[0]):
            raise ValueError(f"nobody can call {self.endpoint}: say in `url` which address senders call")
        return self

    @property
    def described(self) -> ServiceSpec:
        """The service, known or described."""
        return self.service if self.service is not None else load_service(self.preset or "")

    def usable_formats(self) -> frozenset[str]:
        """Return the formats that its operations bring."""
        return self.described.formats

    @property
    def caller_kinds(self) -> frozenset[str]:
        """The kinds of callers that it can tell apart."""
        return frozenset({"bearer", "basic", "api_key", "jwt", "certificate"})

    def build(self, tools: Tools) -> "SoapListener":
        """Build the listener; it takes its port when it is started."""
        return SoapListener(self, tools)


class SoapListener(HttpService):
    """Serves one service for one channel; see `broker.parts.Listener`."""

    methods = ("POST", "GET")

    def __init__(self, spec: SoapSpec, tools: Tools) -> None:
        known = getattr(tools.settings, "callers", {})
        has_logins = any(known[name].basic for name in spec.callers if name in known)
        self._soap = spec
        self._service = spec.described
        # Strangers are told so before they send a body, where that can change nothing.
        self.in_body = has_logins or any(each.message is None for each in self._service.operations.values())
        super().__init__(spec, tools, "soap")
        self._operations = {
            f"{{{self._service.namespace}}}{operation.element or name}": (name, operation)
            for name, operation in self._service.operations.items()
        }
        self._responses = Responses(self._service)
        self._tokens = Tokens(spec.token_window, time.time)
        self._understood = UNDERSTOOD | {SECURITY} if has_logins else UNDERSTOOD
        self._speakers = speakers(spec.tls, self.where)

    def is_public(self, request: Request) -> bool:
        """Tell whether anybody may ask this: what a service looks like is no secret."""
        return request.method == "GET"

    async def answer(self, request: Request, body: bytes, caller: Caller | None) -> Answer:
        """Do what an envelope asks for; faults are in its version."""
        if request.method == "GET":
            return self._wsdl(request)
        envelope = await self._read(request, body)
        try:
            return await self._operate(request, envelope, caller)
        except Refusal as refusal:
            if not (isinstance(refusal, SoapRefusal) and refusal.is_told):
                self._tell(request, refusal)
            return self._fault(envelope.version, refusal, addressed(envelope, FAULT))

    async def _read(self, request: Request, body: bytes) -> Envelope:
        if len(body) <= _AT_ONCE:
            return read_envelope(request, body, self._service.versions)
        loop = asyncio.get_running_loop()  # which goes on meanwhile: a large one takes half a second
        return await loop.run_in_executor(None, read_envelope, request, body, self._service.versions)

    def _wsdl(self, request: Request) -> Answer:
        if request.query.lower() not in _WSDL:
            raise Refusal(405, "a service is called with POST; its WSDL is at ?wsdl", headers={"allow": "POST"})
        scheme = "http" if self._soap.tls is None else "https"
        address = self._soap.url or f"{scheme}://{next(iter(self.endpoints), self._soap.endpoint)}"
        return Answer(200, write_wsdl(self._service, address), "text/xml; charset=utf-8")

    def refusal(self, request: Request, refusal: Refusal) -> Answer:
        """Return what is answered to a request whose envelope was not read."""
        return self._fault(version_of(request), refusal, "")

    def _fault(self, version: Version, refusal: Refusal, headers: str) -> Answer:
        return write_fault(version, refusal, self._responses.detail(refusal), headers)

    async def _operate(self, request: Request, envelope: Envelope, caller: Caller | None) -> Answer:
        envelope.see_understood(self._understood)
        see_replies_come_back(envelope)
        name, operation = self._operation(envelope)
        known = self._who(envelope, operation, caller)
        see_parts(envelope.payload, operation, self._service.namespace)
        if operation.message is None:
            values = {"channel": self.tools.channel}
        else:
            message = message_in(envelope, operation, self._service.namespace, self.tools.format.kind)
            take = self._take_hl7 if self.tools.format.kind == "hl7" else self._keep
            values = await take(request, message, self._key(request, envelope, operation, known))
        headers = addressed(envelope, f"{action_of(self._service, name)}Response")
        return write_envelope(envelope.version, self._responses.write(name, values, envelope.payload), headers)

    def _operation(self, envelope: Envelope) -> tuple[str, OperationSpec]:
        """Return the operation that the element in the body asks for: WS-I Basic Profile 1.1, 4.7.6."""
        if envelope.payload.tag not in self._operations:
            names = ", ".join(operation.element or name for name, operation in self._service.operations.items())
            text = f"no operation has the element in the body; known: {names} of namespace {self._service.namespace}"
            raise SoapRefusal(text, kind="operation")
        return self._operations[envelope.payload.tag]

    def _who(self, envelope: Envelope, operation: OperationSpec, caller: Caller | None) -> Caller:
        """Return who calls: as HTTP says, else as a UsernameToken or the request itself does. Raises `Refusal`."""
        if caller is not None:
            return caller
        security = envelope.header(SECURITY) if SECURITY in self._understood else None
        login = self._tokens.read(security) if security is not None else None
        is_of_header = login is not None
        if login is None and operation.login is not None:
            user, password = (text_at(envelope.payload, path, self._service.namespace) for path in operation.login)
            login = plain_login(user.strip(), password) if user.strip() else None
        if login is None and operation.message is None:
            return ANYBODY  # it keeps nothing, and tells nothing
        if login is None:
            raise self._callers.stranger()
        found = self._callers.by_password(login.user, login.shows)
        if found is None:
            raise stranger(of_header=is_of_header)
        self._tokens.spend(login)
        return found

    def _key(self, request: Request, envelope: Envelope, operation: OperationSpec, caller: Caller) -> bytes:
        """Return what makes a message the same as one before, each caller's own; nothing where nothing does."""
        given = text_at(envelope.payload, operation.key, self._service.namespace).strip() if operation.key else ""
        if len(given) > LONGEST_KEY:
            raise SoapRefusal(f"the text at {operation.key} has more than {LONGEST_KEY} characters")
        return f"soap\0{caller.name}\0{given}".encode() if given else idempotency_key(request, caller)

    async def _take_hl7(self, request: Request, message: bytes, _key: bytes) -> dict[str, str]:
        """Hand in an HL7 v2 message, which has a key of its own; return what there is to say of it."""
        speaker = self._speakers.speaker(request.certificate) if self._speakers is not None else None
        exchanged = await exchange_hl7(self.tools, request.peer, message, self._soap.answer, speaker)
        if exchanged.refused:
            text = "the message could not be kept; send it again later"
            again = {"retry-after": RETRY_AFTER}
            raise SoapRefusal(text, code="Receiver", status=503, headers=again, is_told=True)
        told = exchanged.told.decode(codec_of(message), "replace")
        return of_receipt(self.tools.channel, exchanged.receipt) | {"acknowledgment": told}

    async def _keep(self, request: Request, message: bytes, key: bytes) -> dict[str, str]:
        """Hand a message in; return what there is to say of it, once what the channel waits for is done."""
        receipt = await self.accept(request, message, key)
        ended = await self._soap.answer.conclusion(self.tools, receipt)
        return of_receipt(self.tools.channel, receipt) | concluded(self._soap.answer, receipt, ended)
