"""This module makes sure that a store has one engine only: two would send everything twice."""

import fcntl
import os
from pathlib import Path

from broker.errors import NotReady


def lock_folder(folder: Path) -> int:
    """Lock a data folder for this process; return the open file. Raises `NotReady` when another engine has it."""
    path = folder / "engine.lock"
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        message = (
            f"{folder}: another engine uses this data folder; stop it, or give this one a folder of its own (--data)"
        )
        raise NotReady(message) from None
    return descriptor
