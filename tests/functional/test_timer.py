"""This module shows that a timer in the real engine makes one message for a due time, also when it dies over it."""

import contextlib
import datetime as dt
import sqlite3
import time
from pathlib import Path
from typing import Final

import pytest

from tests.functional.running import Running

# Due once a day, and never while this test runs: what it makes is made up for.
_HOUR: Final = (dt.datetime.now(dt.UTC).hour + 12) % 24
CHANNEL: Final = f"""\
channel: census
listen:
  timer: {{schedule: {{cron: "0 {_HOUR} * * *"}}, values: {{report: census}}, catch_up: 1d}}
format: {{json: {{}}}}
index: {{due: message.due}}
deliver:
  out:
    files: {{folder: out, name: "{{{{ message.report }}}}.txt", content: "{{{{ message.due }}}}"}}
"""


@pytest.fixture
def engine(tmp_path: Path) -> Running:
    engine = Running(tmp_path)
    (tmp_path / "channels" / "census.yaml").write_text(CHANNEL)
    (tmp_path / "out").mkdir()
    return engine


def count(engine: Running) -> int:
    with contextlib.closing(sqlite3.connect(engine.folder / "var" / "handoff.db", timeout=30)) as connection:
        return int(connection.execute("SELECT count(*) FROM message").fetchone()[0])


@pytest.mark.parametrize(("point", "kept"), [("accept.inserted", 0), ("accept.committed", 1)])
def test_due_time_is_made_once_when_the_engine_dies_at(point: str, kept: int, engine: Running) -> None:
    engine.die_at(point)
    assert count(engine) == kept
    due = dt.datetime.now(dt.UTC).replace(hour=_HOUR, minute=0, second=0, microsecond=0)
    due -= dt.timedelta(days=due > dt.datetime.now(dt.UTC))
    out = engine.folder / "out" / "census.txt"
    with engine:
        until = time.monotonic() + 30
        while not out.exists():
            assert time.monotonic() < until, engine.log.read_text()[-2000:]
            time.sleep(0.05)
        assert out.read_text() == due.isoformat()
        # It came again with this start, and was known where it was committed before.
        assert [row["state"] for row in engine.read("messages", "--channel", "census")["messages"]] == ["processed"]
        assert count(engine) == 1
