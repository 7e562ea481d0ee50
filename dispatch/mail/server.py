"""This module hands mails to a mail server, command by command, so that what surely had no effect is told apart.

Each mail goes over a connection of its own. Until the server has the whole mail nothing has happened; once it may have
it, only its answer tells.
"""

import re
import ssl
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from broker.delivery import Delivered, Outcome, Rejected, Retry, Unknown
from broker.handshake import not_connected
from broker.places import reveal
from dispatch.mail.address import Mailbox
from dispatch.mail.compose import Mail, compose, message_id
from dispatch.way import note_via, via_of

if TYPE_CHECKING:
    from aiosmtplib import SMTP, SMTPResponseException

_ENHANCED: Final = re.compile(r"([245]\.\d{1,3}\.\d{1,3})\b")  # RFC 3463
_GREYLISTED: Final = frozenset({450, 451})
_GREY_SECONDS: Final = 300.0  # before this a server that greylists says no again
_QUIT_SECONDS: Final = 2.0
_CREDENTIALS: Final = frozenset({530, 534, 535, 538})


@dataclass(frozen=True, slots=True, kw_only=True)
class MailServer:
    """One server of ``handoff.yaml``; ``tls`` is starttls, implicit or none."""

    name: str
    host: str
    port: int
    tls: str
    sender: Mailbox
    account: str = ""
    password: Any = field(default=None, repr=False)
    context: ssl.SSLContext | None = field(default=None, repr=False)

    @property
    def peer(self) -> str:
        """Return how reasons call it."""
        return f"mail server {self.name}"


async def submit(server: MailServer, mail: Mail, *, seconds: float, notify: str = "") -> Outcome:
    """Hand one mail over; ``seconds`` for each answer. ``notify`` are the DSNs to ask for (RFC 3461), if any."""
    import aiosmtplib  # noqa: PLC0415 - only where there is a mail server

    client = aiosmtplib.SMTP(
        hostname=server.host,
        port=server.port,
        timeout=seconds,
        use_tls=server.tls == "implicit",
        start_tls=server.tls == "starttls",
        tls_context=server.context,
        local_hostname=server.sender.domain,
    )
    sending = False
    try:
        await client.connect()
        note_via(via_of(client.transport))
        if client.is_ehlo_or_helo_needed:
            await client.ehlo()
        if server.account:
            await client.login(server.account, reveal(server.password))
        await _address(client, server, mail, notify)
        sending = True
        accepted = await client.data(compose(mail, server.sender))
    except aiosmtplib.SMTPResponseException as error:
        return _refused(error, server, sending=sending)
    except (aiosmtplib.SMTPException, OSError, TimeoutError, ValueError) as error:
        return _broke(error, server, sending=sending)
    finally:
        await _leave(client)
    said = f"{accepted.code} {accepted.message}".encode()
    return Delivered(reference=message_id(mail, server.sender), response=said)


async def _address(client: "SMTP", server: MailServer, mail: Mail, notify: str) -> None:
    """Say who it is from and for; a server that knows DSN (RFC 3461) is asked for the reports that are wanted."""
    reports = bool(notify) and client.supports_extension("dsn")
    await client.mail(server.sender.address, options=["RET=HDRS", f"ENVID={mail.key}"] if reports else [])
    await client.rcpt(mail.to, options=[f"NOTIFY={notify}"] if reports else [])


def _refused(error: "SMTPResponseException", server: MailServer, *, sending: bool) -> Outcome:
    """Class an answer other than success: the server did not take the mail, if it is an answer of SMTP at all."""
    found = _ENHANCED.match(error.message)
    code = f"{error.code} {found[1]}" if found else str(error.code)
    reason, said = f"{server.peer}: {code}", f"{error.code} {error.message}".encode()
    if error.code in _CREDENTIALS:
        advice = f"it refused the credentials; mend mail_servers.{server.name} in handoff.yaml, then replay"
        return Rejected(f"{reason}: {advice}", response=said)
    if 400 <= error.code < 500:  # noqa: PLR2004 - the transient class, RFC 5321 4.2.1
        return Retry(reason, after=_GREY_SECONDS if error.code in _GREYLISTED else None, response=said)
    if error.code >= 500:  # noqa: PLR2004 - the permanent class
        return Rejected(reason, response=said)
    reason = f"{server.peer}: an answer that SMTP does not have here"
    return Unknown(reason, response=said) if sending else Retry(reason, response=said)


def _broke(error: Exception, server: MailServer, *, sending: bool) -> Outcome:
    if sending:
        what = "no answer within the time allowed" if isinstance(error, TimeoutError) else "the connection was lost"
        return Unknown(f"{server.peer}: {what} (while it took the mail)")
    return Retry(f"{server.peer}: {_what_kept_out(error)}", is_away=True)


def _what_kept_out(error: Exception) -> str:
    cause = error.__cause__ or error
    if type(cause).__name__ == "SMTPException":
        return "it does not offer what is needed (STARTTLS, or a way to log in)"
    return not_connected(cause, late="it did not answer within the time allowed", other="no session could be set up")


async def _leave(client: "SMTP") -> None:
    """Say goodbye; whatever comes of it, the mail's outcome is known."""
    import aiosmtplib  # noqa: PLC0415 - as above

    try:
        if client.is_connected:
            await client.quit(timeout=_QUIT_SECONDS)
    except (aiosmtplib.SMTPException, OSError, TimeoutError):
        pass
    finally:
        client.close()
