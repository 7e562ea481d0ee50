"""This module lets HL7 v2 messages in over MLLP, and answers each when it is committed, or when its steps have ended.

Answers leave in the order in which the messages came.
"""

from typing import Any, ClassVar, Literal

from pydantic import Field, ValidationInfo, field_validator

from broker.errors import MessageError
from broker.parts import Tools
from broker.spec import Bytes, Seconds
from broker.wire.charset import codec_of
from listeners.mllp_connection import Connection
from listeners.mllp_exchange import Manner, control_id
from listeners.port import Port, PortSpec
from listeners.watch import Limits


class MllpSpec(PortSpec):
    """HL7 v2 over MLLP: a TCP port that hospital systems send to."""

    formats: ClassVar[frozenset[str]] = frozenset({"hl7"})

    acknowledge: Literal["stored", "processed"] = Field(
        "stored",
        description="When a sender gets its answer: `stored` means once the message is committed to disk; `processed` "
        "when its steps have ended, too, with an error (AE) where they failed.",
    )
    mode: Literal["MSH-15", "original"] = Field(
        "MSH-15",
        description="Acknowledgment mode: `MSH-15` does what each message asks for in MSH-15 and MSH-16; `original` "
        "answers each once with AA, AE or AR, for senders that ask for what they do not understand.",
    )
    release: Literal[1, 2] = Field(
        1, description="Release of MLLP: with 2, a commit block says for every frame whether it was kept."
    )
    charset: str = Field(
        "MSH-18",
        description="Character set of the messages: `MSH-18` believes each message; or a name that overrules it.",
    )
    default_charset: str | None = Field(
        None, description="Character set of messages whose MSH-18 is empty; without it, UTF-8 or else Windows-1252."
    )
    undecodable: Literal["refuse", "replace"] = Field(
        "refuse",
        description="What a byte that the character set does not have leads to: `refuse` the message, or read on and "
        "`replace` the byte.",
    )
    max_message: Bytes = Field(16 * 1024**2, gt=0, description="Largest message; a larger one is rejected (AR).")
    max_batch: int = Field(10_000, ge=1, description="Most messages of a batch; a larger one is rejected whole (AR).")
    frame_deadline: Seconds = Field(30.0, gt=0, description="Longest time from a frame's first byte to its last.")
    idle: Seconds = Field(0.0, description="Close a connection on which nothing came for so long; 0 keeps it open.")

    @field_validator("charset", "default_charset")
    @classmethod
    def _known(cls, value: str | None, info: ValidationInfo) -> str | None:
        if value is not None and (value != "MSH-18" or info.field_name != "charset"):
            try:
                codec_of(value)
            except MessageError:
                text = f"{value!r} is not a character set; write MSH-18, or a name such as 8859/1 or UNICODE UTF-8"
                raise ValueError(text) from None
        return value

    def build(self, tools: Tools) -> "MllpListener":
        """Build the listener; it takes its port when it is started."""
        return MllpListener(self, tools)


class MllpListener(Port):
    """Listens on one port for one channel; see `broker.parts.Listener`."""

    def __init__(self, spec: MllpSpec, tools: Tools, reactor: Any = None) -> None:
        super().__init__(spec, tools, "mllp", reactor)
        self.limits = Limits(
            message=spec.max_message, batch=spec.max_batch, frame_deadline=spec.frame_deadline, idle=spec.idle
        )
        self.manner = Manner(
            original=spec.mode == "original", blocks=spec.release > 1, waits=spec.acknowledge == "processed"
        )

    def connection(self, peer: str) -> Connection:
        """Make the protocol of one connection."""
        return Connection(self, peer)

    def control_id(self) -> str:
        """Return a control id (MSH-10) that no other acknowledgment has."""
        return control_id()
