"""This module is the format of clinical documents: HL7 CDA R2 and C-CDA, in XML."""

from collections.abc import Iterator, Mapping
from typing import Any, BinaryIO, ClassVar, Final
from xml.etree.ElementTree import Element

from broker.errors import MessageError
from broker.formats.reading import Format, Index, Piece, Reading
from broker.message import Document, Inbound
from broker.spec import FormatSpec
from broker.wire.charset import Charset
from broker.wire.safe_xml import read_xml
from broker.wire.text_lines import BEGINNING

_NAMESPACE: Final = "{urn:hl7-org:v3}"
_LARGEST: Final = 16 * 1024**2
_SHOWN: Final = 65_536


class CdaSpec(FormatSpec):
    """Clinical documents (CDA R2, C-CDA) in XML; each file is one message."""

    def build(self, charset: Charset | None) -> Format:  # noqa: ARG002 - XML says its encoding itself
        """Build the format."""
        return Cda()


class Cda:
    """Clinical documents; see `broker.formats.reading.Format`. Steps see the root element."""

    kind: Final = "cda"
    names: ClassVar[Mapping[str, Any]] = {}

    def read(self, inbound: Inbound, index: Index) -> Reading:
        """Return what keeps the document: its id (ClinicalDocument.id) is what its sender calls it."""
        document = self.document(inbound.body, 0.0)
        found = document.message.find(f"{_NAMESPACE}id")
        parts = (found.get("root", ""), found.get("extension", "")) if found is not None else ()
        control_id = "^".join(part for part in parts if part)
        return Reading(self.kind, (b"file", inbound.key) if inbound.key else (), control_id, index(document))

    def document(self, body: bytes, received_at: float) -> Document:
        """Return the document over the root element; raise `MessageError` where it is no clinical document."""
        return Document(message=_root(body), received_at=received_at, body=body)

    def split(self, file: BinaryIO, name: str) -> Iterator[Piece]:  # noqa: ARG002 - one file is one message
        """Yield the one message of a file."""
        body = file.read(_LARGEST + 1)
        if not body:
            raise MessageError("the file is empty", location=BEGINNING)
        if len(body) > _LARGEST:
            yield Piece(body=body[:_SHOWN], line=1, reason=f"the file has more than {_LARGEST} bytes")
        else:
            yield Piece(body=body, line=1)


def _root(body: bytes) -> Element:
    root = read_xml(body, largest=_LARGEST)
    if root.tag != f"{_NAMESPACE}ClinicalDocument":
        raise MessageError(
            "the root element is not ClinicalDocument of urn:hl7-org:v3, so this is no clinical document", location="/"
        )
    return root
