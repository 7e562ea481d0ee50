"""This module cuts a text into short messages, in the 7-bit alphabet of GSM 03.38 where it fits, else in UCS-2.

A short message has 140 octets: 160 septets, or 70 code units of UTF-16. Each part of a longer one gives six octets to a
header that says how the parts go together (3GPP TS 23.040, 9.2.3.24.1), which leaves 153 septets or 67 code units.
"""

from dataclasses import dataclass
from typing import Final

GSM: Final = "GSM-7"
UCS2: Final = "UCS-2"
LONGEST: Final = {GSM: (160, 153), UCS2: (70, 67)}  # units of a message alone, and of a part

_ESCAPE: Final = 0x1B
# 3GPP TS 23.038, 6.2.1: the default alphabet, each character at its code; ESC stands where the extension begins.
_DEFAULT: Final = (
    "@£$¥èéùìòÇ\nØø\rÅåΔ_ΦΓΛΩΠΨΣΘΞ\x1bÆæßÉ !\"#¤%&'()*+,-./0123456789:;<=>?"
    "¡ABCDEFGHIJKLMNOPQRSTUVWXYZÄÖÑÜ§¿abcdefghijklmnopqrstuvwxyzäöñüà"
)
# 6.2.1.1: the extension table, each of these after an ESC.
_EXTENDED: Final = {
    "\f": 0x0A, "^": 0x14, "{": 0x28, "}": 0x29, "\\": 0x2F, "[": 0x3C, "~": 0x3D, "]": 0x3E, "|": 0x40, "€": 0x65,
}  # fmt: skip
_CODES: Final = {
    **{character: bytes([code]) for code, character in enumerate(_DEFAULT) if code != _ESCAPE},
    **{character: bytes([_ESCAPE, code]) for character, code in _EXTENDED.items()},
}
_OF_EXTENSION: Final = {code: character for character, code in _EXTENDED.items()}


@dataclass(frozen=True, slots=True)
class Cut:
    """A text as it goes on the air: the encoding (`GSM` or `UCS2`), and the parts it takes, at least one.

    A part of `GSM` holds one septet an octet, unpacked, as SMPP takes it; one of `UCS2` is big endian.
    """

    encoding: str
    parts: tuple[bytes, ...]

    @property
    def segments(self) -> int:
        """How many short messages it takes, which is what is paid for."""
        return len(self.parts)


def fits_gsm(text: str) -> bool:
    """Say whether a text can be written in the 7-bit alphabet."""
    return all(character in _CODES for character in text)


def encode(text: str) -> bytes:
    """Return a text in the 7-bit alphabet, one septet an octet; raise `ValueError` where it does not fit."""
    try:
        return b"".join([_CODES[character] for character in text])
    except KeyError:
        raise ValueError("gsm: a character is in no table of the 7-bit alphabet; use UCS-2") from None


def decode(data: bytes) -> str:
    """Return what is written in the 7-bit alphabet, one septet an octet.

    What an ESC makes no sense before is read from the default table (6.2.1.1, note 1); an octet above 127 is U+FFFD.
    """
    text: list[str] = []
    escaped = False
    for code in data:
        if code == _ESCAPE:
            escaped = True
            continue
        found = _DEFAULT[code] if code < len(_DEFAULT) else "\ufffd"
        text.append(_OF_EXTENSION.get(code, found) if escaped else found)
        escaped = False
    return "".join(text)


def cut(text: str) -> Cut:
    """Cut a text into as few parts as it takes; neither an escaped character nor a surrogate pair is torn apart."""
    encoding = GSM if fits_gsm(text) else UCS2
    width = 1 if encoding == GSM else 2  # octets of a unit
    characters = [_CODES[c] if encoding == GSM else c.encode("utf-16-be", "surrogatepass") for c in text]
    alone, shared = LONGEST[encoding]
    if sum(map(len, characters)) <= alone * width:
        return Cut(encoding, (b"".join(characters),))
    parts: list[bytes] = []
    part = b""
    for character in characters:
        if len(part) + len(character) > shared * width:
            parts.append(part)
            part = b""
        part += character
    return Cut(encoding, (*parts, part))
