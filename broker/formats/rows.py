"""This module holds what formats of rows have in common: a row as steps see it, and as it is kept.

A row is kept with one line in front that says where it was and how it is to be read, so that it can be read alone at
any time: ``%row file=roster.csv line=12 codec=utf-8 delimiter=%2C``. Behind that come the file's header, if it has one,
and the row, byte for byte.
"""

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Final, NamedTuple
from urllib.parse import quote, unquote

from broker.errors import MessageError, StepError
from broker.wire.text_lines import errors_of

_MARK: Final = b"%row "
_FIRST: Final = re.compile(rb"%row file=(\S*) line=(\d+) ([^\n]*)\n")
_SHOWN: Final = 100  # characters of a file's name


class Origin(NamedTuple):
    """Where a row was, and how it is to be read; ``options`` are the format's own."""

    file: str = ""
    line: int = 0
    codec: str = ""
    options: Mapping[str, str] = {}

    @property
    def place(self) -> str:
        """Where it was, as errors say it."""
        return f"line {self.line}" if self.line else ""


class Row:
    """One row: its values by the name of their column, all of them text, and where it was."""

    __slots__ = ("file", "line", "raw", "values")

    def __init__(self, raw: bytes, origin: Origin, values: dict[str, str]) -> None:
        self.raw = raw
        self.file = origin.file
        self.line = origin.line
        self.values = values

    def get(self, column: str) -> str:
        """Return the value of a column; raise `StepError` when there is no such column."""
        try:
            return self.values[column]
        except KeyError:
            raise StepError("the row has no such column", location=f"line {self.line}") from None

    def __repr__(self) -> str:
        """Show the size alone: a row is patient data."""
        return f"Row({len(self.values)} columns)"


class Packing:
    """Makes the bodies of one file's rows."""

    def __init__(self, file: str, codec: str, options: Mapping[str, str], header: str = "") -> None:
        words = [f"{name}={quote(value, safe='')}" for name, value in {"codec": codec, **options}.items()]
        self._file = quote(shown_name(file), safe="").encode()
        self._words = " ".join(words).encode()
        self._codec, self._errors = codec, errors_of(codec)
        self._header = header.encode(codec, self._errors)

    def body(self, text: str, line: int) -> bytes:
        """Return the body of the row that begins at a line."""
        row = text.encode(self._codec, self._errors)
        return b"%%row file=%s line=%d %s\n%s%s" % (self._file, line, self._words, self._header, row)


def shown_name(file: str) -> str:
    """Return a file's name as it can be told: one line of at most a hundred printable characters."""
    name = file.encode("utf-8", "backslashreplace").decode()
    name = "".join(letter if letter.isprintable() else "?" for letter in name)
    return name if len(name) <= _SHOWN else f"{name[: _SHOWN - 1]}…"


def unpack(body: bytes) -> tuple[Origin, bytes]:
    """Return where a row was, and its bytes (with the header in front, if there is one)."""
    if not body.startswith(_MARK) or (found := _FIRST.match(body)) is None:
        return Origin(), body
    codec, options = _words(found[3])
    return Origin(_name(found[1]), int(found[2]), codec, options), body[found.end() :]


def place_of(body: bytes) -> str:
    """Return where a row was, as its sender would call it: ``roster.csv:12``; nothing for what is no row of a file."""
    origin, _ = unpack(body)
    return f"{origin.file}:{origin.line}" if origin.line else ""


@lru_cache(maxsize=64)
def _name(file: bytes) -> str:
    return unquote(file.decode("ascii", "replace"))


@lru_cache(maxsize=64)
def _words(text: bytes) -> tuple[str, Mapping[str, str]]:
    words = [word.partition("=") for word in text.decode("ascii", "replace").split(" ")]
    options = {name: unquote(value) for name, _, value in words}
    return options.pop("codec", ""), options


def decode_row(data: bytes, origin: Origin, codec: str) -> str:
    """Return a row's text; raise `MessageError` for a byte that the codec does not have."""
    try:
        text = data.decode(codec)
        return text if origin.line else text.removeprefix("\ufeff")
    except (UnicodeError, LookupError) as error:
        offset = getattr(error, "start", 0)
        text = f"the byte at offset {offset} is not {codec}; declare the file's real encoding with `encoding`"
        raise located(text, origin) from None


def located(text: str, origin: Origin, place: str = "") -> MessageError:
    """Return an error that says in which line of which file it is; ``place`` where more than the line is known."""
    where = f"line {origin.line} of {origin.file}: " if origin.line else ""
    return MessageError(f"{where}{text}", location=place or origin.place)
