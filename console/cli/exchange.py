"""This module exchanges one MLLP frame, a message or a batch, for whatever acknowledgments it asks for."""

import contextlib
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

from broker.errors import MessageError
from broker.wire.ack import application_code, commit_code, refusal_code
from broker.wire.batch import is_batch, split_batch
from broker.wire.header import Header, Separators, read_header
from broker.wire.mllp import COMMITTED, NOT_COMMITTED, Decoder, Frame, frame
from console.cli.main import UNREACHABLE, Failure

_ACCEPTED: Final = frozenset({"AA", "CA"})
_LARGEST: Final = 64 << 20
_MOST: Final = 1_000_000  # messages of a batch
_READ: Final = 65536
_SILENCE: Final = 2.0  # seconds after which a message that wants to hear of errors only has none
_FIELDS: Final = 18  # of MSH
_CLOSED: Final = (
    "the connection was closed without an acknowledgment; the engine's log and `handoff quarantine` say why"
)
_NOT_ASKED: Final = "it asks for no acknowledgment"


class Unanswered(Exception):
    """Nothing came back for a letter, and nothing more comes over its connection; says what happened."""


@dataclass(frozen=True, slots=True)
class Letter:
    """What one file holds: a payload, and the headers of its messages."""

    file: str
    body: bytes = field(repr=False)
    headers: tuple[Header, ...]
    batch: bool = False


@dataclass(slots=True)
class Answer:
    """What came back for one message; ``code`` is the last code of ``codes``, empty where none came."""

    file: str
    control_id: str
    code: str = ""
    codes: list[str] = field(default_factory=list)
    text: str = ""
    errors: list[dict[str, str]] = field(default_factory=list)
    milliseconds: float = 0.0
    message_id: str | None = None

    @property
    def accepted(self) -> bool:
        """Whether it was accepted, or wanted to hear nothing and did."""
        return all(code in _ACCEPTED for code in self.codes) and (bool(self.codes) or self.text == _NOT_ASKED)


def letter_of(file: str, body: bytes) -> Letter:
    """Read of what is to be sent as much as a report needs; whatever is wrong with it, it is there to be refused."""
    if not is_batch(body):
        return Letter(file, body, (_header_of(body),))
    try:
        groups = split_batch(body, _MOST).groups
    except MessageError:
        return Letter(file, body, (_header_of(body),))
    headers = []
    for group in groups:
        for message in group.messages:
            with contextlib.suppress(MessageError):
                headers.append(read_header(message))
    return Letter(file, body, tuple(headers), batch=True)


def _header_of(body: bytes) -> Header:
    """Return MSH, or of one that cannot be read what an answer is told by, and whether one is asked for."""
    with contextlib.suppress(MessageError):
        return read_header(body)
    definition = body[3:4] if body.startswith(b"MSH") else b""
    line = body.partition(b"\r")[0]
    fields = [*(line.split(definition, _FIELDS) if definition else ()), *[b""] * _FIELDS]
    return Header(Separators(), definition, control_id=fields[9], accept_ack=fields[14], application_ack=fields[15])


def unanswered(letter: Letter, reason: str) -> list[Answer]:
    """Return what is reported of a letter for which nothing came back."""
    return [Answer(letter.file, header.control_id.decode("latin-1"), text=reason) for header in letter.headers] or [
        Answer(letter.file, "", text=reason)
    ]


def exchange(connection: socket.socket, letter: Letter, timeout: float) -> list[Answer]:
    """Send a letter and wait for what it asks for; raise `Unanswered` when nothing comes."""
    try:
        return _exchanged(connection, letter, timeout)
    except TimeoutError:
        raise Unanswered("no answer in time; is the engine running? Start it with: handoff run") from None
    except ConnectionError:
        raise Unanswered(_CLOSED) from None


def _exchanged(connection: socket.socket, letter: Letter, timeout: float) -> list[Answer]:
    begun = time.perf_counter()
    connection.sendall(frame(letter.body))
    answers = {header.control_id.decode("latin-1"): _blank(letter, header) for header in letter.headers}
    due = _due(letter)
    if due is None:
        return list(answers.values())
    connection.settimeout(timeout if due else min(timeout, _SILENCE))
    heard: list[Answer] = []
    try:
        for payload in _payloads(connection):
            took = round((time.perf_counter() - begun) * 1000, 3)
            heard += [_noted(letter, answers, acknowledgment, took) for acknowledgment in _parts(payload)]
            due -= 1
            if due <= 0 or not all(answer.accepted for answer in heard):
                return list(answers.values())
    except TimeoutError:
        if due and not heard:
            raise
    if due and not heard:
        raise Unanswered(_CLOSED)
    for answer in heard:
        answer.text = answer.text or "the application acknowledgment that it asks for did not come"
    return list(answers.values())


def _blank(letter: Letter, header: Header) -> Answer:
    silent = application_code(header, "AA") is None and commit_code(header, "AA") is None
    return Answer(letter.file, header.control_id.decode("latin-1"), text=_NOT_ASKED if silent else "")


def _due(letter: Letter) -> int | None:
    """Return how many frames come back when all goes well, or None when none comes in any case."""
    if letter.batch:
        due = not letter.headers or any(_codes(header) for header in letter.headers)
        return int(due)  # it may also be told what is wrong with itself
    (header,) = letter.headers
    return len(_codes(header)) or (0 if refusal_code(header, "AE") else None)


def _codes(header: Header) -> list[str]:
    return [code for code in (commit_code(header, "AA"), application_code(header, "AA")) if code]


def _payloads(connection: socket.socket) -> Iterator[bytes]:
    """Give payloads as they come; the commit blocks of MLLP release 2 are taken, and given in return, on the way."""
    decoder, blocks = Decoder(_LARGEST), False
    while data := connection.recv(_READ):
        for item in decoder.feed(data):
            if not isinstance(item, Frame):
                continue
            if item.payload == NOT_COMMITTED:
                raise Failure("the receiver did not keep it (NAK of MLLP release 2); send it again", UNREACHABLE)
            if item.payload == COMMITTED:
                blocks = True
                continue
            if blocks:
                connection.sendall(frame(COMMITTED))
            yield item.payload


def _parts(payload: bytes) -> list[bytes]:
    """Return the acknowledgments of an answer: of a batch there are many."""
    if not is_batch(payload):
        return [payload]
    return [message for group in split_batch(payload, _MOST).groups for message in group.messages]


def _noted(letter: Letter, answers: dict[str, Answer], payload: bytes, took: float) -> Answer:
    """Note an acknowledgment with the message that it is for, or as one for the whole letter."""
    from broker.wire.er7 import Message  # noqa: PLC0415 - costs more than sending

    try:
        read = Message.parse(payload)
    except MessageError as error:
        return _strange(letter, answers, f"the answer cannot be read: {error}", took)
    code, control_id = read.get("MSA-1") or "", _answered(payload, read)
    answer = answers.get(control_id)
    if answer is None:
        if not letter.batch:
            return _strange(letter, answers, f"the answer ({code}) is for another message", took)
        answer = answers.setdefault(control_id, Answer(letter.file, control_id))
    answer.code, answer.milliseconds = code, took
    answer.codes.append(code)
    answer.text = read.get("MSA-3") or ""
    answer.errors += _errors(read)
    return answer


def _answered(payload: bytes, read: Any) -> str:
    """Return MSA-2 with the bytes that came: a control id comes back as it was sent, whatever in it looks escaped."""
    start = b"MSA" + payload[3:4]
    fields = next((line.split(start[3:]) for line in payload.splitlines() if line.startswith(start)), [])
    return fields[2].decode("latin-1") if len(fields) > 2 else read.get("MSA-2") or ""  # noqa: PLR2004 - MSA-2


def _strange(letter: Letter, answers: dict[str, Answer], text: str, took: float) -> Answer:
    """Note an answer that is for nobody, where people look."""
    answer = next(iter(answers.values()), None) or answers.setdefault("", Answer(letter.file, ""))
    answer.code, answer.text, answer.milliseconds = "", text, took
    answer.codes.append("")
    return answer


def _errors(answer: Any) -> Iterator[dict[str, str]]:
    for error in answer.segments("ERR"):
        if error.get(1):  # before version 2.5: segment, its number, field, and the code with its name
            parts = [error.get(1, number) for number in (1, 3)]
            code = f"{error.get(1, 4) or ''} {error.get(1, 4, 2) or ''}"
        else:
            parts = [error.get(2, number) for number in (1, 3)]
            code = f"{error.get(3) or ''} {error.get(3, 2) or ''}"
        location = "-".join(part for part in parts if part)
        yield {"location": location, "code": code.strip(), "text": error.get(8) or ""}
