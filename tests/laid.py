"""This module lays stores out as the first start of an engine leaves them, so that not every test waits for that.

Making the tables takes a second of a processor. `tests/functional/test_engine.py` has a start in an empty folder.
"""

import shutil
import tempfile
from functools import cache
from pathlib import Path
from typing import Final

import broker.migrate
import dispatch.patients.migrate

_FILES: Final = ("handoff.db", "patients.db")


def lay_out_in(url: str) -> None:
    """Make both stores in one database, as an engine does that has no other."""
    broker.migrate.migrate(url)
    dispatch.patients.migrate.migrate(url)


@cache
def both_in_one() -> bytes:
    """Return an SQLite file with both stores, empty, in the newest form."""
    with tempfile.TemporaryDirectory(prefix="handoff-laid-") as folder:
        path = Path(folder) / "both.db"
        lay_out_in(f"sqlite:///{path}")
        return path.read_bytes()


def lay_out(data: Path) -> None:
    """Make the data folder of an engine on SQLite, with empty stores in the newest form; one that is there stays."""
    if data.exists():
        return
    data.mkdir(mode=0o700, parents=True)
    for name, content in zip(_FILES, _made(), strict=True):
        (data / name).write_bytes(content)
        (data / name).chmod(0o600)


@cache
def _made() -> tuple[bytes, ...]:
    folder = Path(tempfile.mkdtemp(prefix="handoff-laid-"))
    try:
        store, patients = (folder / name for name in _FILES)
        broker.migrate.migrate(f"sqlite:///{store}")
        dispatch.patients.migrate.migrate(f"sqlite:///{patients}")
        return store.read_bytes(), patients.read_bytes()
    finally:
        shutil.rmtree(folder)
