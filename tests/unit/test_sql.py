"""SQLite is used safely, and its refusals become ours."""

from pathlib import Path

import pytest

from broker.errors import NotReady, StoreError, StoreFatal
from broker.sql import Sqlite, connect


@pytest.fixture
def database(tmp_path: Path) -> Sqlite:
    """A database with one table."""
    connection = Sqlite(tmp_path / "x.db", writer=True)
    connection.run("CREATE TABLE t (id INTEGER PRIMARY KEY, name TEXT UNIQUE)")
    return connection


def test_writer_is_durable(database: Sqlite) -> None:
    """A commit is on disk: write-ahead log, every commit synced."""
    assert database.rows("PRAGMA journal_mode") == [("wal",)]
    assert database.rows("PRAGMA synchronous") == [(2,)]


@pytest.mark.parametrize("count", [0, 1, 2, 63, 64, 65, 200])
def test_bulk_takes_any_number_of_rows_in_order(database: Sqlite, count: int) -> None:
    """Chunks do not show."""
    rows = [(number, f"n{number}") for number in range(count)]
    database.bulk("INSERT INTO t (id, name) {v}", "bigint text", rows)
    assert database.rows("SELECT id, name FROM t ORDER BY id") == rows
    found = database.bulk_in("UPDATE t SET name = name || ? WHERE id IN ({v}) RETURNING id", ["!"], range(count))
    assert [row[0] for row in found] == list(range(count))


def test_transaction_rolls_back_when_it_raises(database: Sqlite) -> None:
    """All or nothing."""

    def insert_the_same_name_twice() -> None:
        with database.transaction():
            database.run("INSERT INTO t VALUES (1, 'a')")
            database.run("INSERT INTO t VALUES (2, 'a')")

    with pytest.raises(StoreError, match="SQLITE_CONSTRAINT"):
        insert_the_same_name_twice()
    assert database.rows("SELECT count(*) FROM t") == [(0,)]


def test_reader_may_not_write(database: Sqlite, tmp_path: Path) -> None:
    """Only the writer changes anything."""
    reader = connect(f"sqlite:///{tmp_path}/x.db", writer=False)
    with pytest.raises(StoreFatal, match="READONLY"):
        reader.run("INSERT INTO t VALUES (1, 'a')")
    reader.close()


def test_connect_refuses_what_is_no_database(tmp_path: Path) -> None:
    """One clear sentence each."""
    with pytest.raises(NotReady, match="mysql"):
        connect("mysql://x")
    with pytest.raises(NotReady, match="check the path"):
        connect(f"sqlite:///{tmp_path}/no/such/folder/x.db")
    (tmp_path / "not.db").write_bytes(b"this is not a database file at all, " * 99)
    with pytest.raises(NotReady, match="cannot be used"):
        connect(f"sqlite:///{tmp_path}/not.db")


@pytest.mark.parametrize(
    ("url", "place"),
    [
        ("postgresql://handoff:hunter2@127.0.0.1:1/prm", "127.0.0.1:1, database prm,"),
        ("postgresql://handoff:hunter2@[::1]:1/prm?sslmode=disable", "[::1]:1, database prm,"),
        ("postgresql:///?host=/nowhere&password=hunter2", "/nowhere:5433, database of the user,"),
        ("postgresql://handoff:hunter2%@db/prm", "an address that cannot be read"),
    ],
)
def test_postgresql_that_is_not_there_is_named_without_who_asks(
    monkeypatch: pytest.MonkeyPatch, url: str, place: str
) -> None:
    """What the URL leaves out comes from libpq's variables."""
    monkeypatch.setenv("PGPORT", "5433")
    monkeypatch.delenv("PGDATABASE", raising=False)
    with pytest.raises(NotReady) as caught:
        connect(url)
    assert str(caught.value).startswith(f"store: PostgreSQL at {place} cannot be reached (")
    assert "hunter2" not in str(caught.value)
    assert "handoff" not in str(caught.value)
