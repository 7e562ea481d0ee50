"""This module is the format of HL7 v2 messages."""

from collections.abc import Iterator, Mapping
from typing import Any, BinaryIO, ClassVar, Final

from broker.formats.hl7_file import split_hl7
from broker.formats.reading import Format, Index, Piece, Reading, no_index
from broker.message import Document, Inbound
from broker.spec import FormatSpec
from broker.wire.ack import check_header
from broker.wire.batch import read_only_header
from broker.wire.charset import Charset
from broker.wire.er7 import Message


class Hl7Spec(FormatSpec):
    """HL7 v2 messages in their vertical-bar form, one or many in a file."""

    def build(self, charset: Charset | None) -> Format:
        """Build the format; ``charset`` says what MSH-18 does not, or overrules it."""
        return Hl7(charset)


class Hl7:
    """HL7 v2; see `broker.formats.reading.Format`."""

    kind: Final = "hl7"
    names: ClassVar[Mapping[str, Any]] = {}

    __slots__ = ("_charset",)

    def __init__(self, charset: Charset | None = None) -> None:
        self._charset = charset

    def read(self, inbound: Inbound, index: Index) -> Reading:
        """Read MSH, and the index values; what the listener has read already is not read again."""
        body = inbound.body
        header = inbound.header or read_only_header(body)
        if refusal := check_header(header):
            raise refusal
        message = Message.parse(body, self._charset, header)
        if refusal := message.check_text():
            raise refusal
        values = () if index is no_index else index(Document(message=message, received_at=0.0))
        key = (header.sending_application, header.sending_facility, header.control_id)
        # Straight to the tuple: this runs for every message, and the constructor of a named tuple is slow.
        return tuple.__new__(Reading, (header.type, key, header.control_id.decode("latin-1"), values))

    def document(self, body: bytes, received_at: float) -> Document:
        """Return the document over the message; raise `MessageError` where it is none."""
        return Document(message=Message.parse(body, self._charset), received_at=received_at)

    def split(self, file: BinaryIO, name: str) -> Iterator[Piece]:  # noqa: ARG002 - HL7 has its own names for things
        """Yield the messages of a file, which may be a batch (FHS, BHS)."""
        return split_hl7(file)
