"""This module lets messages in over TCP with a framing of the peer's own: devices, laboratories, and old systems."""

import codecs
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, field_validator, model_validator

from broker.parts import Tools
from broker.spec import Bytes, Seconds, Spec
from broker.wire.framing import Counted, Cutter, Delimited, Sized
from listeners.port import Port, PortSpec
from listeners.tcp_connection import Connection
from listeners.tls import TlsSpec
from listeners.watch import Limits


def _escaped(value: object) -> object:
    r"""Read bytes as people write them: ``\x02``, ``\r\n``, or the characters themselves."""
    if not isinstance(value, str):
        return value
    try:
        return codecs.escape_decode(value.encode("latin-1"))[0]
    except (ValueError, UnicodeEncodeError):
        text = r"needs bytes, such as \x02, \r\n or #"
        raise ValueError(text) from None


Escaped = Annotated[bytes, BeforeValidator(_escaped)]


class DelimitedSpec(Spec):
    """A message ends with some bytes, and may begin with some."""

    start: Escaped = Field(
        b"", description=r"What a message begins with, such as \x02 (STX); empty: with its first byte."
    )
    end: Escaped = Field(min_length=1, description=r"What a message ends with, such as \x03 (ETX) or \r\n.")


class LengthSpec(Spec):
    """A message stands behind its length."""

    size: Literal[1, 2, 4, 8] = Field(4, description="Bytes of the length.")
    order: Literal["big", "little"] = Field(
        "big", description="Which of them comes first: `big` is the network's order."
    )
    inclusive: bool = Field(default=False, description="Whether the length counts its own bytes too.")


class FramingSpec(Spec):
    """How messages are told apart: exactly one of these."""

    delimited: DelimitedSpec | None = Field(None, description="Between a start and an end.")
    length: LengthSpec | None = Field(None, description="Behind a length.")
    line: bool = Field(default=False, description="Each line is a message; lines end with LF, or CR and LF.")
    size: int | None = Field(None, ge=1, le=16 * 1024**2, description="Each message has so many bytes.")

    @model_validator(mode="after")
    def _is_one(self) -> "FramingSpec":
        chosen = [name for name, value in self if value is not None and value is not False]
        if len(chosen) != 1:
            found = " and ".join(chosen) or "nothing"
            raise ValueError(f"framing needs exactly one of delimited, length, line, size; found {found}")
        return self

    def cutter(self, limit: int) -> Cutter:
        """Make what cuts one connection's bytes."""
        if self.length is not None:
            return Counted(self.length.size, self.length.order, limit, inclusive=self.length.inclusive)
        if self.delimited is not None:
            return Delimited(self.delimited.start, self.delimited.end, limit)
        return Sized(self.size) if self.size is not None else Delimited(b"", b"\n", limit, trim=b"\r")


class TcpTlsSpec(TlsSpec):
    """TLS where nothing in a message says who its sender is."""

    @field_validator("senders")
    @classmethod
    def _cannot_be_told(cls, value: dict[str, list[str]]) -> dict[str, list[str]]:
        if value:
            raise ValueError("senders needs MSH-3 and MSH-4, which only listen.mllp reads; leave it out, or use mllp")
        return value


class TcpSpec(PortSpec):
    """Messages over TCP, framed as the peer does it."""

    tls: TcpTlsSpec | None = Field(None, description="TLS, and by what certificates the two ends know each other.")
    framing: FramingSpec = Field(description="How messages are told apart.")
    accepted: Escaped = Field(
        b"", description=r"What is answered once a message is committed, such as \x06 (ACK); empty answers nothing."
    )
    refused: Escaped = Field(
        b"", description=r"What is answered when a message could not be kept, such as \x15 (NAK); empty closes."
    )
    max_message: Bytes = Field(16 * 1024**2, gt=0, description="Largest message; after a larger one we close.")
    frame_deadline: Seconds = Field(30.0, gt=0, description="Longest time from a message's first byte to its last.")
    idle: Seconds = Field(0.0, description="Close a connection on which nothing came for so long; 0 keeps it open.")

    def build(self, tools: Tools) -> "TcpListener":
        """Build the listener; it takes its port when it is started."""
        return TcpListener(self, tools)


class TcpListener(Port):
    """Listens on one port for one channel; see `broker.parts.Listener`."""

    def __init__(self, spec: TcpSpec, tools: Tools, reactor: Any = None) -> None:
        super().__init__(spec, tools, "tcp", reactor)
        self.accepted, self.refused = spec.accepted, spec.refused
        self.limits = Limits(message=spec.max_message, batch=0, frame_deadline=spec.frame_deadline, idle=spec.idle)
        self._framing = spec.framing

    def connection(self, peer: str) -> Connection:
        """Make the protocol of one connection."""
        return Connection(self, peer, self._framing.cutter(self.limits.message))
