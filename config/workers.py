"""This module makes the worker processes that settings ask for: so much memory, and so much time for each message."""

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final

from broker.notices import Notice
from broker.processes import WorkerProcess
from config.confining import Places
from config.settings import Settings

# Nothing of our environment goes over but what Python needs: it may hold secrets, and steps are users' code.
_PASSED_ON: Final = ("PATH", "LANG", "LC_ALL", "TZ", "PYTHONPATH")


def make_worker(settings: Settings, notify: Callable[[Notice], None]) -> WorkerProcess:
    """Return a worker process that has not been started; call it where a loop runs."""
    kept = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
    environment = kept | {
        "HANDOFF_WORKER_MEMORY": str(settings.worker_memory),
        "HANDOFF_WORKER_PLACES": _places(settings).as_text(),
    }
    command = [sys.executable, "-P", "-m", "config.process"]
    return WorkerProcess(command, environment, settings.step_deadline, notify)


def _places(settings: Settings) -> Places:
    stores = [path for url in (settings.store, settings.patients) if (path := url.partition("sqlite:///")[2])]
    files = [Path(path + beside) for path in stores for beside in ("", "-wal", "-shm", "-journal")]
    return Places(settings.channels, settings.root, (settings.data, *files))
