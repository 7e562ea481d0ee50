"""This module turns the name of a character set (MSH-18, HL7 table 0211) into a codec, and decodes strictly."""

import codecs
from functools import lru_cache
from typing import Final

from broker.errors import MessageError

# HL7 table 0211 -> Python codec. `ISO IR87` and `ISO IR159` are the Japanese sets switched by escape sequences
# (ISO 2022); `ISO IR14` (JIS X 0201) is what Shift JIS has in its single bytes.
TABLE_0211: Final[dict[str, str]] = {
    "ASCII": "ascii",
    "8859/1": "iso8859-1",
    "8859/2": "iso8859-2",
    "8859/3": "iso8859-3",
    "8859/4": "iso8859-4",
    "8859/5": "iso8859-5",
    "8859/6": "iso8859-6",
    "8859/7": "iso8859-7",
    "8859/8": "iso8859-8",
    "8859/9": "iso8859-9",
    "8859/10": "iso8859-10",
    "8859/11": "iso8859-11",
    "8859/13": "iso8859-13",
    "8859/14": "iso8859-14",
    "8859/15": "iso8859-15",
    "ISO IR6": "ascii",
    "ISO IR14": "shift_jis",
    "ISO IR87": "iso2022_jp",
    "ISO IR159": "iso2022_jp_1",
    "GB 18030-2000": "gb18030",
    "KS X 1001": "euc_kr",
    "BIG-5": "big5",
    "UNICODE": "utf-8",
    "UNICODE UTF-8": "utf-8",
    "UNICODE UTF-16": "utf-16",
    "UNICODE UTF-32": "utf-32",
}
# Names that senders write although the table has none of them.
TOLERATED: Final[dict[str, str]] = {
    "UTF-8": "utf-8",
    "UTF8": "utf-8",
    "UTF-16": "utf-16",
    "UTF-32": "utf-32",
    "ISO-8859-1": "iso8859-1",
    "ISO8859-1": "iso8859-1",
    "ISO-8859-15": "iso8859-15",
    "ISO IR100": "iso8859-1",
    "WINDOWS-1252": "cp1252",
}
# In the table, but Python has no codec for it.
WITHOUT_CODEC: Final = frozenset({"CNS 11643-1992", "8859/12"})

# Longest first: the mark of UTF-32 begins with the mark of UTF-16.
_MARKS: Final = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
# How "MS" begins in the wide encodings when there is no mark.
_WIDE: Final = (
    (b"M\0\0\0S\0\0\0", "utf-32-le"),
    (b"\0\0\0M\0\0\0S", "utf-32-be"),
    (b"M\0S\0", "utf-16-le"),
    (b"\0M\0S", "utf-16-be"),
)


def codec_of(name: str) -> str:
    """Return the Python codec for a name of table 0211, a tolerated spelling, or a Python codec's own name.

    Raises `MessageError` (condition 103, location MSH-18) for a name that nobody knows.
    """
    key = name.strip().upper()
    found = TABLE_0211.get(key) or TOLERATED.get(key)
    if found is None and key not in WITHOUT_CODEC and key.isascii():
        found = _python_codec(name.strip())
    if found is None:
        text = "MSH-18: the character set is not one that can be read; send a name of HL7 table 0211, or set `charset`"
        raise MessageError(text, location="MSH-18", condition=103)
    return found


@lru_cache(maxsize=64)
def codec_of_header(value: bytes) -> str:
    """Return the codec for MSH-18 as sent ("" when not valued); the first repetition counts (HL7 v2.5.1, 2.15.9.18).

    Only names of table 0211 and tolerated spellings count here: what a sender writes is not a name of Python's.
    """
    name = value.partition(b"~")[0].strip().upper().decode("latin-1")
    if not name or name == '""':
        return ""
    found = TABLE_0211.get(name) or TOLERATED.get(name)
    if found is None:
        text = "MSH-18: the character set is not one that can be read; send a name of HL7 table 0211, or set `charset`"
        raise MessageError(text, location="MSH-18", condition=103)
    return found


def mark_of(raw: bytes) -> str:
    """Return the codec that a byte order mark or the zero bytes of a wide encoding give away, or ""."""
    for mark, codec in _MARKS:
        if raw.startswith(mark):
            return codec
    for begin, codec in _WIDE:
        if raw.startswith(begin):
            return codec
    return ""


def decode(raw: bytes, charset: bytes = b"", encoding: str | None = None, default: str = "") -> tuple[str, str]:
    """Decode a message; return the text without a byte order mark, and the codec that was used.

    The order is: byte order mark, ``encoding`` (what the channel fixes), ``charset`` (MSH-18 as sent), ``default``, and
    last UTF-8 when the bytes are that, else Windows-1252, else ISO 8859/1. Raises `MessageError` at location MSH-18
    for an unknown name (condition 103) and for a byte that the character set does not have (condition 102).
    """
    codec = "" if raw.startswith(b"MSH") else mark_of(raw)
    if not codec:
        codec = codec_of(encoding) if encoding else codec_of_header(charset) or (codec_of(default) if default else "")
    if not codec:
        return _guess(raw)
    try:
        text = raw.decode(codec)
    except UnicodeError as error:
        offset = getattr(error, "start", 0)
        message = (
            f"MSH-18: the byte at offset {offset} is not {codec}; "
            "correct the sender's character set, or set `charset` on the listener to what it really sends"
        )
        raise MessageError(message, location="MSH-18", condition=102) from None
    return text, codec


def _guess(raw: bytes) -> tuple[str, str]:
    for codec in ("utf-8", "cp1252"):
        try:
            return raw.decode(codec), codec
        except UnicodeDecodeError:
            continue
    return raw.decode("iso8859-1"), "iso8859-1"


def _python_codec(name: str) -> str | None:
    try:
        info = codecs.lookup(name)
    except (LookupError, ValueError):
        return None
    # Codecs such as `rot13` and `zlib` do not turn bytes into text.
    return info.name if info._is_text_encoding else None  # noqa: SLF001 - Python offers no public way to ask
