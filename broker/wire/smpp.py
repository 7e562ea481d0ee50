"""This module reads and writes the PDUs of SMPP 3.4: bytes in, PDUs out, and no sockets.

Sections and tables are those of "Short Message Peer to Peer Protocol Specification v3.4", issue 1.2.
"""

import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from broker.errors import MessageError

# Commands, table 5-1. An answer is the request's with the highest bit set.
RESPONSE: Final = 0x8000_0000
GENERIC_NACK: Final = 0x8000_0000
SUBMIT_SM: Final = 0x0000_0004
DELIVER_SM: Final = 0x0000_0005
UNBIND: Final = 0x0000_0006
BIND_TRANSCEIVER: Final = 0x0000_0009
ENQUIRE_LINK: Final = 0x0000_0015

VERSION: Final = 0x34
# esm_class, 5.2.12.
RECEIPT: Final = 0x04  # of deliver_sm: it holds a delivery receipt
UDHI: Final = 0x40  # the short message begins with a user data header
# data_coding, 5.2.19.
DEFAULT_ALPHABET, ASCII, LATIN_1, UCS_2 = 0x00, 0x01, 0x03, 0x08
# Optional parameters, table 5-7.
RECEIPTED_MESSAGE_ID: Final = 0x001E
MESSAGE_PAYLOAD: Final = 0x0424
MESSAGE_STATE: Final = 0x0427

LONGEST_SHORT_MESSAGE: Final = 254  # octets; longer ones go into message_payload
LONGEST_PDU: Final = 70_000  # octets; a message_payload has at most 64 KiB

_HEADER: Final = struct.Struct(">IIII")
_TLV: Final = struct.Struct(">HH")
_LAST_SEQUENCE: Final = 0x7FFF_FFFF

# command_status, table 5-2.
STATUS: Final = {
    0x01: "ESME_RINVMSGLEN",
    0x02: "ESME_RINVCMDLEN",
    0x03: "ESME_RINVCMDID",
    0x04: "ESME_RINVBNDSTS",
    0x05: "ESME_RALYBND",
    0x06: "ESME_RINVPRTFLG",
    0x07: "ESME_RINVREGDLVFLG",
    0x08: "ESME_RSYSERR",
    0x0A: "ESME_RINVSRCADR",
    0x0B: "ESME_RINVDSTADR",
    0x0C: "ESME_RINVMSGID",
    0x0D: "ESME_RBINDFAIL",
    0x0E: "ESME_RINVPASWD",
    0x0F: "ESME_RINVSYSID",
    0x14: "ESME_RMSGQFUL",
    0x15: "ESME_RINVSERTYP",
    0x43: "ESME_RINVESMCLASS",
    0x45: "ESME_RSUBMITFAIL",
    0x48: "ESME_RINVSRCTON",
    0x49: "ESME_RINVSRCNPI",
    0x50: "ESME_RINVDSTTON",
    0x51: "ESME_RINVDSTNPI",
    0x53: "ESME_RINVSYSTYP",
    0x58: "ESME_RTHROTTLED",
    0x61: "ESME_RINVSCHED",
    0x62: "ESME_RINVEXPIRY",
    0x63: "ESME_RINVDFTMSGID",
    0x64: "ESME_RX_T_APPN",
    0x65: "ESME_RX_P_APPN",
    0x66: "ESME_RX_R_APPN",
    0xC0: "ESME_RINVOPTPARSTREAM",
    0xC1: "ESME_ROPTPARNOTALLWD",
    0xC2: "ESME_RINVPARLEN",
    0xC3: "ESME_RMISSINGOPTPARAM",
    0xC4: "ESME_RINVOPTPARAMVAL",
    0xFE: "ESME_RDELIVERYFAILURE",
    0xFF: "ESME_RUNKNOWNERR",
}


def status_name(status: int) -> str:
    """Return a command_status as people know it: its name, or its number where it is the gateway's own."""
    return STATUS.get(status, f"status 0x{status:08x}")


class Pdu(NamedTuple):
    """One PDU; ``body`` is what follows the header."""

    command: int
    status: int
    sequence: int
    body: bytes = b""

    def __repr__(self) -> str:  # noqa: D105 - without the body, which holds a text
        return f"Pdu(0x{self.command:08x}, {self.status}, {self.sequence})"

    @property
    def is_answer(self) -> bool:
        """Whether it answers a PDU of ours."""
        return bool(self.command & RESPONSE)

    def encode(self) -> bytes:
        """Return its bytes."""
        return _HEADER.pack(_HEADER.size + len(self.body), self.command, self.status, self.sequence) + self.body

    def answer(self, status: int = 0, body: bytes = b"") -> "Pdu":
        """Return the answer to it."""
        return Pdu(self.command | RESPONSE, status, self.sequence, body)


def next_sequence(last: int) -> int:
    """Return the sequence_number after ``last`` (5.1.4: 1 to 0x7fffffff)."""
    return last + 1 if last < _LAST_SEQUENCE else 1


class Decoder:
    """Cuts a stream into PDUs."""

    def __init__(self) -> None:
        self._held = bytearray()

    def feed(self, data: bytes) -> Iterator[Pdu]:
        """Yield the PDUs that are whole now; raise `MessageError` where the stream is none."""
        self._held += data
        while len(self._held) >= _HEADER.size:
            length, command, status, sequence = _HEADER.unpack_from(self._held)
            if not _HEADER.size <= length <= LONGEST_PDU:
                raise MessageError(f"smpp: a PDU of {length} octets; it has 16 to {LONGEST_PDU}, so this is no SMPP")
            if len(self._held) < length:
                return
            body = bytes(self._held[_HEADER.size : length])
            del self._held[:length]
            yield Pdu(command, status, sequence, body)


class Address(NamedTuple):
    """A number or name with its type (ton, 5.2.5) and plan (npi, 5.2.6)."""

    ton: int
    npi: int
    value: str


def address_of(text: str) -> Address:
    """Return the address of a number in E.164, of a short code, or of a name."""
    if text.startswith("+"):
        return Address(1, 1, text[1:])  # international, ISDN
    if text.isascii() and text.isdigit():
        return Address(3, 0, text)  # network specific
    return Address(5, 0, text)  # alphanumeric


@dataclass(frozen=True, slots=True, kw_only=True)
class ShortMessage:
    """The body of submit_sm and deliver_sm (tables 4-10 and 4-12, which have the same fields)."""

    source: Address = field(repr=False)
    destination: Address = field(repr=False)
    message: bytes = field(repr=False)  # short_message
    service_type: str = ""
    esm_class: int = 0
    protocol_id: int = 0
    priority: int = 0
    scheduled: str = ""
    validity: str = ""
    registered_delivery: int = 0
    replace: int = 0
    data_coding: int = 0
    default_message: int = 0
    options: Mapping[int, bytes] = field(default_factory=dict, repr=False)  # optional parameters, by tag

    def encode(self) -> bytes:
        """Return the body; a message longer than `LONGEST_SHORT_MESSAGE` raises `ValueError`."""
        if len(self.message) > LONGEST_SHORT_MESSAGE:
            raise ValueError(f"smpp: short_message has {len(self.message)} octets; longer than 254 is message_payload")
        return b"".join(
            [
                text(self.service_type, 6),
                *(bytes([one.ton, one.npi]) + text(one.value, 21) for one in (self.source, self.destination)),
                bytes([self.esm_class, self.protocol_id, self.priority]),
                text(self.scheduled, 17) + text(self.validity, 17),
                bytes([self.registered_delivery, self.replace, self.data_coding, self.default_message]),
                bytes([len(self.message)]) + self.message,
                *(_TLV.pack(tag, len(value)) + value for tag, value in self.options.items()),
            ]
        )

    @classmethod
    def decode(cls, body: bytes) -> "ShortMessage":
        """Read a body; raise `MessageError` where it ends too soon or a text has no end."""
        reading = Reading(body)
        service_type = reading.text(6)
        source, destination = (Address(reading.byte(), reading.byte(), reading.text(21)) for _ in range(2))
        esm_class, protocol_id, priority = reading.byte(), reading.byte(), reading.byte()
        scheduled, validity = reading.text(17), reading.text(17)
        registered, replace, data_coding, default_message = (reading.byte() for _ in range(4))
        return cls(
            service_type=service_type,
            source=source,
            destination=destination,
            esm_class=esm_class,
            protocol_id=protocol_id,
            priority=priority,
            scheduled=scheduled,
            validity=validity,
            registered_delivery=registered,
            replace=replace,
            data_coding=data_coding,
            default_message=default_message,
            message=reading.octets(reading.byte()),
            options=reading.options(),
        )

    @property
    def content(self) -> bytes:
        """The message's octets, wherever they stand."""
        return self.options.get(MESSAGE_PAYLOAD, b"") or self.message


def bind(system_id: str, password: str, system_type: str = "", addresses: str = "") -> bytes:
    """Return the body of bind_transceiver (table 4-7); raise `ValueError` for what does not fit."""
    head = text(system_id, 16) + text(password, 9) + text(system_type, 13)
    return head + bytes([VERSION, 0, 0]) + text(addresses, 41)


def text(value: str, size: int) -> bytes:
    """Return a C-octet string of at most ``size`` octets with its end; raise `ValueError` for what does not fit."""
    try:
        data = value.encode("ascii")
    except UnicodeEncodeError:
        data = b"\0"
    if len(data) >= size or b"\0" in data:
        raise ValueError(f"smpp: a value of {len(value)} characters does not fit; at most {size - 1}, ASCII only")
    return data + b"\0"


class Reading:
    """Reads a body field by field."""

    def __init__(self, body: bytes) -> None:
        self._body = body
        self._at = 0

    def byte(self) -> int:
        """Return the next octet."""
        return self.octets(1)[0]

    def octets(self, count: int) -> bytes:
        """Return the next ``count`` octets."""
        end = self._at + count
        if end > len(self._body):
            raise MessageError(f"smpp: the body ends after {len(self._body)} octets, in the middle of a field")
        found = self._body[self._at : end]
        self._at = end
        return found

    def text(self, size: int) -> str:
        """Return the next C-octet string of at most ``size`` octets."""
        end = self._body.find(b"\0", self._at, self._at + size)
        if end < 0:
            raise MessageError(f"smpp: a text of at most {size} octets has no end")
        found = self._body[self._at : end]
        self._at = end + 1
        return found.decode("latin-1")  # ASCII by the standard; whatever it is must not stop us

    def options(self) -> dict[int, bytes]:
        """Return the optional parameters, which are all that is left, by tag."""
        found = {}
        while self._at < len(self._body):
            tag, length = _TLV.unpack(self.octets(_TLV.size))
            found[tag] = self.octets(length)
        return found


def message_id(body: bytes) -> str:
    """Return the message_id of a submit_sm_resp; nothing where it has none."""
    return Reading(body).text(65) if body else ""
