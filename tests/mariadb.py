"""This module runs a MariaDB server of the tests' own: from the installed program, in a folder that goes away."""

import os
import shutil
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any, Final

import pymysql

from tests.ports import free_port

_START: Final = 30.0  # seconds that the server may take until it answers
# Nothing here outlives the tests, so nothing is worth waiting for the disk; small files are quick to make.
_QUICK: Final = (
    "--innodb-log-file-size=4M",
    "--innodb-flush-log-at-trx-commit=0",
    "--skip-innodb-doublewrite",
)
_USER: Final = "handoff"
PASSWORD: Final = "s3cret"


class MariaDb:
    """One server on a TCP port of 127.0.0.1, with the database ``dwh`` and a user who may do everything in it."""

    def __init__(self, program: Path) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="handoff-maria-", dir="/tmp"))
        self.port = free_port()
        self._base = program.resolve().parents[1]
        self._program = program
        self._server: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """The address of the database, without the password."""
        return f"mysql+pymysql://{_USER}@127.0.0.1:{self.port}/dwh"

    def start(self) -> None:
        """Make the system's tables, start the server, and return when it answers."""
        tables = self._base / "share" / "mysql"
        sql = "CREATE DATABASE IF NOT EXISTS mysql;\nCREATE DATABASE dwh;\nUSE mysql;\nSET @auth_root_socket=NULL;\n"
        sql += (tables / "mysql_system_tables.sql").read_text() + (tables / "mysql_system_tables_data.sql").read_text()
        self._log = (self.folder / "log").open("wb")
        made = subprocess.run(
            [*self._command(), "--bootstrap"], input=sql.encode(), stdout=self._log, stderr=self._log, check=False
        )
        assert made.returncode == 0, (self.folder / "log").read_text(errors="replace")[-2000:]
        self._server = subprocess.Popen(
            [*self._command(), f"--port={self.port}", "--bind-address=127.0.0.1", f"--socket={self.folder}/socket"],
            stdout=self._log,
            stderr=self._log,
        )
        root = self._answered()
        with root, root.cursor() as cursor:
            cursor.execute(f"CREATE USER {_USER}@'127.0.0.1' IDENTIFIED BY '{PASSWORD}'")
            cursor.execute(f"GRANT ALL ON dwh.* TO {_USER}@'127.0.0.1'")

    def _command(self) -> list[str]:
        user = ["--user=root"] if os.geteuid() == 0 else []
        places = [f"--basedir={self._base}", f"--datadir={self.folder}"]
        return [str(self._program), "--no-defaults", *places, "--skip-name-resolve", *_QUICK, *user]

    def _answered(self) -> Any:
        """Return a connection of root's, once there is the socket to have one by."""
        socket, until = self.folder / "socket", time.monotonic() + _START
        while not socket.exists():
            assert self._server is not None
            said = (self.folder / "log").read_text(errors="replace")[-2000:]
            assert self._server.poll() is None, said
            assert time.monotonic() < until, said
            time.sleep(0.02)
        return pymysql.connect(unix_socket=str(socket), user="root")

    def run(self, sql: str) -> list[tuple[Any, ...]]:
        """Run a statement, and return what it gives."""
        connection = pymysql.connect(
            host="127.0.0.1", port=self.port, user=_USER, password=PASSWORD, database="dwh", autocommit=True
        )
        with connection, connection.cursor() as cursor:
            cursor.execute(sql)
            return list(cursor.fetchall())

    def remove(self) -> None:
        """Stop the server, and leave nothing behind."""
        if self._server is not None:
            self._server.kill()
            self._server.wait()
            self._log.close()
        shutil.rmtree(self.folder, ignore_errors=True)
