"""This module runs an OpenSSH server of the tests' own, which lets one key in and speaks SFTP."""

import shutil
import socket
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

import asyncssh

from tests.unprivileged import ACCOUNT, end, give, spawn

if TYPE_CHECKING:
    import subprocess

_START: Final = 10.0
_CONFIGURATION: Final = """\
ListenAddress 127.0.0.1
Port {port}
HostKey {folder}/host
AuthorizedKeysFile {folder}/authorized
PidFile none
StrictModes no
UsePAM yes
PasswordAuthentication no
Subsystem sftp internal-sftp
"""


class Sshd:
    """One server; see `tests.unprivileged` for whose."""

    def __init__(self, program: str) -> None:
        self._program = program
        self.user = ACCOUNT.pw_name
        self.folder = Path(tempfile.mkdtemp(prefix="handoff-sshd-", dir="/tmp"))
        self.host_key = asyncssh.generate_private_key("ssh-ed25519")
        self.key = asyncssh.generate_private_key("ssh-ed25519")
        self.host_key.write_private_key(self.folder / "host")
        self.key.write_public_key(self.folder / "authorized")
        (self.folder / "host").chmod(0o600)
        (self.folder / "files").mkdir()
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = int(probe.getsockname()[1])
        (self.folder / "config").write_text(_CONFIGURATION.format(port=self.port, folder=self.folder))
        give(self.folder)
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Return once it takes connections."""
        self._process = spawn([self._program, "-D", "-e", "-f", self.folder / "config"], self.folder / "log")
        until = time.monotonic() + _START
        while self._process.poll() is None and time.monotonic() < until:
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
            except OSError:
                time.sleep(0.02)
            else:
                return
        raise RuntimeError((self.folder / "log").read_text())

    def stop(self) -> None:
        """End it, and the connections that it serves."""
        end(self._process)
        self._process = None

    def remove(self) -> None:
        """End it and leave nothing behind."""
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)
