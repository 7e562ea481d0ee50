"""This module shows that files in a folder become patients, whatever happens to the engine while it reads them."""

import contextlib
import signal
import sqlite3
import time
from pathlib import Path
from typing import Any, Final

from tests.functional.running import Running

CHANNEL: Final = """\
channel: roster
listen:
  files: {folder: inbox, pattern: "*.csv", settled: 100ms, poll: 50ms}
format:
  csv: {columns: [mrn, last_name, dob]}
index: {mrn: row.mrn}
steps:
  - canonical:
      kind: patient.updated
      patient:
        mrn: row.mrn
        family: row.last_name | trim
        birth_date: row.dob | date('%m/%d/%Y')
deliver:
  patient-store:
    prm: {}
"""
MANY: Final = 8_000


def prepare(folder: Path) -> Running:
    engine = Running(folder)
    (folder / "inbox").mkdir()
    (folder / "channels" / "roster.yaml").write_text(CHANNEL)
    return engine


def drop(folder: Path, name: str, text: str) -> None:
    (folder / f"{name}.part").write_text(text)
    (folder / f"{name}.part").rename(folder / "inbox" / name)


def wait_for(path: Path, engine: Running, seconds: float = 60) -> None:
    until = time.monotonic() + seconds
    while not path.exists():
        assert time.monotonic() < until, engine.log.read_text()[-2000:]
        time.sleep(0.05)


def messages(engine: Running, *words: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = engine.read("messages", "--channel", "roster", *words)["messages"]
    return found


def rows(engine: Running, query: str) -> list[tuple[Any, ...]]:
    with contextlib.closing(sqlite3.connect(engine.folder / "var" / "handoff.db", timeout=30)) as connection:
        return connection.execute(query).fetchall()


def count(engine: Running) -> int:
    return int(rows(engine, "SELECT count(*) FROM message")[0][0])


def test_rows_become_patients_and_bad_ones_dead_letters_of_their_own(tmp_path: Path) -> None:
    with prepare(tmp_path) as engine:
        drop(
            tmp_path,
            "a.csv",
            'mrn,last_name,dob\n1,"Oka, Jr",09/10/1962\n2,Smith\n3,Lee,31/31/1999\n4,Roe,01/02/2003\n',
        )
        drop(tmp_path, "empty.csv", "")
        wait_for(tmp_path / "inbox" / "done" / "a.csv", engine)
        wait_for(tmp_path / "inbox" / "failed" / "empty.csv", engine)
        until = time.monotonic() + 30
        while messages(engine, "--state", "received"):
            assert time.monotonic() < until
            time.sleep(0.1)
        found = messages(engine)
        assert {row["peer"]: (row["state"], row["step"], row["location"]) for row in found} == {
            "a.csv:2": ("processed", None, None),
            "a.csv:3": ("failed", "read", "line 3"),
            "a.csv:4": ("failed", "steps.1.canonical", "line 4"),
            "a.csv:5": ("processed", None, None),
        }
        assert [row["peer"] for row in messages(engine, "--control-id", "a.csv:3")] == ["a.csv:3"]
        assert [row["peer"] for row in messages(engine, "--index", "mrn=4")] == ["a.csv:5"]
        told = engine.log.read_text()
        assert "Oka" not in told
        assert "file_failed: channel=roster file=empty.csv" in told


def test_every_row_is_there_once_when_the_engine_is_killed_in_the_middle(tmp_path: Path) -> None:
    lines = "".join(f"{number},Family{number},01/02/1990\n" for number in range(MANY))
    with prepare(tmp_path) as engine:
        drop(tmp_path, "big.csv", f"mrn,last_name,dob\n{lines}")
        until = time.monotonic() + 60
        while (before := count(engine)) < 500:
            assert time.monotonic() < until
            time.sleep(0.005)
        engine.stop(signal.SIGKILL)
        assert before < MANY
        assert not (tmp_path / "inbox" / "done" / "big.csv").exists()
        engine.start()
        wait_for(tmp_path / "inbox" / "done" / "big.csv", engine)
        assert count(engine) == MANY
        assert len({peer for (peer,) in rows(engine, "SELECT peer FROM message")}) == MANY
        assert "file_read: channel=roster file=big.csv messages=8000" in engine.log.read_text()
        engine.stop(signal.SIGKILL)  # what it still delivers is no concern of this test
