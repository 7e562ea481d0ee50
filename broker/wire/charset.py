"""This module turns the name of a character set (MSH-18, HL7 table 0211) into a codec, and decodes strictly."""

import codecs
import re
from functools import lru_cache
from typing import Final, NamedTuple

from broker.errors import MessageError
from broker.wire import euc_tw, iso2022

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
    "8859/16": "iso8859-16",
    "ISO IR6": "ascii",
    "ISO IR13": "shift_jis",
    "ISO IR14": "shift_jis",
    "ISO IR87": "iso2022_jp",
    "ISO IR159": "iso2022_jp_1",
    "GB 18030-2000": "gb18030",
    "KS X 1001": "euc_kr",
    "BIG-5": "big5",
    "CNS 11643-1992": euc_tw.NAME,
    "UNICODE": "utf-8",
    "UNICODE UTF-8": "utf-8",
    "UNICODE UTF-16": "utf-16",
    "UNICODE UTF-32": "utf-32",
}
# Names that senders write although the table has none of them.
TOLERATED: Final[dict[str, str]] = {
    "US-ASCII": "ascii",
    "UTF-8": "utf-8",
    "UTF8": "utf-8",
    "UTF-16": "utf-16",
    "UTF-32": "utf-32",
    "ISO-8859-1": "iso8859-1",
    "ISO8859-1": "iso8859-1",
    "ISO-8859-15": "iso8859-15",
    "ISO IR100": "iso8859-1",
    "WINDOWS-1252": "cp1252",
    "SHIFT_JIS": "shift_jis",
    "EUC-JP": "euc_jp",
    "EUC-KR": "euc_kr",
    "GB18030": "gb18030",
    "GB2312": "gb2312",
    "GBK": "gbk",
    "BIG5": "big5",
    "CNS 11643": euc_tw.NAME,
    "EUC-TW": euc_tw.NAME,
}
# The same in further spellings, such as `ISO_IR 100` (DICOM's), `iso8859_2`, `CP1250` and `UNICODE UTF8`.
_SPELLINGS: Final = (
    (re.compile(r"ISO[ _-]?IR[ _-]?(\d{1,3})"), "ISO IR{}"),
    (re.compile(r"(?:ISO[ _-]?)?8859[ /_-](\d{1,2})"), "8859/{}"),
    (re.compile(r"(?:UNICODE[ _-])?UTF[ _-]?(8|16|32)"), "UNICODE UTF-{}"),
    (re.compile(r"(?:WINDOWS|CP)[ _-]?(125\d)"), "cp{}"),
)
# Numbers of the international register that the table has other names for.
_REGISTER: Final[dict[str, str]] = {
    "ISO IR58": "gb2312", "ISO IR100": "iso8859-1", "ISO IR101": "iso8859-2", "ISO IR109": "iso8859-3",
    "ISO IR110": "iso8859-4", "ISO IR126": "iso8859-7", "ISO IR127": "iso8859-6", "ISO IR138": "iso8859-8",
    "ISO IR144": "iso8859-5", "ISO IR148": "iso8859-9", "ISO IR149": "euc_kr", "ISO IR166": "iso8859-11",
    "ISO IR192": "utf-8", "ISO IR203": "iso8859-15", "ISO IR226": "iso8859-16",
}  # fmt: skip
# It was never made a standard, so nobody can say what its bytes are.
_NEVER_MADE: Final = "8859/12"

# Longest first: the mark of UTF-32 begins with the mark of UTF-16.
_MARKS: Final = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_WIDE_CODECS: Final = frozenset({"utf-16", "utf-32", "utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be"})
_NEVER_SWITCHED: Final = frozenset({"utf-8", "gb18030", *_WIDE_CODECS})
_LONGEST_MARK: Final = 8
_FRAMING: Final = b"\x0b\r\n"
_BEGINNING: Final = re.compile(rb"([A-Z][A-Z0-9]{2})([!-/:-@\[-`{-~])")
# How "MS" begins in the wide encodings when there is no mark.
_WIDE: Final = (
    (b"M\0\0\0S\0\0\0", "utf-32-le"),
    (b"\0\0\0M\0\0\0S", "utf-32-be"),
    (b"M\0S\0", "utf-16-le"),
    (b"\0M\0S", "utf-16-be"),
)


class Charset(NamedTuple):
    """How a channel reads its messages: ``fixed`` overrules MSH-18, ``default`` holds where MSH-18 says nothing.

    ``undecodable`` says what becomes of a byte that the character set does not have: refuse the message, or replace the
    byte by U+FFFD.
    """

    fixed: str = ""
    default: str = ""
    undecodable: str = "refuse"


def codec_of(name: str) -> str:
    """Return the Python codec for a name of table 0211, a tolerated spelling, or a Python codec's own name.

    Raises `MessageError` (condition 103, location MSH-18) for a name that nobody knows, or that cannot be read here.
    """
    found = _known(name.strip().upper())
    if not found and name.isascii():
        found = _python_codec(name.strip()) or ""
    if not found:
        raise _unknown()
    return found


@lru_cache(maxsize=256)
def codec_of_header(value: bytes, repetition: str = "~") -> str:
    """Return the codec for MSH-18 as sent ("" when not valued).

    The first repetition counts, and is ASCII where further ones follow an empty one (HL7 v2.5.1, 2.15.9.18). Further
    ones are the sets that escape sequences switch to; these say themselves which they mean. Only names of table 0211
    and tolerated spellings count here: what a sender writes is not a name of Python's.
    """
    names = [name.strip() for name in value.upper().decode("latin-1").split(repetition or "\r")]
    first = "" if names[0] == '""' else names[0]
    further = [name for name in names[1:] if name and name != '""']
    if not first and not further:
        return ""
    if not first and further[0].startswith("UNICODE"):
        first = further.pop(0)
    codec = _known(first) if first else "ascii"
    if not codec:
        raise _unknown()
    if further and codec not in _NEVER_SWITCHED:
        return iso2022.PREFIX + codec
    return codec


def _unknown() -> MessageError:
    return _refused("the character set is not one that can be read; send a name of HL7 table 0211, or set `charset`")


def _refused(text: str) -> MessageError:
    return MessageError(f"MSH-18: {text}", location="MSH-18", condition=103)


def _known(name: str) -> str:
    """Return the codec for a name in capitals, or "" for one that is neither in the table nor tolerated."""
    found = TABLE_0211.get(name) or TOLERATED.get(name)
    if found == euc_tw.NAME and not euc_tw.is_available():
        text = "CNS 11643 is read by the C library, and that of this machine has no EUC-TW"
        raise _refused(
            f"{text}; install its tables (Fedora: glibc-gconv-extra), or have the sender write UNICODE UTF-8"
        )
    if found:
        return found
    for spelling, usual in _SPELLINGS:
        if same := spelling.fullmatch(name):
            name = usual.format(int(same[1]))
            if name == _NEVER_MADE:
                text = "ISO 8859/12 was never made a standard; ask the sender what it really writes, and set `charset`"
                raise _refused(text)
            return TABLE_0211.get(name) or _REGISTER.get(name) or (name if name.startswith("cp") else "")
    return ""


def mark_of(raw: bytes) -> str:
    """Return the codec that a byte order mark or the zero bytes of a wide encoding give away, or ""."""
    for mark, codec in _MARKS:
        if raw.startswith(mark):
            return codec
    for begin, codec in _WIDE:
        if raw.startswith(begin):
            return codec
    return ""


def decode(
    raw: bytes,
    charset: bytes = b"",
    encoding: str | Charset | None = None,
    default: str = "",
    repetition: str = "~",
) -> tuple[str, str]:
    """Decode a message; return the text without a byte order mark, and the codec that was used.

    The order is: byte order mark, ``encoding`` (what the channel fixes), ``charset`` (MSH-18 as sent), ``default``, and
    last UTF-8 when the bytes are that, else Windows-1252, else ISO 8859/1. Raises `MessageError` at location MSH-18
    for an unknown name (condition 103) and for a byte that the character set does not have (condition 102).
    """
    errors, fixed = "strict", encoding
    if fixed is not None and isinstance(fixed, Charset):
        fixed, default, undecodable = fixed
        errors = "replace" if undecodable == "replace" else errors
    codec, before = "", 0
    if not raw.startswith(b"MSH"):
        before = len(raw) - len(raw.lstrip(_FRAMING))
        codec = mark_of(raw[before : before + _LONGEST_MARK])
    if not codec:
        before = 0
        codec = codec_of(fixed) if fixed else codec_of_header(charset, repetition)
        codec = codec or (codec_of(default) if default else "")
        if codec != "utf-8" and codec:
            codec = _meant(codec, raw)
    if not codec:
        return _guess(raw)
    try:
        text = (raw[before:] if before else raw).decode(codec, errors)
    except UnicodeError as error:
        raise _undecodable(raw, codec, before + getattr(error, "start", 0)) from None
    return text, codec


def _meant(codec: str, raw: bytes) -> str:
    """Return what a name means for a message whose MSH was read byte by byte."""
    if codec in _WIDE_CODECS:
        return "utf-8"  # Unicode, and not sixteen bits of it
    return codec if b"\x1b" in raw else codec.removeprefix(iso2022.PREFIX)


def _undecodable(raw: bytes, codec: str, offset: int) -> MessageError:
    line = raw[max(raw.rfind(b"\r", 0, offset), raw.rfind(b"\n", 0, offset)) + 1 : offset]
    begin = _BEGINNING.match(line)
    place = f" ({begin[1].decode()}-{line.count(begin[2])})" if begin and begin[1] != b"MSH" else ""
    text = (
        f"MSH-18: the byte at offset {offset}{place} is not {codec}; "
        "correct the sender's character set, or set `charset` on the listener to what it really sends"
    )
    return MessageError(text, location="MSH-18", condition=102)


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
