"""This module measures files as a way in: a large table that streams through, and many small files over SFTP."""

import time
from pathlib import Path
from typing import Any, Final

from bench.engine import Engine, resident
from broker.sql import connect

ROWS: Final = 200_000
_ROW_BYTES: Final = 200  # 5 million rows are a gigabyte
_SAMPLE: Final = 0.2  # seconds between two looks at memory
_CHANNEL: Final = """\
channel: roster
description: A table that is taken in and kept
listen:
  files: {folder: inbox, pattern: "*.csv", settled: 0, poll: 100ms}
format:
  csv: {columns: [mrn, last_name, first_name, dob, notes]}
steps:
  - filter: row.mrn == 'nobody'
deliver:
  patient-store:
    prm: {}
"""


def table(path: Path, rows: int) -> int:
    """Write a table of so many rows of 200 bytes; return its size."""
    with path.open("w") as file:
        file.write("mrn,last_name,first_name,dob,notes\n")
        for number in range(rows):
            row = f"{number:09},Family{number % 10_007},Given{number % 997},1962-09-10,"
            file.write(row + "x" * (_ROW_BYTES - 1 - len(row)) + "\n")
    return path.stat().st_size


def large(rows: int = ROWS) -> dict[str, Any]:
    """Measure how many rows a second of one file are committed while the steps read them, and the memory that takes."""
    engine = Engine("  patient-store:\n    prm: {}\n")
    inbox = engine.folder / "inbox"
    inbox.mkdir()
    (engine.folder / "channels" / "roster.yaml").write_text(_CHANNEL)
    size = table(engine.folder / "big.csv", rows)
    try:
        engine.start()
        time.sleep(1)
        assert engine.process is not None
        idle, idle_all = resident(engine.process.pid), engine.usage()["rss"]
        began = time.perf_counter()
        (engine.folder / "big.csv").rename(inbox / "big.csv")
        peak = peak_all = 0.0
        while not (inbox / "done" / "big.csv").exists():
            peak, peak_all = max(peak, resident(engine.process.pid)), max(peak_all, engine.usage()["rss"])
            time.sleep(_SAMPLE)
        took = time.perf_counter() - began
        connection = connect(f"sqlite:///{engine.folder}/var/handoff.db", writer=False)
        (count,) = connection.rows("SELECT count(*) FROM message")[0]
        (left,) = connection.rows("SELECT count(*) FROM message WHERE state = 'received'")[0]
        connection.close()
        assert count == rows, f"{count} messages of {rows} rows"
        return {
            "rows": rows,
            "bytes": size,
            "accepted_per_second": round(rows / took, 1),
            "not_yet_processed": left,
            "engine_idle_mib": round(idle, 1),
            "engine_peak_mib": round(peak, 1),
            "all_processes_idle_mib": round(idle_all, 1),
            "all_processes_peak_mib": round(peak_all, 1),
        }
    finally:
        engine.stop()
