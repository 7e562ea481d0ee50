"""This module holds e-mail to its contract: against aiosmtpd, and against a server that misbehaves."""

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from email import message_from_bytes, policy
from types import SimpleNamespace
from typing import Any, cast

import orjson
import pytest
from aiosmtpd.smtp import SMTP, AuthResult, Envelope

from broker.delivery import Delivered, Delivery, Outcome, Rejected, Retry, Unknown, Via
from broker.parts import Tools
from config.mail_servers import MailServerSpec
from dispatch.email import EmailSpec, Mails
from tests.certificates import Authority
from tests.contract.scripted_server import closed_port

SECRETS = ("ada@example.com", "Okafor", "s3cret", "Welcome")
REQUEST = {"date": 1_790_000_000, "html": "<p>Hello</p>\n", "subject": "Welcome", "text": "Hello Okafor\n"}


class Inbox:
    """What aiosmtpd hands on; ``answers`` overrule what it would say to a command."""

    def __init__(self, **answers: str) -> None:
        self.answers = answers
        self.mails: list[Envelope] = []

    async def handle_MAIL(  # noqa: N802 - aiosmtpd looks for these names
        self, _server: Any, _session: Any, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        envelope.mail_from = address
        envelope.mail_options.extend(options)
        return self.answers.get("MAIL", "250 OK")

    async def handle_RCPT(  # noqa: N802 - as above
        self, _server: Any, _session: Any, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        envelope.rcpt_tos.append(address)
        envelope.rcpt_options.extend(options)
        return self.answers.get("RCPT", "250 OK")

    async def handle_DATA(self, _server: Any, _session: Any, envelope: Envelope) -> str:  # noqa: N802 - as above
        answer = self.answers.get("DATA", "250 2.0.0 queued as 4711")
        if answer.startswith("250"):
            self.mails.append(envelope)
        return answer


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("certificates"))


@contextlib.asynccontextmanager
async def served(inbox: Inbox, **options: Any) -> AsyncIterator[int]:
    """Serve an inbox on a free port."""
    implicit = options.pop("implicit", None)
    loop = asyncio.get_running_loop()
    running = await loop.create_server(lambda: SMTP(inbox, loop=loop, **options), "127.0.0.1", 0, ssl=implicit)
    yield running.sockets[0].getsockname()[1]
    running.close()


def destination(port: int, **options: Any) -> Mails:
    notify = options.pop("notify", [])
    declared = {"endpoint": f"127.0.0.1:{port}", "from": "Clinic <clinic@example.org>", "plain": "loopback", **options}
    server = MailServerSpec.model_validate_json(orjson.dumps(declared), strict=True)
    nothing = cast("Any", None)
    settings = SimpleNamespace(mail_servers={"office": server})
    spec = EmailSpec.model_validate(
        {"mail_server": "office", "to": "x", "subject": "x", "text": "x", "timeout": "300ms", "notify": notify}
    )
    return cast("Mails", spec.build(Tools("adt", nothing, lambda _: None, settings)))


async def sent(port: int, to: str = "ada@example.com", **options: Any) -> Outcome:
    """Send one mail; nothing of it may show in what is said of it."""
    mails = destination(port, **options)
    await mails.open()
    delivery = Delivery(id=1, route=1, key="k" * 32, request=orjson.dumps({**REQUEST, "to": to}))
    async with asyncio.timeout(10):
        (outcome,) = await mails.send([delivery])
    await mails.close()
    assert not [secret for secret in SECRETS if secret in repr(outcome)]
    return outcome


async def test_peer_takes_a_mail() -> None:
    inbox = Inbox()
    async with served(inbox) as port:
        outcome = await sent(port)
    assert outcome == Delivered(reference=f"<{'k' * 32}@example.org>", response=b"250 2.0.0 queued as 4711")
    assert outcome.via == Via(f"127.0.0.1:{port}")
    (envelope,) = inbox.mails
    assert (envelope.mail_from, envelope.rcpt_tos) == ("clinic@example.org", ["ada@example.com"])
    message = message_from_bytes(cast("bytes", envelope.content), policy=policy.default)
    assert message["Subject"] == "Welcome"
    assert [part.get_content_type() for part in message.walk()] == ["multipart/alternative", "text/plain", "text/html"]


async def test_every_attempt_sends_the_same_bytes() -> None:
    inbox = Inbox()
    async with served(inbox) as port:
        await sent(port)
        await sent(port)
    first, second = inbox.mails
    assert first.content == second.content


@pytest.mark.parametrize("command", ["MAIL", "RCPT", "DATA"])
@pytest.mark.parametrize(
    ("answer", "kind", "told"),
    [
        ("550 5.1.1 <ada@example.com> unknown", Rejected, "550 5.1.1"),
        ("554 policy", Rejected, "554"),
        ("552 5.2.2 full", Rejected, "552 5.2.2"),
        ("450 4.7.1 greylisted", Retry, "450 4.7.1"),
        ("452 4.3.1 no space", Retry, "452 4.3.1"),
        ("421 4.3.2 closing", Retry, "421 4.3.2"),
    ],
)
async def test_outcome_follows_from_the_peers_answer(command: str, answer: str, kind: type[Any], told: str) -> None:
    inbox = Inbox(**{command: answer})
    async with served(inbox) as port:
        outcome = await sent(port)
    assert isinstance(outcome, kind)
    assert not isinstance(outcome, Delivered)
    assert outcome.reason == f"mail server office: {told}"
    assert not inbox.mails
    if isinstance(outcome, Retry):
        assert outcome.after == (300.0 if told.startswith("450") else None)


async def test_tls_is_what_is_spoken_by_default(certificates: Authority, monkeypatch: pytest.MonkeyPatch) -> None:
    inbox = Inbox()
    async with served(inbox, tls_context=certificates.server(), require_starttls=True) as port:
        refused = await sent(port, plain="")  # an authority that nobody knows
        assert refused == Retry(
            "mail server office: TLS could not be set up (nobody whom we trust vouches for its certificate)",
            is_away=True,
        )
        monkeypatch.setattr(ssl, "create_default_context", certificates.client)
        taken = await sent(port, plain="")
        assert isinstance(taken, Delivered)
        assert taken.via is not None
        assert (taken.via.address, taken.via.tls[:4]) == (f"127.0.0.1:{port}", "TLSv")
    async with served(inbox, implicit=certificates.server()) as port:
        assert isinstance(await sent(port, plain="", tls="implicit"), Delivered)
    async with served(inbox) as port:
        outcome = await sent(port, plain="")  # it offers no STARTTLS: nothing goes in the clear instead
    assert outcome == Retry(
        "mail server office: it does not offer what is needed (STARTTLS, or a way to log in)", is_away=True
    )
    assert len(inbox.mails) == 2


@pytest.mark.filterwarnings("ignore:Requiring AUTH while not requiring TLS")
@pytest.mark.parametrize("is_right", [True, False])
async def test_account_logs_in(is_right: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MAIL_TEST_PASSWORD", "s3cret" if is_right else "wrong")

    def authenticate(_server: Any, _session: Any, _envelope: Any, _mechanism: str, data: Any) -> AuthResult:
        return AuthResult(success=(data.login, data.password) == (b"clinic", b"s3cret"), handled=False)

    inbox = Inbox()
    options = {"authenticator": authenticate, "auth_require_tls": False, "auth_required": True}
    async with served(inbox, **options) as port:
        outcome = await sent(port, account="clinic", password="${env:MAIL_TEST_PASSWORD}")
        anonymous = await sent(port)
    if is_right:
        assert isinstance(outcome, Delivered)
    else:
        assert isinstance(outcome, Rejected)
        assert "mend mail_servers.office in handoff.yaml, then replay" in outcome.reason
    assert isinstance(anonymous, Rejected)
    assert len(inbox.mails) == is_right


async def test_outcome_is_retry_when_nobody_listens() -> None:
    assert await sent(closed_port()) == Retry("mail server office: the connection was refused", is_away=True)


# A server that misbehaves.

Act = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


async def hang(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
    while await reader.read(65536):
        pass


async def close(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.close()


async def babble(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"\x16\x03\x01nonsense\r\n")


async def surprise(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"354 go on\r\n")


class Misbehaving:
    """Serves mails properly up to a stage: greeting, EHLO, MAIL, RCPT, dot or QUIT."""

    def __init__(self, at: str, act: Act, extensions: tuple[str, ...]) -> None:
        self._at, self._act = at, act
        self._lines = ["x", *extensions]
        self.told: list[bytes] = []
        self.writers: list[asyncio.StreamWriter] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.writers.append(writer)
        if self._at != "greeting":
            writer.write(b"220 x\r\n")
            with contextlib.suppress(OSError):
                while (line := await reader.readline()) and line[:4].decode() != self._at:
                    self.told.append(line)
                    if await self._answer(line[:4], reader, writer):
                        break
        await self._act(reader, writer)

    async def _answer(self, word: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Answer one command properly; say whether the stage is reached."""
        if word == b"EHLO":
            lines = [f"250{' ' if one is self._lines[-1] else '-'}{one}\r\n" for one in self._lines]
            writer.write("".join(lines).encode())
            return False
        if word == b"DATA":
            writer.write(b"354 go on\r\n")
            self.told.append(await reader.readuntil(b"\r\n.\r\n"))
            if self._at == "dot":
                return True
        writer.write(b"250 OK\r\n")
        return False


@contextlib.asynccontextmanager
async def misbehaving(at: str, act: Act, *extensions: str) -> AsyncIterator[tuple[int, list[bytes]]]:
    """Serve on a free port; give that, and what was told."""
    server = Misbehaving(at, act, extensions)
    running = await asyncio.start_server(server.serve, "127.0.0.1", 0)
    yield running.sockets[0].getsockname()[1], server.told
    running.close()
    for writer in server.writers:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


@pytest.mark.parametrize("act", [hang, close, babble])
@pytest.mark.parametrize("stage", ["greeting", "EHLO", "MAIL", "RCPT"])
async def test_outcome_is_retry_before_the_server_has_the_mail(stage: str, act: Act) -> None:
    async with misbehaving(stage, act) as (port, _told):
        assert isinstance(await sent(port), Retry)


@pytest.mark.parametrize("act", [hang, close, babble, surprise])
async def test_outcome_is_unknown_once_the_server_may_have_the_mail(act: Act) -> None:
    async with misbehaving("dot", act) as (port, _told):
        outcome = await sent(port)
    assert isinstance(outcome, Unknown), outcome


@pytest.mark.parametrize("act", [hang, close])
async def test_mail_is_delivered_whatever_becomes_of_the_goodbye(act: Act) -> None:
    async with misbehaving("QUIT", act) as (port, _told):
        assert isinstance(await sent(port), Delivered)


async def test_reports_are_asked_for_where_the_server_knows_them() -> None:
    for extensions, asked in ((("DSN",), True), ((), False)):
        async with misbehaving("", close, *extensions) as (port, told):
            assert isinstance(await sent(port, notify=["failure", "delay"]), Delivered)
        assert (f"MAIL FROM:<clinic@example.org> RET=HDRS ENVID={'k' * 32}\r\n".encode() in told) is asked
        assert (b"RCPT TO:<ada@example.com> NOTIFY=FAILURE,DELAY\r\n" in told) is asked
