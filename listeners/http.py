"""This module lets messages in over HTTP: a body, a form, a file, or HL7 v2, each answered when it is committed."""

import asyncio
import itertools
import re
import time
from collections.abc import Sequence
from typing import Any, Final, Literal

import orjson
from pydantic import Field, field_validator

from broker.errors import MessageError
from broker.formats.reading import Piece
from broker.formats.rows import shown_name
from broker.ids import show
from broker.message import Receipt
from broker.parts import Tools
from broker.spec import Spec
from broker.wire.header import read_header
from listeners.http_callers import Caller
from listeners.http_files import Counted, File, in_groups, read_parts
from listeners.http_request import Answer, Refusal, Request
from listeners.http_service import HttpPortSpec, HttpService
from listeners.mllp_exchange import Exchanges, Manner
from listeners.signatures import load_preset, presets
from listeners.tls import Certificates

_BEGAN: Final = f"{time.time_ns() // 1_000_000:X}"
_COUNTER: Final = itertools.count(1)
_HOLE: Final = re.compile(r"\{\{\s*(.*?)\s*\}\}")
_HOLES: Final = ("message", "duplicate", "channel")
_LONGEST_KEY: Final = 255
_SHOWN: Final = 20  # faults in one answer
_HL7: Final = frozenset({"application/hl7-v2", "application/hl7-v2+er7", "x-application/hl7-v2+er7"})
_NO_BODY: Final = 204
# How an acknowledgment is told over HTTP: HAPI's "HL7 over HTTP", 2.4.
_STATUS: Final = {b"AA": 200, b"CA": 200, b"AE": 500, b"CE": 500, b"AR": 400, b"CR": 400}


class AnswerSpec(Spec):
    """What is answered once everything that a request brought is committed."""

    status: Literal[200, 201, 202, 204] = Field(202, description="The status; 204 has no body.")
    body: str = Field(
        '{"message": "{{ message }}", "duplicate": {{ duplicate }}}',
        description="The body; its holes are `{{ message }}` (our id), `{{ duplicate }}` (true or false) and "
        "`{{ channel }}`.",
    )
    content_type: str = Field("application/json", pattern="^[a-z0-9.+/;= -]+$", description="What the body is.")

    @field_validator("body")
    @classmethod
    def _has_known_holes(cls, value: str) -> str:
        for name in _HOLE.findall(value):
            if name not in _HOLES:
                raise ValueError(f"the answer knows {', '.join(_HOLES)}, and not {name!r}")
        return value

    def answer(self, channel: str, receipt: Receipt) -> Answer:
        """Return the answer to one message."""
        if self.status == _NO_BODY:
            return Answer(_NO_BODY)
        values = {
            "message": show(receipt.message_id),
            "duplicate": "true" if receipt.duplicate else "false",
            "channel": channel,
        }
        return Answer(self.status, _HOLE.sub(lambda hole: values[hole[1]], self.body).encode(), self.content_type)


class HttpSpec(HttpPortSpec):
    """Messages over HTTP: one path that programs send to."""

    methods: list[Literal["POST", "PUT"]] = Field(["POST"], min_length=1, description="The methods that are served.")
    content_types: list[str] = Field([], description="The media types that are taken, in lower case; empty: any.")
    takes: Literal["message", "file"] = Field(
        "message",
        description="What a body is, and each part of a form: one `message`, or a `file` that the channel's format "
        "takes apart.",
    )
    signature: str = Field("standard", description="How callers with a `signature` sign: the name of a preset.")
    answer: AnswerSpec = Field(
        AnswerSpec.model_validate({}), description="What is answered once a message is committed; HL7 v2 has its own."
    )

    @field_validator("signature")
    @classmethod
    def _is_known(cls, value: str) -> str:
        if value not in presets() or load_preset(value).signature is None:
            raise ValueError(f"there is no such signature; known: {', '.join(presets(signed=True))}")
        return value

    def build(self, tools: Tools) -> "HttpListener":
        """Build the listener; it takes its port when it is started."""
        return HttpListener(self, tools)


class HttpListener(HttpService):
    """Serves one path for one channel; see `broker.parts.Listener`."""

    def __init__(self, spec: HttpSpec, tools: Tools) -> None:
        scheme = load_preset(spec.signature).signature
        super().__init__(spec, tools, "http", scheme.verify if scheme is not None else None)
        self.methods = tuple(spec.methods)
        self.below = spec.takes == "file" and "PUT" in spec.methods
        self._http = spec
        self._is_hl7 = tools.format.kind == "hl7" and spec.takes == "message"
        self._speakers = (
            Certificates(spec.tls, self.where, lambda _: None) if spec.tls is not None and spec.tls.senders else None
        )

    async def take(self, request: Request, body: bytes, caller: Caller) -> Answer:
        """Hand in what a request brought."""
        kind = request.content_type
        if self._http.content_types and kind not in self._http.content_types:
            raise Refusal(415, f"only {', '.join(self._http.content_types)} is taken here")
        if not body:
            raise Refusal(400, "the body is empty, and a message is expected in it")
        if kind.startswith("multipart/"):
            return await self._take_form(request, body)
        if self._is_hl7:
            return await self._take_hl7(request, body)
        if self._http.takes == "file":
            return self._counted(await self._take_file(request, File(_name(request), body), Counted()))
        receipt = await self.accept(request, body, _key(request, caller))
        return self._http.answer.answer(self.tools.channel, receipt)

    async def _take_form(self, request: Request, body: bytes) -> Answer:
        """Hand in every part that holds something, each as a message or as a file."""
        parts = [part for part in read_parts(request.headers["content-type"], body) if part.body]
        if not parts:
            raise Refusal(400, "no part of the form holds anything")
        counted = Counted()
        for number, part in enumerate(parts, 1):
            name = shown_name(part.file or part.name or f"part {number}")
            if self._http.takes == "file":
                await self._take_file(request, File(name, part.body), counted)
            else:
                piece = Piece(body=part.body, line=0)
                await self._take_pieces(request, File(name, part.body), [piece], counted)
        return self._counted(counted)

    async def _take_file(self, request: Request, file: File, counted: Counted) -> Counted:
        pieces = await file.pieces(self.tools.format)
        first = 0
        for group in in_groups(pieces):
            await self._take_pieces(request, file, group, counted, first)
            first += len(group)
        return counted

    async def _take_pieces(
        self, request: Request, file: File, pieces: Sequence[Piece], counted: Counted, first: int = 0
    ) -> None:
        """Hand in messages of one file; what is wrong with one is noted, and does not keep the others out."""
        taken = await asyncio.gather(
            *(
                self._take_piece(request, file, piece, file.key + n.to_bytes(8))
                for n, piece in enumerate(pieces, first)
            ),
            return_exceptions=True,
        )
        for piece, result in zip(pieces, taken, strict=True):
            if isinstance(result, Receipt):
                counted.messages += 1
                counted.duplicates += result.duplicate
            elif isinstance(result, Refusal) and result.status < 500:  # noqa: PLR2004 - the message's fault
                counted.faults.append(f"{file.name}{f' line {piece.line}' if piece.line else ''}: {result}")
            else:
                raise result

    async def _take_piece(self, request: Request, file: File, piece: Piece, key: bytes) -> Receipt:
        peer = f"{request.peer} {file.name}:{piece.line}" if piece.line else f"{request.peer} {file.name}"
        if piece.reason:
            self.tools.intake.quarantine(self.tools.channel, peer, piece.reason, piece.body)
            raise Refusal(422, piece.reason)
        return await self.accept(request, piece.body, key, peer)

    def _counted(self, counted: Counted) -> Answer:
        """Return how many messages were taken; where one was refused, that the request is to be looked at."""
        told: dict[str, Any] = {"messages": counted.messages, "duplicates": counted.duplicates}
        if not counted.faults:
            status = self._http.answer.status
            return Answer(status) if status == _NO_BODY else Answer(status, orjson.dumps(told))
        detail = f"{len(counted.faults)} messages were refused and are in quarantine; the others are committed"
        told |= {"status": 422, "detail": detail, "refused": counted.faults[:_SHOWN]}
        return Answer(422, orjson.dumps(told), "application/problem+json")

    async def _take_hl7(self, request: Request, body: bytes) -> Answer:
        """Hand in an HL7 v2 message; its acknowledgment is the answer."""
        exchanges = Exchanges(self.tools, request.peer, _control_id, Manner(original=False, blocks=False))
        if self._speakers is not None:
            exchanges.speaker = self._speakers.speaker(request.certificate)
        try:
            header = read_header(body)
        except MessageError as error:
            exchanges.refuse_bytes(str(error), body, error.condition)
            raise Refusal(400, str(error), location=error.location) from None
        exchange = exchanges.begin(body, header)
        if exchange.promise is not None:
            await asyncio.wait([exchange.promise])
        answers = exchanges.answers(exchange)
        if not answers:
            return Answer(503 if exchange.refused else _NO_BODY)
        content_type = request.content_type if request.content_type in _HL7 else "application/hl7-v2"
        return Answer(_status(answers[0]), answers[0], content_type)


def _status(answer: bytes) -> int:
    """Return the status that goes with an acknowledgment; its code is MSA-1."""
    separator = answer[3:4]
    code = answer.partition(b"\rMSA" + separator)[2][:2]
    return _STATUS.get(code, 200)


def _control_id() -> str:
    return f"{_BEGAN}H{next(_COUNTER):07X}"


def _name(request: Request) -> str:
    return shown_name(request.rest.strip("/").rpartition("/")[2] or "body")


def _key(request: Request, caller: Caller) -> bytes:
    """Return what makes it the same as a message that came before: the Idempotency-Key, each caller's own."""
    given = request.headers.get("idempotency-key", "").strip().strip('"')
    if len(given) > _LONGEST_KEY:
        raise Refusal(400, f"the Idempotency-Key has more than {_LONGEST_KEY} characters")
    return f"{caller.name}\0{given}".encode() if given else b""
