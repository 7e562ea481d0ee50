"""This module brings a patient store to the form that the code expects, and refuses one that is newer than the code."""

from pathlib import Path
from threading import Lock
from typing import Final

from broker.migrate import bring_up

HEAD: Final = "0003"
VERSION_TABLE: Final = "alembic_version_patients"
_ONE: Final = Lock()  # the writer and those who ask for consent may find an old store at the same moment
SCRIPTS: Final = Path(__file__).parent / "migrations"


def migrate(url: str) -> None:
    """Run the migrations that are missing; quick (one query) when there are none. Raises `NotReady`."""
    with _ONE:
        bring_up(url, SCRIPTS, HEAD, VERSION_TABLE, "patient store")
