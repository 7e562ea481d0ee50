"""This module keeps what arrived at the sandbox in one SQLite file; a write is on disk when the call returns."""

import contextlib
import sqlite3
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import orjson

from broker.errors import NotReady

_TABLES: Final = """
CREATE TABLE IF NOT EXISTS arrival (
    seq INTEGER PRIMARY KEY, at REAL NOT NULL, kind TEXT NOT NULL, verb TEXT NOT NULL, type TEXT NOT NULL,
    id TEXT NOT NULL, version INTEGER NOT NULL, request_id TEXT NOT NULL, body BLOB NOT NULL,
    UNIQUE (type, id, version));
CREATE TABLE IF NOT EXISTS identifier (
    type TEXT NOT NULL, value TEXT NOT NULL, system TEXT NOT NULL, id TEXT NOT NULL,
    PRIMARY KEY (type, value, system, id)) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS identifier_id ON identifier (type, id);
"""


@dataclass(frozen=True, slots=True)
class Arrival:
    """What arrived: ``kind`` is ``text`` or ``write_back``, ``verb`` create or update, ``at`` POSIX seconds."""

    seq: int
    at: float
    kind: str
    verb: str
    type: str
    id: str
    version: int
    request_id: str
    body: dict[str, Any] = field(repr=False)


class Record:
    """The sandbox's memory; used from one thread."""

    def __init__(self, path: Path) -> None:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._connection = sqlite3.connect(path, isolation_level=None)
            self._connection.execute("PRAGMA journal_mode=WAL").fetchall()
            self._connection.execute("PRAGMA synchronous=FULL")
            self._connection.executescript(_TABLES)
        except (OSError, sqlite3.Error) as error:
            message = f"sandbox: {path} cannot be used to keep what arrives ({error}); check the path and its rights"
            raise NotReady(message) from error

    def close(self) -> None:
        """Close the file."""
        self._connection.close()

    @contextlib.contextmanager
    def together(self) -> Iterator[None]:
        """Keep everything that is added inside, or nothing of it."""
        run = self._connection.execute
        if self._connection.in_transaction:
            yield
            return
        run("BEGIN IMMEDIATE")
        try:
            yield
            run("COMMIT")
        except BaseException:
            run("ROLLBACK")
            raise

    def next_id(self) -> str:
        """Return an id that no resource has yet."""
        (last,) = self._connection.execute("SELECT coalesce(max(seq), 0) FROM arrival").fetchone()
        return str(last + 1)

    def add(
        self,
        kind: str,
        verb: str,
        resource: tuple[str, str, int],
        body: dict[str, Any],
        *,
        request_id: str = "",
        identifiers: Iterable[tuple[str, str]] = (),
    ) -> Arrival:
        """Keep an arrival; ``resource`` is (type, id, version), ``identifiers`` are (system, value) to be found by."""
        name, key, version = resource
        run, at = self._connection.execute, time.time()
        with self.together():
            done = run(
                "INSERT INTO arrival (at, kind, verb, type, id, version, request_id, body) VALUES (?,?,?,?,?,?,?,?)",
                (at, kind, verb, name, key, version, request_id, orjson.dumps(body)),
            )
            run("DELETE FROM identifier WHERE type = ? AND id = ?", (name, key))
            for system, value in identifiers:
                run("INSERT OR IGNORE INTO identifier VALUES (?,?,?,?)", (name, value, system, key))
        return Arrival(int(done.lastrowid or 0), at, kind, verb, name, key, version, request_id, body)

    def get(self, name: str, key: str, version: int | None = None) -> Arrival | None:
        """Return one version of a resource or text, the newest when ``version`` is None."""
        found = self._select(
            "type = ? AND id = ? AND (? IS NULL OR version = ?) ORDER BY version DESC LIMIT 1",
            (name, key, version, version),
        )
        return found[0] if found else None

    def find(self, name: str, value: str | None, system: str | None) -> set[str]:
        """Return the ids of the resources that have an identifier; None leaves value or system open."""
        wanted = {"type": name, "value": value, "system": system}
        given = {column: text for column, text in wanted.items() if text is not None}
        where = " AND ".join(f"{column} = :{column}" for column in given)
        return {row[0] for row in self._connection.execute(f"SELECT id FROM identifier WHERE {where}", given)}  # noqa: S608

    def ids(self, name: str) -> list[str]:
        """Return the ids of everything of one type, in the order of arrival."""
        rows = self._connection.execute("SELECT id FROM arrival WHERE type = ? GROUP BY id ORDER BY min(seq)", (name,))
        return [row[0] for row in rows]

    def log(self, kind: str, *, after: int = 0, limit: int = 1000) -> list[Arrival]:
        """Return the newest ``limit`` arrivals of a kind with a higher ``seq``, in the order of arrival."""
        return self._select("kind = ? AND seq > ? ORDER BY seq DESC LIMIT ?", (kind, after, limit))[::-1]

    def _select(self, where: str, values: tuple[Any, ...]) -> list[Arrival]:
        sql = f"SELECT seq, at, kind, verb, type, id, version, request_id, body FROM arrival WHERE {where}"  # noqa: S608
        return [Arrival(*(*row[:8], orjson.loads(row[8]))) for row in self._connection.execute(sql, values)]
