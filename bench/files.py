"""This module measures files as a way in: a large table that streams through, and many small files over SFTP."""

import os
import shutil
import sys
import time
from pathlib import Path
from typing import Any, Final

sys.path.insert(0, str(Path(__file__).parents[1]))

from bench.engine import Engine, resident
from broker.sql import connect
from tests.sshd import Sshd

FILES: Final = 1000
_FILE_ROWS: Final = 50  # ten kilobytes
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
_SMALL: Final = """\
channel: small
description: Many small files of a server
listen:
  sftp: {{place: partner, folder: {folder}, pattern: "*.csv", settled: 0, poll: 100ms}}
format:
  csv: {{columns: [mrn, last_name, first_name, dob, notes]}}
steps:
  - filter: row.mrn == 'nobody'
deliver:
  patient-store:
    prm: {{}}
"""


def table(path: Path, rows: int) -> int:
    """Write a table of so many rows of 200 bytes; return its size."""
    with path.open("w") as file:
        file.write("mrn,last_name,first_name,dob,notes\n")
        for number in range(rows):
            row = f"{number:09},Family{number % 10_007},Given{number % 997},1962-09-10,"
            file.write(row + "x" * (_ROW_BYTES - 1 - len(row)) + "\n")
    path.chmod(0o666)  # the server runs as nobody where we are root
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
        before = engine.usage()["cpu"]
        began = time.perf_counter()
        (engine.folder / "big.csv").rename(inbox / "big.csv")
        peak = peak_all = 0.0
        while not (inbox / "done" / "big.csv").exists():
            peak, peak_all = max(peak, resident(engine.process.pid)), max(peak_all, engine.usage()["rss"])
            time.sleep(_SAMPLE)
        took, cpu = time.perf_counter() - began, engine.usage()["cpu"] - before
        connection = connect(f"sqlite:///{engine.folder}/var/handoff.db", writer=False)
        (count,) = connection.rows("SELECT count(*) FROM message")[0]
        (left,) = connection.rows("SELECT count(*) FROM message WHERE state = 'received'")[0]
        connection.close()
        assert count == rows, f"{count} messages of {rows} rows"
        return {
            "rows": rows,
            "bytes": size,
            "accepted_per_second": round(rows / took, 1),
            "cpu_us_per_row": round(cpu / rows * 1e6, 1),  # with the steps of those that were processed meanwhile
            "not_yet_processed": left,
            "engine_idle_mib": round(idle, 1),
            "engine_peak_mib": round(peak, 1),
            "all_processes_idle_mib": round(idle_all, 1),
            "all_processes_peak_mib": round(peak_all, 1),
        }
    finally:
        engine.stop()


def small(files: int = FILES) -> Any:
    """Measure the seconds until files of ten kilobytes on OpenSSH's server are read, processed and moved away."""
    program = shutil.which("sshd", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    if program is None:
        return "skipped: sshd of OpenSSH is not installed"
    server = Sshd(program)
    engine = Engine("  patient-store:\n    prm: {}\n", settings={"places": {"partner": {"sftp": _login(server)}}})
    folder = server.folder / "files" / "inbox"
    folder.mkdir()
    folder.chmod(0o777)
    (engine.folder / "channels" / "small.yaml").write_text(_SMALL.format(folder=folder))
    try:
        server.start()
        engine.start()
        paths = [engine.folder / f"{number:04}.csv" for number in range(files)]
        size = sum(table(path, _FILE_ROWS) for path in paths)
        before = engine.usage()["cpu"]
        began = time.perf_counter()
        for path in paths:
            path.rename(folder / path.name)
        while not (folder / "done").is_dir() or len(list((folder / "done").iterdir())) < files:
            time.sleep(_SAMPLE)
        moved = time.perf_counter() - began
        connection = connect(f"sqlite:///{engine.folder}/var/handoff.db", writer=False)
        while connection.rows("SELECT 1 FROM message WHERE state = 'received' LIMIT 1"):
            time.sleep(_SAMPLE)
        took = time.perf_counter() - began
        ((count,),) = connection.rows("SELECT count(*) FROM message")
        connection.close()
        assert count == files * _FILE_ROWS, f"{count} messages"
        return {
            "files": files,
            "bytes": size,
            "moved_seconds": round(moved, 2),
            "end_to_end_seconds": round(took, 2),
            "cpu_ms_per_file": round((engine.usage()["cpu"] - before) / files * 1000, 2),
        }
    finally:
        engine.stop()
        server.remove()


def _login(server: Sshd) -> dict[str, Any]:
    known = " ".join(server.host_key.export_public_key().decode().split()[:2])
    key = server.folder / "client"
    key.touch(0o600)
    key.write_text(server.key.export_private_key().decode())
    login = {"host": "127.0.0.1", "port": server.port, "user": server.user}
    return login | {"private_key": f"${{file:{key}}}", "host_key": known}
