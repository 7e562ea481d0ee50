"""This module says what a delivery does in somebody's database: a row of a table, a statement, or a procedure.

Each `Plan` runs inside a transaction of the caller, and returns how many rows it changed.
"""

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING, Any, Final, Protocol

if TYPE_CHECKING:
    import sqlalchemy as sa

_TRUE: Final = frozenset({"true", "t", "yes", "y", "1"})
_FALSE: Final = frozenset({"false", "f", "no", "n", "0"})
_UPSERTS: Final = frozenset({"postgresql", "sqlite"})
_LOCKING: Final = frozenset({"mysql", "mariadb"})  # their upsert would take any unique index for the one that is meant


class Unfit(Exception):
    """A value, or what came of a statement, is not what it must be; the text says which column, and no value."""

    def __init__(self, text: str, column: str = "") -> None:
        super().__init__(text)
        self.column = column


class Unprepared(Exception):
    """The database lacks what the channel names; the text says what."""


class Plan(Protocol):
    """What to do with the values of a delivery."""

    @property
    def commits(self) -> bool:
        """Whether it may commit by itself, so that an error does not say that nothing happened."""

    def run(self, connection: "sa.Connection", values: Mapping[str, Any], key: str) -> int:
        """Do it; return the number of rows that it changed, or -1 where nobody says."""


@dataclass(slots=True)
class Table:
    """A row of a table, whose columns are read from the database once."""

    name: str
    key: tuple[str, ...] = ()
    delivery_column: str | None = None
    keep: bool = False
    commits: bool = False
    _table: Any = field(default=None, repr=False)

    def run(self, connection: "sa.Connection", values: Mapping[str, Any], key: str) -> int:
        """Insert the row, or update the one that is there."""
        table = self._reflected(connection, [*values, *([self.delivery_column] if self.delivery_column else [])])
        row = {name: fitted(value, table.c[name].type, name) for name, value in values.items()}
        target = self.key
        if self.delivery_column:
            row[self.delivery_column] = key
            target = (self.delivery_column,)
        if not target:
            return int(connection.execute(table.insert(), row).rowcount)
        changes = {} if self.keep else {name: value for name, value in row.items() if name not in target}
        if self.delivery_column:
            changes = {}
        if connection.dialect.name in _UPSERTS:
            return _upsert(connection, table, row, target, changes)
        return _find_and_write(connection, table, row, target, changes)

    def _reflected(self, connection: "sa.Connection", columns: Sequence[str]) -> Any:
        import sqlalchemy as sa  # noqa: PLC0415 - the engine has loaded it by now

        if self._table is None:
            schema, _, name = self.name.rpartition(".")
            try:
                table = sa.Table(
                    name, sa.MetaData(), schema=schema or None, autoload_with=connection, resolve_fks=False
                )
            except sa.exc.NoSuchTableError:
                raise Unprepared(f"there is no table {self.name}") from None
            missing = [column for column in columns if column not in table.c]
            if missing:
                raise Unprepared(f"the table {self.name} has no column {missing[0]}")
            self._table = table
        return self._table


def _upsert(
    connection: "sa.Connection", table: Any, row: Mapping[str, Any], target: Sequence[str], changes: Mapping[str, Any]
) -> int:
    from sqlalchemy.dialects import postgresql, sqlite  # noqa: PLC0415 - as above

    insert: Any = (postgresql if connection.dialect.name == "postgresql" else sqlite).insert(table).values(**row)
    columns = [table.c[name] for name in target]
    if changes:
        new = {name: insert.excluded[name] for name in changes}
        statement = insert.on_conflict_do_update(index_elements=columns, set_=new)
    else:
        statement = insert.on_conflict_do_nothing(index_elements=columns)
    return int(connection.execute(statement).rowcount)


def _find_and_write(
    connection: "sa.Connection", table: Any, row: Mapping[str, Any], target: Sequence[str], changes: Mapping[str, Any]
) -> int:
    """Look, then update or insert, for databases whose upserts differ; the unique index stops two at the same time."""
    import sqlalchemy as sa  # noqa: PLC0415 - as above

    meant = sa.and_(*(table.c[name] == row[name] for name in target))
    look = sa.select(sa.literal(1)).select_from(table).where(meant).limit(1)
    if connection.dialect.name in _LOCKING:
        look = look.with_for_update()  # of two at the same time one becomes the victim of a deadlock, and tries again
    if connection.execute(look).first() is None:
        return int(connection.execute(table.insert(), row).rowcount)
    if not changes:
        return 0
    return int(connection.execute(table.update().where(meant), changes).rowcount)


@dataclass(frozen=True, slots=True)
class Statement:
    """One statement of the site's own."""

    text: str
    rows: str = "any"  # or some, one
    key_name: str = "delivery_key"
    commits: bool = False

    def run(self, connection: "sa.Connection", values: Mapping[str, Any], key: str) -> int:
        """Run it; raise `Unfit` where it changed another number of rows than it must."""
        import sqlalchemy as sa  # noqa: PLC0415 - as above

        statement = sa.text(self.text)
        wanted = set(statement.compile().params)
        given = {name: value for name, value in {**values, self.key_name: key}.items() if name in wanted}
        changed = int(connection.execute(statement, given).rowcount)
        if (self.rows == "some" and changed < 1) or (self.rows == "one" and changed != 1):
            wish = "one row" if self.rows == "one" else "at least one row"
            raise Unfit(f"the statement changed {changed} rows and must change {wish}; it was undone")
        return changed


@dataclass(frozen=True, slots=True)
class Call:
    """A stored procedure, with the values as its arguments."""

    name: str
    arguments: tuple[str, ...]
    commits: bool = True

    def run(self, connection: "sa.Connection", values: Mapping[str, Any], key: str) -> int:  # noqa: ARG002 - it has none
        """Call it."""
        import sqlalchemy as sa  # noqa: PLC0415 - as above

        arguments = ", ".join(f":{name}" for name in self.arguments)
        kind = connection.dialect.name
        if kind == "sqlite":
            raise Unprepared("SQLite has no stored procedures; use `table` or `statement`")
        if kind == "mssql":
            named = ", ".join(f"@{name} = :{name}" for name in self.arguments)
            text = f"EXEC {self.name} {named}"
        else:
            text = f"BEGIN {self.name}({arguments}); END;" if kind == "oracle" else f"CALL {self.name}({arguments})"
        connection.execute(sa.text(text), dict(values))
        return -1


def fitted(value: Any, kind: Any, column: str) -> Any:
    """Return a value in the Python type that a column takes; raise `Unfit`, without the value, where it has none."""
    try:
        wanted = kind.python_type
    except NotImplementedError:
        return value
    if value is None or (isinstance(value, wanted) and not (wanted is int and isinstance(value, bool))):
        return value
    try:
        if getattr(kind, "display_width", None) == 1 and _is_truth(value):  # what MySQL and MariaDB call boolean
            return int(_truth(value))
        return _CONVERSIONS.get(wanted, _as_it_is)(value)
    except (ValueError, TypeError, InvalidOperation):
        text = f"the value for the column {column} is no {wanted.__name__}"
        raise Unfit(text, column) from None


def _as_it_is(value: Any) -> Any:
    return value


def _whole(value: Any) -> int:
    number = Decimal(str(value).strip()) if not isinstance(value, bool) else Decimal(int(value))
    if number != number.to_integral_value():
        raise ValueError("not whole")
    return int(number)


def _is_truth(value: Any) -> bool:
    return str(value).strip().lower() in _TRUE | _FALSE


def _truth(value: Any) -> bool:
    text = str(value).strip().lower()
    if text in _TRUE:
        return True
    if text in _FALSE:
        return False
    raise ValueError("neither true nor false")


def _day(value: Any) -> dt.date:
    return dt.datetime.fromisoformat(str(value).strip()).date()


_CONVERSIONS: Final[Mapping[type, Any]] = {
    str: str,
    int: _whole,
    float: float,
    Decimal: lambda value: Decimal(str(value).strip()),
    bool: _truth,
    dt.date: _day,
    dt.datetime: lambda value: dt.datetime.fromisoformat(str(value).strip()),
    dt.time: lambda value: dt.time.fromisoformat(str(value).strip()),
    bytes: lambda value: str(value).encode(),
}
