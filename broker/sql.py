"""This module connects to SQLite and PostgreSQL so that the store's SQL is written once for both.

Both drivers are used synchronously from one thread each. Statements are written with ``?`` for parameters. A bulk
statement holds ``{v}`` where its rows go; that becomes ``VALUES (…),(…)`` on SQLite and ``SELECT * FROM unnest(…)`` on
PostgreSQL, so that a group of any size costs one call into the driver (and gives up Python's lock once, not per row).
"""

import contextlib
import sqlite3
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, Final, Protocol

from broker.errors import NotReady, StoreError, StoreFatal, StoreUnavailable

Row = tuple[Any, ...]

_LOCK: Final = 0x48414E444F4646  # the advisory lock of an engine: "HANDOFF"
_AWAY: Final = ("08", "53", "57")  # SQLSTATE: connection, resources, stopped by an operator
_PG_TYPES: Final = {"double": "double precision"}
_COPY_TYPES: Final = {"bigint": "int8", "integer": "int4", "double": "float8", "boolean": "bool"}
_CHUNK: Final = 128  # most rows in one statement


class Connection(Protocol):
    """One connection to one database, used from one thread at a time."""

    dialect: str  # sqlite, postgresql

    def run(self, sql: str, parameters: Sequence[Any] = ()) -> int:
        """Execute one statement; return the number of rows it changed."""

    def rows(self, sql: str, parameters: Sequence[Any] = ()) -> list[Row]:
        """Execute one statement; return the rows it gives."""

    def bulk(self, sql: str, types: str, rows: Sequence[Row]) -> list[Row]:
        """Execute a statement with ``{v}`` over many rows; return what it gives (RETURNING, SELECT).

        ``types`` names the PostgreSQL types of the row's columns, separated by blanks.
        """

    def append(self, table: str, types: str, rows: Sequence[Row]) -> None:
        """Insert rows that are surely new; ``table`` names its columns too: ``content (id, data)``."""

    def bulk_in(self, sql: str, parameters: Sequence[Any], ids: Sequence[int]) -> list[Row]:
        """Execute a statement with ``IN ({v})`` at its end over many ids, after its other parameters."""

    def transaction(self) -> contextlib.AbstractContextManager[None]:
        """Begin; commit at the end of the block, roll back when it raises."""

    def close(self) -> None:
        """Close the connection."""


def connect(url: str, *, writer: bool = True, alone: bool = False) -> Connection:
    """Connect to ``sqlite:///path`` or ``postgresql://…``; a reader may not write and never checkpoints.

    ``alone`` asks PostgreSQL that no other connection that asks so be in the database (on SQLite the data folder's
    lock says so). Raises `NotReady` when the database cannot be reached or used, or another engine has it.
    """
    if url.startswith("sqlite:///"):
        return Sqlite(Path(url.removeprefix("sqlite:///")), writer=writer)
    if url.startswith(("postgresql://", "postgres://")):
        return Postgres(url, writer=writer, alone=alone)
    message = f"store: {url.partition(':')[0]!r} is not a database that we know; write sqlite:///path or postgresql://…"
    raise NotReady(message)


class Sqlite:
    """SQLite in WAL mode with ``synchronous=FULL``: a commit is on disk when it returns."""

    dialect = "sqlite"

    def __init__(self, path: Path, *, writer: bool) -> None:
        try:
            self._connection = sqlite3.connect(
                path, isolation_level=None, check_same_thread=False, cached_statements=1024, timeout=5.0
            )
            self._prepare(writer=writer)
        except sqlite3.Error as error:
            message = f"store: {path} cannot be used as an SQLite database ({error}); check the path and its rights"
            raise NotReady(message) from error

    def _prepare(self, *, writer: bool) -> None:
        run = self._connection.execute
        if writer:
            run("PRAGMA page_size=8192")  # of a new file; five usual bodies fit into a page, and two into one of 4096
            run("PRAGMA journal_mode=WAL").fetchall()
            run("PRAGMA synchronous=FULL")
            run("PRAGMA wal_autocheckpoint=1000")
        else:
            # Only the writer checkpoints: two connections doing so can corrupt a WAL before SQLite 3.51.3.
            run("PRAGMA wal_autocheckpoint=0").fetchall()
            run("PRAGMA query_only=ON")
        run("PRAGMA busy_timeout=5000").fetchall()
        run("PRAGMA foreign_keys=ON")
        run("PRAGMA trusted_schema=OFF")
        run("PRAGMA cell_size_check=ON")
        run("PRAGMA temp_store=MEMORY")
        run(f"PRAGMA cache_size={-16384 if writer else -4096}")

    def run(self, sql: str, parameters: Sequence[Any] = ()) -> int:
        """Execute one statement; return the number of rows it changed."""
        with _sqlite_errors():
            return self._connection.execute(sql, parameters).rowcount

    def rows(self, sql: str, parameters: Sequence[Any] = ()) -> list[Row]:
        """Execute one statement; return the rows it gives."""
        with _sqlite_errors():
            return self._connection.execute(sql, parameters).fetchall()

    def bulk(self, sql: str, types: str, rows: Sequence[Row]) -> list[Row]:
        """Execute a statement with ``{v}`` over many rows; return what it gives."""
        found: list[Row] = []
        width = types.count(" ") + 1
        with _sqlite_errors():
            for part in _chunks(rows):
                flat = [value for row in part for value in row]
                found += self._connection.execute(_values(sql, width, len(part)), flat).fetchall()
        return found

    def append(self, table: str, types: str, rows: Sequence[Row]) -> None:
        """Insert rows that are surely new."""
        self.bulk(_inserted(table), types, rows)

    def bulk_in(self, sql: str, parameters: Sequence[Any], ids: Sequence[int]) -> list[Row]:
        """Execute a statement with ``IN ({v})`` at its end over many ids, after its other parameters."""
        found: list[Row] = []
        with _sqlite_errors():
            for part in _chunks(ids):
                found += self._connection.execute(_holes(sql, len(part)), (*parameters, *part)).fetchall()
        return found

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        """Begin; commit at the end of the block, roll back when it raises."""
        self.run("BEGIN IMMEDIATE")
        try:
            yield
            self.run("COMMIT")
        except BaseException:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            raise

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()


def _chunks(rows: Sequence[Any]) -> Iterator[Sequence[Any]]:
    # One statement for each number of rows there is: compiling one takes as long as running it a few times, they are
    # kept, and every call into the driver saved is also a time less that a thread waits for Python's lock.
    for start in range(0, len(rows), _CHUNK):
        yield rows[start : start + _CHUNK]


@lru_cache(maxsize=64)
def _inserted(table: str) -> str:
    return f"INSERT INTO {table} {{v}}"


@lru_cache(maxsize=2048)
def _holes(sql: str, size: int) -> str:
    return sql.replace("{v}", ",".join("?" * size))


@lru_cache(maxsize=2048)
def _values(sql: str, width: int, size: int) -> str:
    row = "(" + ",".join("?" * width) + ")"
    return sql.replace("{v}", "VALUES " + ",".join([row] * size))


@contextlib.contextmanager
def _sqlite_errors() -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        name = getattr(error, "sqlite_errorname", type(error).__name__)
        if name == "SQLITE_FULL":
            message = "store: the disk is full; free space under the data folder, then start again"
            raise StoreFatal(message) from None
        if name.startswith(("SQLITE_IOERR", "SQLITE_CORRUPT", "SQLITE_READONLY", "SQLITE_CANTOPEN", "SQLITE_NOTADB")):
            # After a failed fsync nobody knows what is on disk: stop, as PostgreSQL does, and read it afresh.
            message = f"store: SQLite cannot go on ({name}); check the disk under the data folder, then start again"
            raise StoreFatal(message) from None
        message = f"store: SQLite refused a unit of work ({name})"
        raise StoreError(message) from error


class Postgres:
    """PostgreSQL through psycopg, with ``synchronous_commit=on`` made sure of."""

    dialect = "postgresql"

    def __init__(self, url: str, *, writer: bool, alone: bool = False) -> None:
        import psycopg  # noqa: PLC0415 - only where PostgreSQL is used

        from broker import arrays  # noqa: PLC0415 - as above

        self._psycopg = psycopg
        self._arrays = arrays
        self._url = url
        self._writer = writer
        self._alone = alone
        self._connection = self._connect()

    def _place(self) -> str:
        """Return which database it is, without user and password; what the URL leaves out libpq finds elsewhere."""
        parsed = self._psycopg.pq.Conninfo
        try:
            given = [*parsed.get_defaults(), *parsed.parse(self._url.encode())]
        except self._psycopg.Error:
            return "an address that cannot be read"
        found = {one.keyword: one.val.decode("utf-8", "replace") for one in given if one.val}
        host = found.get(b"host", "this machine")
        host = f"[{host}]" if ":" in host else host
        return f"{host}:{found.get(b'port')}, database {found.get(b'dbname', 'of the user')},"

    def _connect(self) -> Any:
        try:
            connection = self._psycopg.connect(self._url, autocommit=True, prepare_threshold=1, connect_timeout=5)
        except self._psycopg.Error as error:
            message = (
                f"store: PostgreSQL at {self._place()} cannot be reached ({type(error).__name__}); "
                "check the address, user and rights"
            )
            raise NotReady(message) from error
        connection.prepared_max = 400
        self._arrays.register(connection)
        if self._writer:
            connection.execute("SET synchronous_commit = on")
            # Every statement of a writer looks up few rows by their index. A plan made while a table was still empty,
            # and kept with the prepared statement, would read the whole of it for ever.
            for method in ("seqscan", "hashjoin", "mergejoin"):
                connection.execute(f"SET enable_{method} = off")
        else:
            connection.execute("SET default_transaction_read_only = on")
        connection.execute("SET jit = off")
        if self._alone and connection.execute("SELECT pg_try_advisory_lock(%s)", (_LOCK,)).fetchone() != (True,):
            connection.close()
            message = "store: another engine uses this PostgreSQL database; stop it, or give this one its own"
            raise NotReady(message)
        return connection

    def _reconnect(self) -> None:
        try:
            self._connection = self._connect()
        except NotReady as error:
            raise StoreUnavailable(str(error)) from None

    def run(self, sql: str, parameters: Sequence[Any] = ()) -> int:
        """Execute one statement; return the number of rows it changed."""
        with self._errors():
            return int(self._connection.execute(_marked(sql), parameters).rowcount)

    def rows(self, sql: str, parameters: Sequence[Any] = ()) -> list[Row]:
        """Execute one statement; return the rows it gives."""
        if not self._writer and self._connection.closed:
            self._reconnect()
        with self._errors():
            cursor = self._connection.execute(_marked(sql), parameters)
            return cursor.fetchall() if cursor.description else []

    def bulk(self, sql: str, types: str, rows: Sequence[Row]) -> list[Row]:
        """Execute a statement with ``{v}`` over many rows; return what it gives."""
        if not rows:
            return []
        with self._errors():
            columns = map(self._arrays.column, types.split(" "), zip(*rows, strict=True))
            cursor = self._connection.execute(_unnested(sql, types), list(columns))
            return cursor.fetchall() if cursor.description else []

    def append(self, table: str, types: str, rows: Sequence[Row]) -> None:
        """Insert rows that are surely new, by COPY: half the time of an INSERT."""
        if not rows:
            return
        with self._errors(), self._connection.cursor() as cursor, cursor.copy(_copied(table)) as copy:
            copy.set_types(_copy_types(types))
            for row in rows:
                copy.write_row(row)

    def bulk_in(self, sql: str, parameters: Sequence[Any], ids: Sequence[int]) -> list[Row]:
        """Execute a statement with ``IN ({v})`` at its end over many ids, after its other parameters."""
        if not ids:
            return []
        with self._errors():
            column = self._arrays.column("bigint", ids)
            cursor = self._connection.execute(_unnested(sql, "bigint"), (*parameters, column))
            return cursor.fetchall() if cursor.description else []

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        """Begin; commit at the end of the block, roll back when it raises."""
        if self._connection.closed:
            self._reconnect()
        self.run("BEGIN")
        try:
            yield
            self.run("COMMIT")
        except BaseException:
            if not self._connection.closed:
                self._connection.execute("ROLLBACK")
            raise

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except self._psycopg.errors.DiskFull:
            message = "store: the disk under PostgreSQL is full; free space, then start again"
            raise StoreFatal(message) from None
        except (self._psycopg.OperationalError, self._psycopg.InterfaceError) as error:
            if error.sqlstate is not None and not error.sqlstate.startswith(_AWAY):
                message = f"store: PostgreSQL refused a unit of work ({type(error).__name__}, {error.sqlstate})"
                raise StoreError(message) from error
            self._connection.close()
            message = f"store: PostgreSQL is away ({type(error).__name__}); waiting for it"
            raise StoreUnavailable(message) from None
        except self._psycopg.Error as error:
            message = f"store: PostgreSQL refused a unit of work ({type(error).__name__}, {error.sqlstate})"
            raise StoreError(message) from error


@lru_cache(maxsize=1024)
def _marked(sql: str) -> str:
    return sql.replace("%", "%%").replace("?", "%b")


@lru_cache(maxsize=1024)
def _unnested(sql: str, types: str) -> str:
    arrays = ", ".join(f"%b::{_PG_TYPES.get(kind, kind)}[]" for kind in types.split(" "))
    return _marked(sql).replace("{v}", f"SELECT * FROM unnest({arrays})")  # noqa: S608 - holes and type names


@lru_cache(maxsize=64)
def _copied(table: str) -> str:
    return f"COPY {table} FROM STDIN (FORMAT BINARY)"


@lru_cache(maxsize=64)
def _copy_types(types: str) -> list[str]:
    return [_COPY_TYPES.get(kind, kind) for kind in types.split(" ")]
