"""This module runs a Dovecot server of the tests' own, with a mailbox for whoever knows the password."""

import contextlib
import grp
import imaplib
import shutil
import tempfile
import time
from base64 import b64encode
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Final

import jwt

from tests.certificates import Authority
from tests.ports import free_port
from tests.unprivileged import ACCOUNT, end, give, spawn

if TYPE_CHECKING:
    import subprocess

_START: Final = 10.0
PASSWORD: Final = 's3"cr\\et é'
_CONFIGURATION: Final = """\
protocols = imap
listen = 127.0.0.1
base_dir = {folder}/run
state_dir = {folder}/run
log_path = {folder}/log
default_internal_user = {user}
default_internal_group = {group}
default_login_user = {user}
ssl = yes
ssl_cert = <{folder}/imap.example.org.pem
ssl_key = <{folder}/imap.example.org.key
disable_plaintext_auth = no
first_valid_uid = 1
first_valid_gid = 1
auth_failure_delay = 0
service anvil {{
  chroot =
  unix_listener anvil-auth-penalty {{
    mode = 0
  }}
}}
service stats {{
  chroot =
}}
service imap-login {{
  chroot =
  inet_listener imap {{
    port = {port}
  }}
  inet_listener imaps {{
    port = {tls_port}
  }}
}}
passdb {{
  driver = static
  mechanisms = plain
  args = password={{PLAIN.b64}}{password}
}}
auth_mechanisms = plain xoauth2 oauthbearer
passdb {{
  driver = oauth2
  mechanisms = xoauth2 oauthbearer
  args = {folder}/tokens
}}
userdb {{
  driver = static
  args = uid={user} gid={group} home={folder}/mail/%u
}}
mail_location = maildir:~/mail
mail_fsync = never
namespace inbox {{
  inbox = yes
}}
{more}
"""
# Tokens are JSON Web Tokens, whose signature is checked here and nowhere else.
_TOKENS: Final = """\
introspection_mode = local
local_validation_key_dict = fs:posix:prefix={folder}/keys/
username_attribute = sub
"""
_KEY: Final = b"a key of 32 bytes, for signatures"


class Dovecot:
    """One server on two ports of 127.0.0.1: STARTTLS, and TLS at once."""

    def __init__(self, program: str, more: str = "") -> None:
        self._program = program
        self.folder = Path(tempfile.mkdtemp(prefix="handoff-imap-", dir="/tmp"))  # short, as a socket's path must be
        self.port, self.tls_port = free_port(), free_port()
        self.authority = Authority(self.folder)
        self.authority.issue("imap.example.org")
        (self.folder / "tokens").write_text(_TOKENS.format(folder=self.folder))
        (self.folder / "keys" / "default" / "HS256").mkdir(parents=True)
        (self.folder / "keys" / "default" / "HS256" / "default").write_text(b64encode(_KEY).decode())
        (self.folder / "run").mkdir()
        (self.folder / "mail").mkdir()
        values = {
            "folder": self.folder,
            "user": ACCOUNT.pw_name,
            "group": grp.getgrgid(ACCOUNT.pw_gid).gr_name,
            "password": b64encode(PASSWORD.encode()).decode(),
            "port": self.port,
            "tls_port": self.tls_port,
            "more": more,
        }
        (self.folder / "config").write_text(_CONFIGURATION.format(**values))
        give(self.folder)
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Return once it answers."""
        self._process = spawn([self._program, "-F", "-c", self.folder / "config"], self.folder / "said")
        until = time.monotonic() + _START
        while self._process.poll() is None and time.monotonic() < until:
            try:
                imaplib.IMAP4("127.0.0.1", self.port, 5).logout()
            except (OSError, imaplib.IMAP4.error):
                time.sleep(0.02)
            else:
                return
        raise RuntimeError((self.folder / "said").read_text() + (self.folder / "log").read_text())

    def stop(self) -> None:
        """End it, and the connections that it serves."""
        end(self._process)
        self._process = None

    def remove(self) -> None:
        """End it and leave nothing behind."""
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    def token(self, account: str, *, seconds: float = 300) -> str:
        """Return an access token for a mailbox, which lasts so long."""
        claims = {"sub": account, "iat": int(time.time()) - 600, "exp": int(time.time() + seconds)}
        return jwt.encode(claims, _KEY, "HS256")

    @contextlib.contextmanager
    def log_in(self, account: str) -> Iterator[imaplib.IMAP4]:
        """Give a connection to a mailbox."""
        client = imaplib.IMAP4("127.0.0.1", self.port, 10)
        try:
            client.authenticate("PLAIN", lambda _: f"\0{account}\0{PASSWORD}".encode())
            yield client
        finally:
            client.logout()

    def put(self, account: str, *mails: bytes, folder: str = "INBOX") -> None:
        """Put mails into a folder."""
        with self.log_in(account) as client:
            for mail in mails:
                said, told = client.append(folder, "", "", mail)
                assert said == "OK", told

    def flags(self, account: str, folder: str = "INBOX") -> list[str]:
        """Return what each mail in a folder is marked with; nothing where there is no such folder."""
        with self.log_in(account) as client:
            said, found = client.select(folder, readonly=True)
            if said != "OK" or found == [b"0"]:
                return []
            _, told = client.fetch("1:*", "(FLAGS)")
            marks = [imaplib.ParseFlags(each) for each in told if isinstance(each, bytes)]
            return [
                " ".join(sorted(each.decode() for each in found)).replace("\\Recent", "").strip() for found in marks
            ]
