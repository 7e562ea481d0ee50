"""This module shows that the real engine takes each row of a database once, also when it dies over one."""

import contextlib
import sqlite3
import time
from pathlib import Path
from typing import Any, Final

import pytest

from tests.functional.running import Running

ROWS: Final = 7
CHANNEL: Final = """\
channel: visits
listen:
  database:
    database: ward
    schedule: {{every: 1s}}
    query: {query}
    key: [id]
    batch: 3
    {way}
format: {{json: {{}}}}
deliver:
  out:
    files: {{folder: out, name: "{{{{ message.id }}}}.txt", content: "{{{{ message.ward }}}}"}}
"""
WAYS: Final = {
    "watermark": ("SELECT id, ward FROM visit", "watermark: {column: id, start: 0}"),
    "outbox": (
        "SELECT id, ward FROM visit WHERE taken = 0 ORDER BY id",
        'outbox: {mark: "UPDATE visit SET taken = 1 WHERE id = :id"}',
    ),
}


def rows(path: Path, sql: str) -> list[tuple[Any, ...]]:
    with contextlib.closing(sqlite3.connect(path, timeout=30)) as connection, connection:
        return connection.execute(sql).fetchall()


def prepare(tmp_path: Path, way_in: str) -> Running:
    """Return an engine that will poll a database with rows in it."""
    engine = Running(tmp_path)
    query, way = WAYS[way_in]
    (tmp_path / "channels" / "visits.yaml").write_text(CHANNEL.format(query=query, way=way))
    with (tmp_path / "handoff.yaml").open("a") as settings:
        settings.write("databases:\n  ward: {url: sqlite:///ward.db}\n")
    (tmp_path / "out").mkdir()
    rows(tmp_path / "ward.db", "CREATE TABLE visit (id integer PRIMARY KEY, ward text, taken integer DEFAULT 0)")
    values = ", ".join(f"({each}, 'W{each}')" for each in range(1, ROWS + 1))
    rows(tmp_path / "ward.db", f"INSERT INTO visit (id, ward) VALUES {values}")
    return engine


@pytest.mark.parametrize(
    ("way_in", "point"),
    [("watermark", "poll.committed:2"), ("watermark", "poll.settled:2"), ("outbox", "poll.committed:2")],
)
def test_each_row_is_taken_once_when_the_engine_dies_at(way_in: str, point: str, tmp_path: Path) -> None:
    engine = prepare(tmp_path, way_in)
    engine.die_at(point)
    store = engine.folder / "var" / "handoff.db"
    assert rows(store, "SELECT count(*) FROM message") == [(6,)]
    with engine:
        until = time.monotonic() + 30
        while len(list((engine.folder / "out").glob("*.txt"))) < ROWS:
            assert time.monotonic() < until, engine.log.read_text()[-2000:]
            time.sleep(0.05)
        rows(engine.folder / "ward.db", "INSERT INTO visit (id, ward) VALUES (8, 'late')")
        while not (engine.folder / "out" / "8.txt").exists():
            assert time.monotonic() < until, engine.log.read_text()[-2000:]
            time.sleep(0.05)
        assert rows(store, "SELECT count(*) FROM message") == [(ROWS + 1,)]
        assert (engine.folder / "out" / "7.txt").read_text() == "W7"
        assert "poll_failed" not in engine.log.read_text()
