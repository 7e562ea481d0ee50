"""This module reads mailboxes of Dovecot into an intake that knows what it has taken."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from broker.formats.reading import Format
from broker.formats.tree import Json
from broker.notices_mail import MailFailed, MailRead, MailRefused
from broker.parts import Tools
from config.mailboxes import MailboxSpec
from listeners.imap import ImapSpec
from listeners.mailbox import MailboxListener
from tests.contract.poll_rig import Kept
from tests.dovecot import Dovecot


def listener(
    server: Dovecot,
    account: str,
    kept: Kept,
    data: Path,
    place: dict[str, Any] | None = None,
    form: Format | None = None,
    **options: Any,
) -> MailboxListener:
    declared: dict[str, Any] = {
        "endpoint": f"127.0.0.1:{server.tls_port}",
        "certificates": {"ca": str(server.authority.file), "server_name": "imap.example.org"},
        "account": account,
        "password": "${env:MAIL_PASSWORD}",
        **(place or {}),
    }
    if "auth" in declared:
        del declared["password"]
    mailbox = MailboxSpec.model_validate(declared)
    settings = SimpleNamespace(root=Path("/"), data=data, mailboxes={"lab": mailbox})
    (data / "imap" / "results").mkdir(parents=True, exist_ok=True)
    tools = Tools("results", kept, kept.notices.append, settings, form or Json())
    given = {"mailbox": "lab", "schedule": {"every": "1s"}, "from": ["*@lab.example.org"], "names": "*", **options}
    return ImapSpec.model_validate({key: value for key, value in given.items() if value is not None}).build(tools)


@asynccontextmanager
async def reading(
    server: Dovecot, account: str, kept: Kept, data: Path, **options: Any
) -> AsyncIterator[MailboxListener]:
    reader = listener(server, account, kept, data, **options)
    await reader.start()
    try:
        yield reader
    finally:
        await reader.stop()


async def looked(reader: MailboxListener) -> bool:
    """Look at the mailbox once; say whether that went well."""
    return await reader._polling._attempt() is None


def result(number: int) -> tuple[str, bytes]:
    return f"Okafor-{number}.json", b'{"id": %d}' % number


def count(kept: Kept, number: int) -> Callable[[], bool]:
    """Return what says whether so many mails have come to an end."""
    return lambda: sum(len(kept.told(kind)) for kind in (MailRead, MailFailed, MailRefused)) >= number
