"""This module lets messages in over HTTP: a body, a form, a file, or HL7 v2, each answered once it is committed."""

import asyncio
from collections.abc import Sequence
from typing import Any, Final, Literal

import orjson
from pydantic import Field, model_validator

from broker.formats.reading import Piece
from broker.formats.rows import shown_name
from broker.message import Receipt
from broker.parts import Tools
from listeners.http_answer import AnswerSpec
from listeners.http_callers import Caller
from listeners.http_files import Counted, File, in_groups, read_parts
from listeners.http_hl7 import exchange_hl7, speakers
from listeners.http_request import RETRY_AFTER, Answer, Refusal, Request
from listeners.http_service import SIGNATURE, HttpPortSpec, HttpService, SignatureName, idempotency_key, signed_by

_SHOWN: Final = 20  # faults in one answer
_HL7: Final = frozenset({"application/hl7-v2", "application/hl7-v2+er7", "x-application/hl7-v2+er7"})
_NO_BODY: Final = 204
# How an acknowledgment is told over HTTP: HAPI's "HL7 over HTTP", 2.4.
_STATUS: Final = {b"AA": 200, b"CA": 200, b"AE": 500, b"CE": 500, b"AR": 400, b"CR": 400}


class HttpSpec(HttpPortSpec):
    """Messages over HTTP: one path that programs send to."""

    methods: list[Literal["POST", "PUT"]] = Field(["POST"], min_length=1, description="The methods that are served.")
    content_types: list[str] = Field([], description="The media types that are taken, in lower case; empty: any.")
    takes: Literal["message", "file"] = Field(
        "message",
        description="What a body is, and each part of a form: one `message`, or a `file` that the channel's format "
        "takes apart.",
    )
    signature: SignatureName = SIGNATURE
    answer: AnswerSpec = Field(
        AnswerSpec.model_validate({}), description="What a message is answered with, and when; HL7 v2 has its own body."
    )

    @model_validator(mode="after")
    def _can_wait(self) -> "HttpSpec":
        if self.takes == "file" and self.answer.waits:
            raise ValueError("a file is answered once its messages are stored: leave `answer.from` out")
        return self

    def build(self, tools: Tools) -> "HttpListener":
        """Build the listener; it takes its port when it is started."""
        return HttpListener(self, tools)


class HttpListener(HttpService):
    """Serves one path for one channel; see `broker.parts.Listener`."""

    def __init__(self, spec: HttpSpec, tools: Tools) -> None:
        super().__init__(spec, tools, "http", signed_by(spec.signature))
        self.methods = tuple(spec.methods)
        self.below = spec.takes == "file" and "PUT" in spec.methods
        self._http = spec
        self._is_hl7 = tools.format.kind == "hl7" and spec.takes == "message"
        self._speakers = speakers(spec.tls, self.where)

    async def take(self, request: Request, body: bytes, caller: Caller) -> Answer:
        """Hand in what a request brought."""
        kind = request.content_type
        if self._http.content_types and kind not in self._http.content_types:
            raise Refusal(415, f"only {', '.join(self._http.content_types)} is taken here")
        if not body:
            raise Refusal(400, "the body is empty, and a message is expected in it")
        if kind.startswith("multipart/"):
            return await self._take_form(request, body, idempotency_key(request, caller))
        if self._is_hl7:
            return await self._take_hl7(request, body)
        if self._http.takes == "file":
            return self._counted(await self._take_file(request, File(_name(request), body), Counted()))
        receipt = await self.accept(request, body, idempotency_key(request, caller))
        return await self._answer(receipt)

    async def _answer(self, receipt: Receipt) -> Answer:
        """Return the answer to a message that is committed, once what the channel wants to be done is done."""
        channel, spec = self.tools.channel, self._http.answer
        ended = await spec.conclusion(self.tools, receipt)
        return spec.pending(channel, receipt) if ended is None else spec.answer(channel, receipt, ended)

    async def _take_form(self, request: Request, body: bytes, key: bytes) -> Answer:
        """Hand in every part that holds something, each as a message or as a file."""
        parts = [part for part in read_parts(request.headers["content-type"], body) if part.body]
        if not parts:
            raise Refusal(400, "no part of the form holds anything")
        counted = Counted()
        for number, part in enumerate(parts, 1):
            name = shown_name(part.file or part.name or f"part {number}")
            if self._http.takes == "file":
                await self._take_part(request, File(name, part.body), counted)
            else:
                known = key + number.to_bytes(4) if key else b""
                await self._take_pieces(request, name, [(Piece(body=part.body, line=0), known)], counted)
        return self._counted(counted)

    async def _take_part(self, request: Request, file: File, counted: Counted) -> None:
        """Hand in the messages of a file; where it is none, it is noted and kept, and keeps the others not out."""
        try:
            await self._take_file(request, file, counted)
        except Refusal as refusal:
            if refusal.is_ours:
                raise
            self.tools.intake.quarantine(self.tools.channel, f"{request.peer} {file.name}", str(refusal), file.body)
            counted.faults.append(f"{file.name}: {refusal}")

    async def _take_file(self, request: Request, file: File, counted: Counted) -> Counted:
        pieces = await file.pieces(self.tools.format)
        for group in in_groups([(piece, file.key + n.to_bytes(8)) for n, piece in enumerate(pieces)]):
            await self._take_pieces(request, file.name, group, counted)
        counted.faults += [f"{file.name}: {text}" for text in await file.miscounts(self.tools.format)]
        return counted

    async def _take_pieces(
        self, request: Request, name: str, pieces: Sequence[tuple[Piece, bytes]], counted: Counted
    ) -> None:
        """Hand in messages, each with its key; what is wrong with one is noted, and does not keep the others out."""
        taken = await asyncio.gather(
            *(self._take_piece(request, name, piece, key) for piece, key in pieces), return_exceptions=True
        )
        for (piece, _), result in zip(pieces, taken, strict=True):
            if isinstance(result, Receipt):
                counted.messages += 1
                counted.duplicates += result.duplicate
            elif isinstance(result, Refusal) and not result.is_ours:
                counted.faults.append(f"{name}{f' line {piece.line}' if piece.line else ''}: {result}")
            else:
                raise result

    async def _take_piece(self, request: Request, name: str, piece: Piece, key: bytes) -> Receipt:
        peer = f"{request.peer} {name}:{piece.line}" if piece.line else f"{request.peer} {name}"
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
        detail = f"{len(counted.faults)} faults: what was refused is in quarantine, and what was not is committed"
        told |= {"status": 422, "detail": detail, "refused": counted.faults[:_SHOWN]}
        return Answer(422, orjson.dumps(told), "application/problem+json")

    async def _take_hl7(self, request: Request, body: bytes) -> Answer:
        """Hand in an HL7 v2 message; its acknowledgment is the answer."""
        speaker = self._speakers.speaker(request.certificate) if self._speakers is not None else None
        exchanged = await exchange_hl7(self.tools, request.peer, body, self._http.answer, speaker)
        again = {"retry-after": RETRY_AFTER} if exchanged.refused else {}
        if not exchanged.told:
            return Answer(503 if exchanged.refused else _NO_BODY, headers=again)
        content_type = request.content_type if request.content_type in _HL7 else "application/hl7-v2"
        return Answer(503 if exchanged.refused else _status(exchanged.told), exchanged.told, content_type, again)


def _status(answer: bytes) -> int:
    """Return the status that goes with an acknowledgment; its code is MSA-1."""
    separator = answer[3:4]
    code = answer.partition(b"\rMSA" + separator)[2][:2]
    return _STATUS.get(code, 200)


def _name(request: Request) -> str:
    return shown_name(request.rest.strip("/").rpartition("/")[2] or "body")
