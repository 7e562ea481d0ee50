"""This module takes delimited text (RFC 4180 and its relatives) apart into records, and finds out its delimiter.

Python's csv module decides what a record is; here is what it leaves open: where each record begins, which characters
it had, and how to go on behind one that is broken.
"""

import contextlib
import csv
import re
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from broker.errors import MessageError
from broker.wire.text_lines import Line

DELIMITERS: Final = (",", ";", "\t", "|")
_LINE: Final = re.compile(r"[^\r\n]*(?:\r\n|\r|\n)|[^\r\n]+")
_LEAST: Final = 4096  # characters that are looked through for the end of a quote, however many were open before
_SNIFFED: Final = 50  # records that are looked at
_LARGEST_FIELD: Final = 64 * 1024**2  # of the csv module, for the whole process; records are bounded before
_NOT_CLOSED: Final = "a quote opens here and is not closed"
_AFTER_QUOTE: Final = "something follows a closing quote; a quote inside quotes is written twice"

csv.field_size_limit(_LARGEST_FIELD)


@dataclass(frozen=True, slots=True, kw_only=True)
class Dialect:
    """How delimited text is written; no quote or escape character is ``""``."""

    delimiter: str = ","
    quote: str = '"'
    escape: str = ""
    doubled: bool = True  # a quote inside quotes is written twice
    skip_blank: bool = False  # blanks behind a delimiter do not count

    def options(self) -> dict[str, Any]:
        """Return it as the csv module takes it."""
        return {
            "delimiter": self.delimiter,
            "quotechar": self.quote or None,
            "escapechar": self.escape or None,
            "doublequote": self.doubled,
            "skipinitialspace": self.skip_blank,
            "quoting": csv.QUOTE_MINIMAL if self.quote else csv.QUOTE_NONE,
            "strict": True,
        }


class Record(NamedTuple):
    """One record: its fields, its characters with the line end, its first line; or a ``reason`` why it is none.

    ``cut`` says that ``text`` is not all of it, because that is too long.
    """

    fields: Sequence[str]
    text: str
    line: int
    reason: str = ""
    cut: bool = False


class _Unclosed(Exception):
    """A record goes on for longer than it may."""


class _Source:
    """Hands lines to the csv module, notes which it took, and takes back those that it should not have."""

    def __init__(self, lines: Iterator[Line], limit: int, line: int, is_left_out: Callable[[str], bool]) -> None:
        self._lines = lines
        self._is_left_out = is_left_out
        self._back: deque[Line] = deque()
        self._limit = limit
        self._broken = 0  # records whose quote was not closed
        self._size = 0
        self.line = line  # the first line of the record
        self.taken: list[Line] = []

    def __iter__(self) -> "_Source":
        return self

    def __next__(self) -> str:
        line = self._next()
        while not self.taken and self._is_left_out(line.text):
            self.line += 1
            line = self._next()
        self.taken.append(line)
        self._size += len(line.text)
        if line.reason or (len(self.taken) > 1 and self._size > self._most()):
            raise _Unclosed
        return line.text

    def _next(self) -> Line:
        return self._back.popleft() if self._back else next(self._lines)

    def _most(self) -> int:
        # Each quote that is not closed costs a look at what follows: many of them must not cost the square of it.
        return max(self._limit // (1 + self._broken), _LEAST)

    def begin(self) -> None:
        """Begin a record."""
        self.line += len(self.taken)
        self.taken = []
        self._size = 0

    def give_back(self) -> Line:
        """Keep the first line of what was taken, and take the others back."""
        first, *others = self.taken
        self._broken += bool(others)
        self._back.extendleft(reversed(others))
        self.taken = [first]
        return first


def none_left_out(_text: str) -> bool:
    """Say of every line that it counts."""
    return False


def read_records(
    lines: Iterator[Line],
    dialect: Dialect,
    limit: int,
    line: int = 1,
    is_left_out: Callable[[str], bool] = none_left_out,
) -> Iterator[Record]:
    """Yield the records of delimited text; ``line`` is the number of the first line, and some lines are left out.

    A record that cannot be read gives its first line alone with a reason, and reading goes on behind that line. One
    may have ``limit`` characters.
    """
    options = dialect.options()
    source = _Source(lines, limit, line, is_left_out)
    reader = csv.reader(source, **options)
    while True:
        source.begin()
        try:
            fields = next(reader)
        except StopIteration:
            return
        except (csv.Error, _Unclosed) as error:
            lone = len(source.taken) == 1 and not isinstance(error, _Unclosed) and "end of data" not in str(error)
            first = source.give_back()
            reason = first.reason or (_AFTER_QUOTE if lone else _NOT_CLOSED)
            yield Record((), first.text, source.line, reason, cut=bool(first.reason))
            reader = csv.reader(source, **options)
        else:
            text = source.taken[0].text if len(source.taken) == 1 else "".join(part.text for part in source.taken)
            yield Record(fields, text, source.line)


def read_fields(text: str, dialect: Dialect) -> list[list[str]]:
    """Return the records of a short text; raise `MessageError` where they cannot be read."""
    try:
        return list(csv.reader(_ended(text), **dialect.options()))
    except csv.Error as error:
        raise MessageError(_NOT_CLOSED if "end of data" in str(error) else _AFTER_QUOTE) from None


def _ended(text: str) -> Iterator[str]:
    # Lines as files have them: str.splitlines would also end one at a form feed.
    return (found[0] for found in _LINE.finditer(text))


def sniff_delimiter(text: str, dialect: Dialect) -> str:
    """Return the delimiter of a text by its first records, or nothing where none gives two columns or more.

    The one that gives most records the same number of columns as the first has is the one.
    """
    best, most = "", (0.0, 0)
    for delimiter in filter(text.__contains__, DELIMITERS):
        counts = _counts(text, Dialect(delimiter=delimiter, quote=dialect.quote, escape=dialect.escape))
        if counts and counts[0] > 1:
            score = (round(counts.count(counts[0]) / len(counts), 1), counts[0])
            if score > most:
                best, most = delimiter, score
    return best


def _counts(text: str, dialect: Dialect) -> list[int]:
    """Return how many fields each of the first records has, up to one that cannot be read; blank ones left out."""
    counts: list[int] = []
    with contextlib.suppress(csv.Error):
        for fields in csv.reader(_ended(text), **dialect.options()):
            if len(counts) == _SNIFFED:
                break
            if fields:
                counts.append(len(fields))
    return counts
