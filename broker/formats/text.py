"""This module is the format of what gateways for texts bring: replies, and the news that somebody opted out."""

from collections.abc import Iterator, Mapping
from typing import Any, BinaryIO, ClassVar, Final

from broker.errors import MessageError
from broker.formats.reading import Format, Index, Piece, Reading
from broker.formats.rows import Origin
from broker.formats.tree import Json, read_tree
from broker.message import Document, Inbound
from broker.spec import FormatSpec
from broker.wire.charset import Charset

_KINDS: Final = frozenset({"reply", "opted_out"})


class TextSpec(FormatSpec):
    """What a gateway for texts brought; `message.text`, `message.from` and `message.to` in expressions."""

    def build(self, charset: Charset | None) -> Format:  # noqa: ARG002 - it is JSON of our own
        """Build the format."""
        return Text()


class Text:
    """JSON with ``kind``, ``gateway``, ``at``, ``from``, ``to`` and ``text``; see `broker.formats.reading.Format`."""

    kind: Final = "text"
    names: ClassVar[Mapping[str, Any]] = {"message": None}

    def read(self, inbound: Inbound, index: Index) -> Reading:
        """Return what keeps it; without a key, the same text again is another one."""
        document = self.document(inbound.body, 0.0)
        key = (b"text", inbound.key) if inbound.key else ()
        return Reading(f"text {document.message['kind']}", key, "", index(document))

    def document(self, body: bytes, received_at: float) -> Document:
        """Return the document; raise `MessageError` where it is no reply."""
        message = read_tree(body, Origin())
        if not isinstance(message, dict) or message.get("kind") not in _KINDS or not message.get("from"):
            raise MessageError("this is no reply: it needs a `kind` (reply, opted_out) and `from`")
        return Document(message=message, received_at=received_at, values={"message": message})

    def split(self, file: BinaryIO, name: str) -> Iterator[Piece]:
        """Yield the one message of a file."""
        return Json().split(file, name)
