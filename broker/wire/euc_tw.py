"""This module is the codec of CNS 11643 in 8-bit form (EUC-TW), which Python has not: the C library has it.

HL7 table 0211 calls it ``CNS 11643-1992``, and says that it needs no escape sequences. The tables of its planes, which
hold the rare characters of names, come with glibc; where the C library has none, there is no such codec.
"""

import codecs
import ctypes
import errno
import re
from functools import cache, lru_cache
from typing import Any, Final

NAME: Final = "euc_tw"
_THEIRS: Final = b"EUC-TW"  # as the C library calls it
_OURS: Final = b"UTF-8"
_FAILED: Final = ctypes.c_size_t(-1).value
_MORE: Final = 16  # bytes of the target beyond twice the source; no character takes more than that
_REASON: Final = "no character of CNS 11643"
# Plain bytes, a character, the beginning of one at the end of the bytes, or a byte that belongs to none.
_TOKEN: Final = re.compile(
    rb"(?P<plain>[\0-\x7f]+)|(?P<one>[\xa1-\xfe]{2}|\x8e[\xa1-\xb0][\xa1-\xfe]{2})"
    rb"|(?P<begun>(?:[\xa1-\xfe]|\x8e(?:[\xa1-\xb0][\xa1-\xfe]?)?)\Z)|(?P<none>[\s\S])"
)

_library: Final = ctypes.CDLL(None, use_errno=True)


@cache
def is_available() -> bool:
    """Say whether the C library has the tables."""
    try:
        return not _convert(_OURS, _THEIRS, b"")[2]
    except (LookupError, AttributeError):  # a C library may have no such function at all
        return False


def _convert(target: bytes, source: bytes, data: bytes) -> tuple[bytes, int, int]:
    """Return what the C library makes of bytes, of how many, and its errno where there was a fault.

    Raises `LookupError` where it cannot convert them at all.
    """
    _library.iconv_open.restype = ctypes.c_void_p
    handle = ctypes.c_void_p(_library.iconv_open(target, source))
    if handle.value == _FAILED:
        text = "the C library has no EUC-TW"
        raise LookupError(text)
    given, made = ctypes.create_string_buffer(data), ctypes.create_string_buffer(2 * len(data) + _MORE)
    begin, end = ctypes.c_void_p(ctypes.addressof(given)), ctypes.c_void_p(ctypes.addressof(made))
    left, room = ctypes.c_size_t(len(data)), ctypes.c_size_t(len(made))
    _library.iconv.restype = ctypes.c_size_t
    ended = _library.iconv(handle, *[ctypes.byref(each) for each in (begin, left, end, room)])
    fault = ctypes.get_errno() if ended == _FAILED else 0
    _library.iconv_close(handle)
    return ctypes.string_at(made, len(made) - room.value), len(data) - left.value, fault


def decode(data: bytes, errors: str = "strict", *, final: bool = True) -> tuple[str, int]:
    """Return the text of bytes, and how many of them it is: without ``final``, not those of a character's beginning."""
    found, taken, fault = _convert(_OURS, _THEIRS, data)
    if not fault or (fault == errno.EINVAL and not final):
        return found.decode(), taken
    if errors == "strict":
        raise UnicodeDecodeError(NAME, data, taken, taken + 1, _REASON)
    return _decode_each(data, errors, final=final)


def _decode_each(data: bytes, errors: str, *, final: bool) -> tuple[str, int]:
    """Decode bytes one character after the other, which takes as long whatever is wrong with them."""
    replace = codecs.lookup_error(errors)
    parts: list[str] = []
    position = 0
    while position < len(data):
        token: Any = _TOKEN.match(data, position)  # something always does
        kind, part = token.lastgroup, token[0]
        if kind == "begun" and not final:
            break
        text = part.decode() if kind == "plain" else _character(part) if kind == "one" else None
        if text is None:
            instead, position = replace(UnicodeDecodeError(NAME, data, position, position + 1, _REASON))
            parts.append(str(instead))
        else:
            parts.append(text)
            position += len(part)
    return "".join(parts), position


@lru_cache(maxsize=65536)
def _character(part: bytes) -> str | None:
    found, _, fault = _convert(_OURS, _THEIRS, part)
    return None if fault else found.decode()


def encode(text: str, errors: str = "strict") -> tuple[bytes, int]:
    """Return the bytes of a text, and its length."""
    data = text.encode("utf-8", "surrogatepass")
    found, taken, fault = _convert(_THEIRS, _OURS, data)
    if not fault:
        return found, len(text)
    if errors == "strict":
        position = len(data[:taken].decode("utf-8", "surrogatepass"))
        raise UnicodeEncodeError(NAME, text, position, position + 1, _REASON)
    return _encode_each(text, errors), len(text)


def _encode_each(text: str, errors: str) -> bytes:
    replace = codecs.lookup_error(errors)
    parts: list[bytes] = []
    position = 0
    while position < len(text):
        known = _bytes_of(text[position])
        if known is None:
            instead, position = replace(UnicodeEncodeError(NAME, text, position, position + 1, _REASON))
            parts.append(instead if isinstance(instead, bytes) else encode(instead)[0])
        else:
            parts.append(known)
            position += 1
    return b"".join(parts)


@lru_cache(maxsize=65536)
def _bytes_of(character: str) -> bytes | None:
    found, _, fault = _convert(_THEIRS, _OURS, character.encode("utf-8", "surrogatepass"))
    return None if fault else found


class _Encoder(codecs.IncrementalEncoder):
    def encode(self, text: str, final: bool = False) -> bytes:  # noqa: ARG002, FBT001, FBT002 - as codecs calls it
        return encode(text, self.errors)[0]


class _Decoder(codecs.BufferedIncrementalDecoder):
    def _buffer_decode(self, data: Any, errors: str, final: bool) -> tuple[str, int]:  # noqa: FBT001 - likewise
        return decode(bytes(data), errors, final=final)


def _codec(name: str) -> codecs.CodecInfo | None:
    if name != NAME or not is_available():
        return None
    return codecs.CodecInfo(
        name=NAME,
        encode=encode,
        decode=lambda data, errors="strict": decode(bytes(data), errors),
        incrementalencoder=_Encoder,
        incrementaldecoder=_Decoder,
    )


codecs.register(_codec)
