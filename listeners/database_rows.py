"""This module reads rows of somebody's database page by page, as messages, and marks there what was taken.

What it does blocks, and runs in a thread. Values are bound, never put into a statement.
"""

import base64
import contextlib
import datetime as dt
import math
from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Final, Protocol

import orjson

_PAGE: Final = 8 * 1024**2  # bytes of messages after which a page ends
_BUFFER: Final = 100  # rows that a driver fetches at once
_LARGEST: Final = 2**64 - 1  # integers of JSON as it is written here
_SMALLEST: Final = -(2**63)


class Unfit(Exception):
    """The rows are not what the channel says of them; the text says which column, and no value."""


@dataclass(frozen=True, slots=True)
class Row:
    """One row: its message, what makes it the same as one that came before, and its values."""

    body: bytes = field(repr=False)
    key: bytes = field(repr=False)
    values: Mapping[str, Any] = field(repr=False)
    is_nameless: bool = False  # none of its key columns has a value


@dataclass(frozen=True, slots=True)
class Page:
    """Some rows in their order; ``is_last`` says that there are no others now."""

    rows: Sequence[Row]
    is_last: bool


class Reading(Protocol):
    """How rows are read, and how the database or we know which were."""

    def read(self, engine: Any, most: int) -> Page:
        """Return about so many rows that were not settled; raise `Unfit`."""

    def settle(self, engine: Any, rows: Sequence[Row]) -> None:
        """Note that these rows, the first of a page, are committed; raise `Unfit`."""

    def noted(self) -> bytes | None:
        """Return what a restart needs to know; None where the database knows it."""

    def resume(self, noted: bytes) -> None:
        """Go on from what was noted."""


class Beyond:
    """Rows whose column is not below a mark, in its order; those at the mark that were settled are left out.

    Who comes to the mark later is found, too: only the rows themselves say what was read.
    """

    def __init__(self, query: str, key: Sequence[str], column: str, start: Any) -> None:
        self._query = query
        self._key = tuple(key)
        self._column = column
        self._mark = start
        self._at_mark: set[bytes] = set()  # keys of settled rows

    def read(self, engine: Any, most: int) -> Page:
        """Return the next rows."""
        import sqlalchemy as sa  # noqa: PLC0415 - costs 300 ms, which reading a channel file must not

        rows = sa.text(f"{self._query}\n").columns().subquery("polled")
        column: Any = sa.column(self._column)
        # The driver gave the mark its type, and knows better than a cast what the column takes.
        mark = sa.bindparam("handoff_mark", self._mark, type_=sa.types.NullType())
        chosen: Any = sa.select(sa.literal_column("*")).select_from(rows).where(column >= mark).order_by(column)
        # Rows at the mark are read over for each page. Where they are many, pages grow, so that they are so for few.
        most = max(most, len(self._at_mark))
        asked = most + len(self._at_mark)
        with engine.connect() as connection:
            found = _Found(connection, chosen.limit(asked), self._key, self._column)
            taken = found.take(most, leave_out=self._at_mark)
        if found.fetched == asked and not taken:
            raise Unfit(
                f"several rows with the same {self._column} have the same `key`; name columns that tell them apart"
            )
        return Page(taken, is_last=found.is_over)

    def settle(self, engine: Any, rows: Sequence[Row]) -> None:  # noqa: ARG002 - nothing is written there
        """Move the mark to the last of the rows."""
        mark = rows[-1].values[self._column]
        if mark != self._mark:
            self._at_mark = set()
        self._mark = mark
        self._at_mark |= {row.key for row in rows if row.values[self._column] == mark}

    def noted(self) -> bytes | None:
        """Return the mark; the rows at it come again after a restart, and are known to the intake."""
        return orjson.dumps(_typed(self._mark))

    def resume(self, noted: bytes) -> None:
        """Go on from a mark."""
        kind, text = orjson.loads(noted)
        self._mark = _READ[kind](text)
        self._at_mark = set()


class Marked:
    """Rows that a statement of the site's own takes out of the query, after they are committed."""

    def __init__(self, query: str, key: Sequence[str], mark: str) -> None:
        self._query = query
        self._key = tuple(key)
        self._mark = mark

    def read(self, engine: Any, most: int) -> Page:
        """Return the first rows of the query."""
        import sqlalchemy as sa  # noqa: PLC0415 - as above

        with engine.connect() as connection:
            found = _Found(connection, sa.text(self._query), self._key)
            return Page(found.take(most), is_last=found.is_over)

    def settle(self, engine: Any, rows: Sequence[Row]) -> None:
        """Run the statement for each row, in one transaction."""
        import sqlalchemy as sa  # noqa: PLC0415 - as above

        statement = sa.text(self._mark)
        wanted = set(statement.compile().params)
        if missing := sorted(wanted - set(rows[0].values)):
            raise Unfit(f"`outbox.mark` wants :{missing[0]}, and the query gives no such column")
        changed = 0
        with engine.begin() as connection:
            for row in rows:
                given = {name: row.values[name] for name in wanted}
                changed += abs(int(connection.execute(statement, given).rowcount))  # -1: nobody says
        if not changed:
            raise Unfit("`outbox.mark` changed none of the rows that were taken, so they would be read for ever")

    def noted(self) -> bytes | None:
        """Return None: the database knows."""
        return None

    def resume(self, noted: bytes) -> None:
        """Do nothing: the database knows."""


class _Found:
    """What a query gives, read no further than it is wanted."""

    def __init__(self, connection: Any, statement: Any, key: Sequence[str], column: str = "") -> None:
        streamed = connection.execution_options(stream_results=True, max_row_buffer=_BUFFER)
        self._result = streamed.execute(statement)
        self._names = list(self._result.keys())
        self._key = key
        # A row that was changed since, and so has another mark, is another message.
        self._parts = [*key, column] if column and column not in key else [*key]
        self.fetched = 0
        self.is_over = False

    def take(self, most: int, leave_out: AbstractSet[bytes] = frozenset()) -> list[Row]:
        """Return at most so many rows, and no more than fit into memory well; raise `Unfit`."""
        rows: list[Row] = []
        size = 0
        with contextlib.closing(self._result):
            self._check()
            while len(rows) < most and size < _PAGE:
                found = self._result.fetchone()
                if found is None:
                    self.is_over = True
                    break
                self.fetched += 1
                row = self._row(found)
                if row.key not in leave_out:
                    rows.append(row)
                    size += len(row.body)
        return rows

    def _check(self) -> None:
        if twice := next((name for name in self._names if self._names.count(name) > 1), None):
            raise Unfit(f"the query gives two columns called {twice}; give one another name with AS")
        if missing := next((name for name in self._parts if name not in self._names), None):
            raise Unfit(f"the query gives no column {missing}")

    def _row(self, found: Any) -> Row:
        values = dict(zip(self._names, found, strict=True))
        shown = {name: plain(value) for name, value in values.items()}
        key = orjson.dumps([shown[name] for name in self._parts])
        return Row(orjson.dumps(shown), key, values, all(shown[name] is None for name in self._key))


def plain(value: Any) -> Any:
    """Return a value of a column as JSON has it; what JSON has no form of becomes text."""
    return next(show(value) for kinds, show in _SHOWN if isinstance(value, kinds))


_SHOWN: Final[Sequence[tuple[Any, Callable[[Any], Any]]]] = (
    ((str, bool, type(None)), lambda value: value),
    (int, lambda value: value if _SMALLEST <= value <= _LARGEST else str(value)),
    (float, lambda value: value if math.isfinite(value) else str(value)),
    ((dt.date, dt.time), lambda value: value.isoformat()),
    ((bytes, bytearray, memoryview), lambda value: base64.b64encode(value).decode()),
    (Mapping, lambda value: {str(name): plain(part) for name, part in value.items()}),
    ((list, tuple, set), lambda value: [plain(part) for part in value]),
    (object, str),
)
_READ: Final[Mapping[str, Any]] = {
    "int": int,
    "float": float,
    "decimal": Decimal,
    "datetime": dt.datetime.fromisoformat,
    "date": dt.date.fromisoformat,
    "bytes": base64.b64decode,
    "text": str,
}


def _typed(mark: Any) -> tuple[str, Any]:
    """Return a mark with the name of its type, so that it is asked for as it was read."""
    kinds = (int, float, Decimal, dt.datetime, dt.date, bytes)
    kind = next((kind.__name__.lower() for kind in kinds if isinstance(mark, kind)), "text")
    return kind, str(mark) if kind in {"decimal", "int", "float"} else plain(mark)
