"""This module starts servers as whoever runs the tests or, since root would need a system's set-up, as nobody."""

import contextlib
import os
import pwd
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path

ACCOUNT = pwd.getpwuid(os.geteuid()) if os.geteuid() else pwd.getpwnam("nobody")


def give(folder: Path) -> None:
    """Give a folder, and all that is in it, to the account."""
    if not os.geteuid():
        for path in (folder, *folder.rglob("*")):
            os.chown(path, ACCOUNT.pw_uid, ACCOUNT.pw_gid)


def end(process: subprocess.Popen[bytes] | None) -> None:
    """End a server that was spawned, if one was, and the connections that it serves."""
    if process is not None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def spawn(command: Sequence[str | Path], log: Path) -> subprocess.Popen[bytes]:
    """Start a server with the account, in a process group of its own; what it says is added to ``log``."""
    is_root = not os.geteuid()
    with log.open("ab") as said:
        return subprocess.Popen(
            command,
            user=ACCOUNT.pw_uid if is_root else None,
            group=ACCOUNT.pw_gid if is_root else None,
            extra_groups=[] if is_root else None,
            start_new_session=True,
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=said,
        )
