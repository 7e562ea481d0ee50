"""This module decodes text that switches between character sets by escape sequences (ISO 2022, MSH-20).

HL7 messages from Japan and Korea name several sets in MSH-18: the first one is in force until an escape sequence
designates another, and again after every line end. Python's own ISO 2022 codecs know no first set with characters of
its own, such as ISO 8859/1. Each set here is one that Python has: bytes of two-byte sets are read as EUC.
"""

import codecs
import re
from typing import Final

PREFIX: Final = "hl7_iso2022_"
_ASCII: Final = "ascii"
# What follows ESC -> where it puts a set (0: bytes below 0x80, 1: those above), and the codec for the set.
_JIS: Final = "euc_jp"
_SUPPLEMENT: Final = "jis_x_0212"  # within EUC, behind 0x8F
_DESIGNATIONS: Final[dict[bytes, tuple[int, str]]] = {
    b"(B": (0, _ASCII), b"(J": (0, _ASCII), b"(I": (0, "shift_jis"), b")I": (1, "shift_jis"),
    b"$@": (0, _JIS), b"$B": (0, _JIS), b"$(B": (0, _JIS), b"$(D": (0, _SUPPLEMENT),
    b"$A": (0, "gb2312"), b"$(A": (0, "gb2312"), b"$)A": (1, "gb2312"),
    b"$(C": (0, "euc_kr"), b"$)C": (1, "euc_kr"),
    b"-A": (1, "iso8859-1"), b"-B": (1, "iso8859-2"), b"-C": (1, "iso8859-3"), b"-D": (1, "iso8859-4"),
    b"-L": (1, "iso8859-5"), b"-G": (1, "iso8859-6"), b"-F": (1, "iso8859-7"), b"-H": (1, "iso8859-8"),
    b"-M": (1, "iso8859-9"), b"-V": (1, "iso8859-10"), b"-T": (1, "iso8859-11"), b"-Y": (1, "iso8859-13"),
    b"-_": (1, "iso8859-14"), b"-b": (1, "iso8859-15"), b"-f": (1, "iso8859-16"),
}  # fmt: skip
_TOKEN: Final = re.compile(
    rb"\x1b(?P<designation>\$[()]?[@-D]|[()-][@-f])"
    rb"|(?P<low>[!-~]+)|(?P<high>[\x80-\xff]+)|(?P<other>[\0-\x1a\x1c- \x7f]+)"
)
_LINE_END: Final = re.compile(rb"[\r\n]")
_RAISED: Final = bytes(byte | 0x80 for byte in range(256))


def decode(data: bytes, base: str, errors: str = "strict") -> str:
    """Decode bytes whose first set is ``base`` (a codec); raises `UnicodeDecodeError` with the offset."""
    if b"\x1b" not in data:
        return data.decode(base, errors)
    parts: list[str] = []
    sets = [_ASCII, base]
    position = 0
    while position < len(data):
        token = _TOKEN.match(data, position)
        designation = token["designation"] if token else None
        if token is None or (designation and designation not in _DESIGNATIONS):
            error = UnicodeDecodeError(PREFIX + base, data, position, position + 1, "unknown escape sequence")
            text, position = codecs.lookup_error(errors)(error)
            parts.append(str(text))
            continue
        if designation:
            place, codec = _DESIGNATIONS[designation]
            sets[place] = codec
        else:
            kind = str(token.lastgroup)
            parts.append(_characters(data, token.span(), sets[kind == "high"], errors))
            if kind == "other" and _LINE_END.search(token[0]):
                sets = [_ASCII, base]
        position = token.end()
    return "".join(parts)


def encode(text: str, base: str, errors: str = "strict") -> bytes:
    """Encode text: in the first set where it has the characters, else in the sets of ISO-2022-JP."""
    try:
        return text.encode(base)
    except UnicodeEncodeError:
        return b"".join(_encoded(character, base, errors) for character in _RUNS.findall(text))


_RUNS: Final = re.compile(r"[\0-\x7f]+|[^\0-\x7f]+")


def _encoded(run: str, base: str, errors: str) -> bytes:
    for codec in (base, "iso2022_jp_2", "iso2022_jp_ext"):
        try:
            return run.encode(codec)
        except UnicodeEncodeError:
            continue
    return run.encode(base, errors)


def _characters(data: bytes, span: tuple[int, int], codec: str, errors: str) -> str:
    begin, end = span
    part = data[begin:end]
    if codec != _ASCII and part[0] > ord(" ") and part[0] < ord("\x7f"):
        part = part.translate(_RAISED)
    if codec == _SUPPLEMENT:
        part, codec = b"".join(b"\x8f" + part[place : place + 2] for place in range(0, len(part), 2)), _JIS
    try:
        return part.decode(codec, errors)
    except UnicodeDecodeError as error:
        offset = begin + min(error.start, end - begin - 1)
        raise UnicodeDecodeError(PREFIX + codec, data, offset, offset + 1, error.reason) from None


def _codec(name: str) -> codecs.CodecInfo | None:
    if not name.startswith(PREFIX):
        return None
    base = codecs.lookup(name.removeprefix(PREFIX)).name
    return codecs.CodecInfo(
        name=PREFIX + base,
        encode=lambda text, errors="strict": (encode(text, base, errors), len(text)),
        decode=lambda data, errors="strict": (decode(bytes(data), base, errors), len(data)),
    )


codecs.register(_codec)
