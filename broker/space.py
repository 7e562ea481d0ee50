"""This module watches the disk that the store is on, and tells what the intake does because of it."""

import asyncio
import shutil
from pathlib import Path
from typing import Final

from broker.pressure import Pressure

_EVERY: Final = 1.0  # seconds; a disk that takes 256 MiB in less is no disk that we know


def folder_of(store: str) -> Path | None:
    """Return the folder whose disk fills up with the store; None where that is another machine's."""
    return Path(store.removeprefix("sqlite:///")).parent if store.startswith("sqlite:///") else None


async def watch(pressure: Pressure, folder: Path | None) -> None:
    """Look again and again, until cancelled."""
    while True:
        look(pressure, folder)
        pressure.tell()
        await asyncio.sleep(_EVERY)


def look(pressure: Pressure, folder: Path | None) -> None:
    """Look once."""
    if folder is not None and folder.is_dir():
        pressure.look(shutil.disk_usage(folder).free)
