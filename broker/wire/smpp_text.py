"""This module reads what an SMSC brings, texts and delivery receipts (SMPP 3.4, appendix B), and writes texts."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from broker.wire import gsm
from broker.wire.smpp import (
    ASCII,
    DEFAULT_ALPHABET,
    LATIN_1,
    MESSAGE_PAYLOAD,
    MESSAGE_STATE,
    RECEIPT,
    RECEIPTED_MESSAGE_ID,
    UCS_2,
    UDHI,
    Address,
    ShortMessage,
)

# What became of a message: by the text of a receipt (appendix B), and by message_state (table 5-6).
STATES: Final = {
    "ENROUTE": "sent",
    "DELIVRD": "delivered",
    "EXPIRED": "expired",
    "DELETED": "failed",
    "UNDELIV": "undeliverable",
    "ACCEPTD": "sent",
    "UNKNOWN": "unknown",
    "REJECTD": "rejected",
}
_BY_NUMBER: Final = dict(enumerate(STATES.values(), 1))
_TYPE: Final = 0x3C  # of esm_class: the bits that say what kind of message it is
_FIELD: Final = re.compile(r"\b(id|stat|err):(\S*)", re.IGNORECASE)
_CODECS: Final = {ASCII: "latin-1", LATIN_1: "latin-1", UCS_2: "utf-16-be"}
_CONCATENATED: Final = {0x00: 3, 0x08: 4}  # information elements with reference, total and number, and their length


@dataclass(frozen=True, slots=True)
class SmscReceipt:
    """What an SMSC says became of a message: ``state`` is a value of `STATES`, ``code`` the network's error."""

    message_id: str
    state: str
    code: str = ""


@dataclass(frozen=True, slots=True)
class Part:
    """Which part of a longer text a message is; ``number`` counts from 1."""

    reference: int
    total: int
    number: int


def read_receipt(message: ShortMessage) -> SmscReceipt | None:
    """Return the receipt that a deliver_sm holds; None where it holds a text. Optional parameters count most."""
    if message.esm_class & _TYPE != RECEIPT:
        return None
    said: dict[str, str] = {}
    for name, value in _FIELD.findall(message.content.decode("latin-1")):
        said.setdefault(name.lower(), value)  # behind `text:` is what the text began with
    identifier = message.options.get(RECEIPTED_MESSAGE_ID, b"").rstrip(b"\0").decode("latin-1") or said.get("id", "")
    state = STATES.get(said.get("stat", "").upper()[:7], "unknown")
    number = message.options.get(MESSAGE_STATE, b"")
    if len(number) == 1:
        state = _BY_NUMBER.get(number[0], "unknown")
    code = said.get("err", "")
    return SmscReceipt(identifier, state, "" if not code.strip("0") else code[:16])


def read_text(message: ShortMessage) -> tuple[str, Part | None]:
    """Return the text of a deliver_sm, and which part of a longer one it is."""
    data, part = message.content, None
    if message.esm_class & UDHI and data and data[0] < len(data):
        part = _part(data[1 : 1 + data[0]])
        data = data[1 + data[0] :]
    codec = _CODECS.get(message.data_coding)
    return (gsm.decode(data) if codec is None else data.decode(codec, "replace")), part


def _part(header: bytes) -> Part | None:
    """Find the information element for concatenation (3GPP TS 23.040, 9.2.3.24.1 and .8) in a user data header."""
    at = 0
    while at + 2 <= len(header):
        kind, size = header[at], header[at + 1]
        value = header[at + 2 : at + 2 + size]
        if _CONCATENATED.get(kind) == size == len(value):
            return Part(int.from_bytes(value[:-2]), value[-2], value[-1])
        at += 2 + size
    return None


def short_messages(
    source: Address, destination: Address, text: str, *, reference: int, receipts: bool, payload: bool
) -> Iterator[ShortMessage]:
    """Yield the messages that carry a text, in order.

    ``reference`` (0 to 255) ties the parts of a longer one together; with ``payload`` a longer one goes in one piece as
    message_payload, for the SMSC to cut. ``receipts`` asks for a delivery receipt of each.
    """
    cut = gsm.cut(text)
    coding = DEFAULT_ALPHABET if cut.encoding == gsm.GSM else UCS_2
    for number, data in enumerate(cut.parts, 1):
        header = b"" if cut.segments == 1 or payload else bytes([5, 0, 3, reference, cut.segments, number])
        whole = b"".join(cut.parts) if payload and cut.segments > 1 else b""
        yield ShortMessage(
            source=source,
            destination=destination,
            esm_class=UDHI if header else 0,
            registered_delivery=1 if receipts else 0,
            data_coding=coding,
            message=b"" if whole else header + data,
            options={MESSAGE_PAYLOAD: whole} if whole else {},
        )
        if whole:
            return
