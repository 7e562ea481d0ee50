"""This module runs a PostgreSQL cluster of the tests' own: from the installed programs, in a folder that goes away."""

import ctypes
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Final

import psycopg

_USER: Final = "handoff"
_START: Final = 30.0  # seconds that the server may take until it answers
_PR_SET_PDEATHSIG: Final = 1
_PORTS_TO_TRY: Final = 5
# A folder of our own is made below these.
_DISK: Final = "/tmp"  # noqa: S108
_MEMORY: Final = "/dev/shm"  # noqa: S108
_ROOM: Final = 1 << 30  # bytes that must be free in memory for a cluster to be kept there
# Nothing here outlives the tests, so nothing is worth waiting for the disk, unless a test is about just that.
_QUICK: Final = ("fsync=off", "full_page_writes=off", "max_wal_size=128MB")
_SETTINGS: Final = (
    "listen_addresses=127.0.0.1",
    "max_connections=60",
    "shared_buffers=64MB",
    "log_statement=none",
    "timezone=UTC",
)


def find_programs() -> Path | None:
    """Return the folder of ``initdb`` and ``postgres``: from PATH, else Debian's newest; None where there is none."""
    found = shutil.which("initdb")
    places = [Path(found).resolve().parent] if found else []
    installed = Path("/usr/lib/postgresql").glob("*/bin")
    places += sorted(installed, key=lambda place: _version(place.parent.name), reverse=True)
    return next((place for place in places if (place / "initdb").exists() and (place / "postgres").exists()), None)


def _version(name: str) -> int:
    return int(name) if name.isdigit() else 0


class Cluster:
    """One PostgreSQL server on a TCP port and a Unix socket of its own; whoever can reach it is let in."""

    def __init__(self, programs: Path, *, fsync: bool = False) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="handoff-pg-", dir=_DISK if fsync else _quickest()))
        self.port = 0
        self._programs = programs
        self._settings = _SETTINGS if fsync else _SETTINGS + _QUICK
        self._account = _account()
        self._server: subprocess.Popen[bytes] | None = None
        self._names = (f"test_{number}" for number in count(1))
        if self._account is not None:
            os.chown(self.folder, self._account.pw_uid, self._account.pw_gid)
        try:
            self._run(
                "initdb", "-D", "data", "-U", _USER, "--auth=trust", "--no-locale", "--encoding=UTF8", "--no-sync"
            )
        except BaseException:
            self.remove()
            raise

    def start(self) -> None:
        """Start the server, and return when it answers; on the same port as before, if it ran before."""
        wanted = self.port
        for _ in range(_PORTS_TO_TRY):
            self.port = wanted or _free_port()
            self._server = self._spawn()
            if self._answers():
                return
            self.kill()
        log = (self.folder / "log").read_text(errors="replace")[-2000:]
        message = f"PostgreSQL did not start; the end of its log:\n{log}"
        raise RuntimeError(message)

    def stop(self) -> None:
        """Stop the server in order; open connections are ended."""
        self._end(signal.SIGINT)

    def kill(self) -> None:
        """Stop the server as a crash would: nothing is written any more (SIGQUIT, so that its children end too)."""
        self._end(signal.SIGQUIT)

    def remove(self) -> None:
        """Stop the server and remove its folder."""
        self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)

    def url(self, database: str = "postgres") -> str:
        """Return the address of a database, as the engine's settings take it."""
        return f"postgresql://{_USER}@127.0.0.1:{self.port}/{database}"

    @contextmanager
    def database(self, like: str = "template1") -> Iterator[str]:
        """Make a database (empty, or ``like`` another that nobody uses), give its address, and drop it at the end."""
        name = next(self._names)
        with psycopg.connect(self.url(), autocommit=True) as connection:
            # Before 15 there is no other way; after it, writing all of it to the log takes three times as long.
            way = "STRATEGY file_copy" if connection.info.server_version >= 150_000 else ""
            connection.execute(f"CREATE DATABASE {name} TEMPLATE {like} {way}".encode())
        try:
            yield self.url(name)
        finally:
            with psycopg.connect(self.url(), autocommit=True) as connection:
                connection.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)".encode())

    def _run(self, program: str, *arguments: str) -> None:
        done = subprocess.run(
            [self._programs / program, *arguments],
            cwd=self.folder,
            env=self._environment(),
            user=self._account.pw_uid if self._account else None,
            group=self._account.pw_gid if self._account else None,
            extra_groups=[] if self._account else None,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            message = f"{program} failed ({done.returncode}): {done.stderr.strip()}"
            raise RuntimeError(message)

    def _spawn(self) -> subprocess.Popen[bytes]:
        settings = [*self._settings, f"port={self.port}", f"unix_socket_directories={self.folder}"]
        with (self.folder / "log").open("ab") as log:
            return subprocess.Popen(
                [self._programs / "postgres", "-D", "data", *(part for text in settings for part in ("-c", text))],
                cwd=self.folder,
                env=self._environment(),
                user=self._account.pw_uid if self._account else None,
                group=self._account.pw_gid if self._account else None,
                extra_groups=[] if self._account else None,
                preexec_fn=_die_with_parent(),  # noqa: PLW1509 - one system call, nothing that could need a lock
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def _environment(self) -> dict[str, str]:
        return {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C", "HOME": str(self.folder)}

    def _answers(self) -> bool:
        deadline = time.monotonic() + _START
        while self._server is not None and self._server.poll() is None and time.monotonic() < deadline:
            try:
                psycopg.connect(self.url(), connect_timeout=2).close()
            except psycopg.OperationalError:
                time.sleep(0.05)
            else:
                return True
        return False

    def _end(self, number: signal.Signals) -> None:
        server, self._server = self._server, None
        if server is None:
            return
        if server.poll() is None:
            server.send_signal(number)
        try:
            server.wait(timeout=20)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()


def _quickest() -> str:
    """Return a folder in memory where there is room for it; a short path, as a socket's must be."""
    has_room = os.access(_MEMORY, os.W_OK) and shutil.disk_usage(_MEMORY).free > _ROOM
    return _MEMORY if has_room else _DISK


def _account() -> pwd.struct_passwd | None:
    """Return who the server must run as: PostgreSQL refuses to run as root, everybody else runs it as themselves."""
    if os.geteuid() != 0:
        return None
    known = {entry.pw_name: entry for entry in pwd.getpwall()}
    return known.get("postgres") or known["nobody"]


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _die_with_parent() -> Callable[[], None] | None:
    """Return what makes the server stop when the tests are killed; loaded here, because a forked child must not."""
    if sys.platform != "linux":
        return None
    libc = ctypes.CDLL(None)
    return lambda: libc.prctl(_PR_SET_PDEATHSIG, signal.SIGQUIT)
