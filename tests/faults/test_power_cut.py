"""After a power cut at any acknowledgment, everything that was acknowledged before it is in the store."""

import os
import random
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

from broker.migrate import migrate
from broker.seal import Sealer
from tests.conftest import Need
from tests.faults.harness import disk, power_writer

_ROOT: Final = Path(__file__).parents[2]
_ROUNDS: Final = int(os.environ.get("FAULT_CUTS", "60"))
_SECONDS: Final = 90 + _ROUNDS
_SEED: Final = int(os.environ.get("FAULT_SEED", "20260101"))
_SEALER: Final = Sealer(b"p" * 32)

pytestmark = pytest.mark.timeout(2 * _SECONDS)


def _record(folder: Path, strace: str, synchronous: str) -> tuple[Path, Path]:
    """Run the writer under strace; return the folder as it was before, and the recording."""
    data, before, recording = folder / "data", folder / "before", folder / "strace.txt"
    data.mkdir()
    migrate(f"sqlite:///{data / 'handoff.db'}")
    shutil.copytree(data, before)
    command = [strace, "-f", "-y", "-xx", "-s", "1000000", "-e", f"trace={disk.SYSCALLS}", "-o", str(recording)]
    program = [sys.executable, str(Path(power_writer.__file__)), str(data), synchronous, str(_ROUNDS)]
    done = subprocess.run(
        [*command, *program],
        env=os.environ | {"PYTHONPATH": str(_ROOT)},
        capture_output=True,
        timeout=_SECONDS,
        check=False,
    )
    if b"PTRACE" in done.stderr:
        pytest.skip("strace may not trace here (ptrace is not permitted)")
    assert done.stdout.endswith(b"end\n"), done.stderr[-2000:].decode()
    return before, recording


def _play(folder: Path, before: Path, recording: Path) -> tuple[int, int, list[str]]:
    """Cut the power at every acknowledgment; return how many cuts, acknowledgments lost, and what else went wrong."""
    # The paths in the recording are those of the data folder; the copy beside it gives the contents.
    kept = disk.Disk(_renamed(folder, before))
    acknowledged: list[int] = []
    dice = random.Random(_SEED)
    cuts, lost, wrong = 0, 0, []
    for event in disk.read_recording(recording, folder / "data"):
        kept.apply(event)
        if event.kind != "acknowledged":
            continue
        acknowledged.append(event.offset)
        for torn in (None, dice):
            cuts += 1
            image = folder / "image"
            shutil.rmtree(image, ignore_errors=True)
            image.mkdir()
            kept.image(image, torn)
            missing, faults = _look(image / "handoff.db", acknowledged)
            lost += missing
            wrong += faults
    return cuts, lost, wrong


def _renamed(folder: Path, before: Path) -> Path:
    shutil.rmtree(folder / "data")
    before.rename(folder / "data")
    return folder / "data"


def _look(database: Path, acknowledged: list[int]) -> tuple[int, list[str]]:
    connection = sqlite3.connect(database)
    try:
        verdict = connection.execute("PRAGMA integrity_check").fetchone()[0]
        found = dict(connection.execute("SELECT m.id, c.data FROM message m JOIN content c ON c.id = m.id"))
    finally:
        connection.close()
    wrong = [] if verdict == "ok" else [f"integrity_check: {verdict}"]
    missing = [identifier for identifier in acknowledged if identifier not in found]
    for identifier in acknowledged[-8:]:
        if identifier in found:
            _SEALER.open("content", identifier, found[identifier])
    return len(missing), wrong


def test_nothing_acknowledged_is_lost_when_the_power_is_cut(tmp_path: Path, need: Need) -> None:
    """At every acknowledgment, with all that was not synced lost, and again with random sectors of it kept."""
    before, recording = _record(tmp_path, need("strace"), "")
    cuts, lost, wrong = _play(tmp_path, before, recording)
    print(f"{cuts} cuts, seed {_SEED}, SQLite {sqlite3.sqlite_version}: {lost} acknowledged messages lost")  # noqa: T201
    assert cuts >= 2 * _ROUNDS
    assert not lost
    assert not wrong


def test_the_replay_notices_a_store_that_does_not_sync(tmp_path: Path, need: Need) -> None:
    """The same with synchronous=NORMAL loses messages: what the test above shows is worth something."""
    before, recording = _record(tmp_path, need("strace"), "NORMAL")
    _, lost, wrong = _play(tmp_path, before, recording)
    assert lost > 0
    assert not wrong  # NORMAL loses the end of the log, and keeps the database whole
