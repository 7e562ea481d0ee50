"""This module reads MSH, and nothing but MSH, from the bytes of an HL7 v2 message.

It runs once for every message that arrives, before anything is decoded; it works on bytes and is written for speed.
"""

import re
from functools import lru_cache
from typing import Final, NamedTuple

from broker.errors import MessageError
from broker.wire.charset import mark_of

_FIELDS: Final = 18  # MSH-1 … MSH-18
_BLANK: Final = [b""] * _FIELDS
_LONGEST_DEFINITION: Final = 6  # MSH-1, and the five characters that MSH-2 has since 2.7
_PUNCTUATION: Final = re.compile(rb"[!-/:-@\[-`{-~]+")
_BEFORE: Final = b"\x0b\r\n\t \0"  # framing and line ends that senders leave in front of MSH
_LONGEST: Final = 8192  # bytes of a header; what is longer has lost its segment terminators, and would fill caches


class Separators(NamedTuple):
    """The characters that MSH-1 and MSH-2 define; "" where the message defines none."""

    field: str = "|"
    component: str = "^"
    repetition: str = "~"
    escape: str = "\\"
    subcomponent: str = "&"
    truncation: str = ""


class Header(NamedTuple):
    """MSH as sent: every value is the raw bytes of the field, still escaped and in the sender's character set.

    ``message_code``, ``trigger`` and ``structure`` are the components of MSH-9. ``wide`` names the codec when the
    message came as UTF-16 or UTF-32; the values here are UTF-8 then.
    """

    separators: Separators
    definition: bytes  # MSH-1 and MSH-2 together, such as b"|^~\\&"
    sending_application: bytes = b""
    sending_facility: bytes = b""
    receiving_application: bytes = b""
    receiving_facility: bytes = b""
    message_code: bytes = b""
    trigger: bytes = b""
    structure: bytes = b""
    control_id: bytes = b""
    processing_id: bytes = b""
    version: bytes = b""
    accept_ack: bytes = b""  # MSH-15
    application_ack: bytes = b""  # MSH-16
    charset: bytes = b""  # MSH-18
    wide: str = ""

    @property
    def type(self) -> str:
        """The message type as people write it: ``ADT^A01``."""
        return b"^".join(part for part in self[6:8] if part).decode("latin-1")

    def __repr__(self) -> str:
        """Show the type alone: the rest may identify a message."""
        return f"Header({self.type})"


def read_header(raw: bytes) -> Header:
    """Read MSH; a byte order mark, framing bytes and line ends in front of it do not matter.

    Raises `MessageError` with condition 100 where there is no MSH, 101 or 102 where its separators cannot be read.
    """
    wide = ""
    start = 0
    if not raw.startswith(b"MSH"):
        raw, start, wide = _find(raw)
    end = raw.find(b"\r", start)
    line = raw[start:] if end < 0 else raw[start:end]
    if b"\n" in line:
        line = line[: line.index(b"\n")]
    if len(line) > _LONGEST:
        text = f"MSH: the segment has more than {_LONGEST} bytes; segments end with a carriage return (0x0D)"
        raise MessageError(text, location="MSH", condition=104)
    separator = line[3:4]
    fields = line.split(separator, _FIELDS) if separator else [line]
    if len(fields) < _FIELDS:
        fields += _BLANK[len(fields) :]
    definition = separator + fields[1]
    separators = separators_of(definition)
    mark = definition[1:2]
    code, _, rest = fields[8].partition(mark)
    trigger, _, rest = rest.partition(mark)
    structure = rest.partition(mark)[0]
    # Straight to the tuple: the constructor of a named tuple costs as much as everything above.
    # fmt: off
    return tuple.__new__(Header, (
        separators, definition, fields[2], fields[3], fields[4], fields[5], code, trigger, structure,
        fields[9], fields[10], fields[11], fields[14], fields[15], fields[17], wide,
    ))
    # fmt: on


@lru_cache(maxsize=256)
def separators_of(definition: bytes) -> Separators:
    r"""Return the separators that MSH-1 and MSH-2, written together, define: ``|^~\&``.

    MSH-2 has one to five characters; what it leaves out does not exist in the message. Senders that write it in source
    code lose its backslash (``^~&``: nobody escapes with ``&``, so it separates, and nothing escapes) or double it
    (``^~\\&``, read as one).
    """
    if not _PUNCTUATION.match(definition):
        text = "MSH-1: there is no field separator; expected one punctuation character, usually |"
        raise MessageError(text, location="MSH-1", condition=101)
    if not _PUNCTUATION.fullmatch(definition):
        text = "MSH-2: found encoding characters that are no ASCII punctuation; expected such, usually ^~\\&"
        raise MessageError(text, location="MSH-2", condition=102)
    characters = definition.decode("ascii").replace("\\\\", "\\")
    if not 1 < len(characters) <= _LONGEST_DEFINITION:
        text = f"MSH-2: found {len(characters) - 1} encoding characters; expected one to five, usually ^~\\&"
        raise MessageError(text, location="MSH-2", condition=101 if len(characters) == 1 else 102)
    if is_backslash_lost(definition):
        return Separators(characters[0], escape="")
    return Separators(*characters, *[""] * (_LONGEST_DEFINITION - len(characters)))


def is_backslash_lost(definition: bytes) -> bool:
    """Tell whether MSH-1 and MSH-2, written together, lack the escape character that their sender meant: ``|^~&``."""
    return definition[1:] == b"^~&"


def _find(raw: bytes) -> tuple[bytes, int, str]:
    """Return bytes with MSH in them, where it begins, and the codec when the message is UTF-16 or UTF-32."""
    wide = mark_of(raw.lstrip(b"\x0b\r\n"))
    if wide == "utf-8-sig":
        raw, wide = raw.lstrip(b"\x0b\r\n")[3:], ""
    elif wide:
        raw = raw.lstrip(b"\x0b\r\n")[: 4 * _LONGEST].decode(wide, "replace").encode()
    start = len(raw) - len(raw.lstrip(_BEFORE))
    if not raw.startswith(b"MSH", start):
        found = "an HL7 batch" if raw.startswith((b"FHS", b"BHS"), start) else "something else"
        text = f"MSH: a message begins with the segment MSH; found {found}"
        raise MessageError(text, location="MSH", condition=100)
    return raw, start, wide
