"""This module shows that each mail of a mailbox is taken once, on Dovecot, whatever happens to either side."""

import asyncio
import itertools
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any, BinaryIO, Final

import orjson
import pytest

from broker.errors import NotAccepted, NotReady
from broker.formats.delimited import CsvSpec
from broker.formats.reading import Piece
from broker.formats.tree import Json
from broker.notices import Bug
from broker.notices_mail import MailFailed, MailRead, MailRefused
from broker.notices_polls import PollFailed, PollRecovered
from broker.retry import RetryPolicy
from listeners import mail_session
from listeners.mail_session import MailSession, Refused
from tests.conftest import Need
from tests.contract.mail_rig import count, listener, looked, reading, result
from tests.contract.poll_rig import Kept, until
from tests.contract.token_server import CLIENT, SECRET, TokenServer
from tests.dovecot import PASSWORD, Dovecot
from tests.mails import mail

ACCOUNTS: Final = (f"clinic{number}" for number in itertools.count(1))


@pytest.fixture(scope="module")
def server(need: Need) -> Iterator[Dovecot]:
    dovecot = Dovecot(need("dovecot"))
    try:
        dovecot.start()
        yield dovecot
    finally:
        dovecot.remove()


@pytest.fixture
def account() -> str:
    """A mailbox that nobody else uses."""
    return next(ACCOUNTS)


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let nothing wait long until it is tried again."""
    monkeypatch.setenv("MAIL_PASSWORD", PASSWORD)
    monkeypatch.setenv("WRONG", "wrong")
    monkeypatch.setattr("listeners.polling._BACKOFF", RetryPolicy(attempts=0, first=0.01, max=0.1))
    monkeypatch.setattr("listeners.polling._AGAIN", 0.05)
    monkeypatch.setattr("listeners.file_reading._AGAIN", 0.05)


async def test_attachments_are_messages_and_mails_move_away(server: Dovecot, account: str, tmp_path: Path) -> None:
    server.put(account, mail(result(1), result(2), result(3)), mail(result(4), number=2))
    kept = Kept()
    async with reading(server, account, kept, tmp_path) as reader:
        assert (reader.endpoints, reader.connections) == (("mailbox lab:INBOX",), 0)
        await until(count(kept, 2))
    assert not reader.endpoints
    assert kept.ids() == [1, 2, 3, 4]
    assert [(told.mail, told.messages, told.duplicates) for told in kept.told(MailRead)] == [
        ("INBOX 1", 3, 0), ("INBOX 2", 1, 0),
    ]  # fmt: skip
    assert (server.flags(account), server.flags(account, "Handoff-Done")) == ([], ["", ""])
    assert "Okafor" not in repr(kept.notices) + repr([each.peer for each in kept.messages.values()])


async def test_rows_of_an_attachment_are_messages(server: Dovecot, account: str, tmp_path: Path) -> None:
    server.put(account, mail(("a.CSV", b"id,ward\r\n1,W1\r\n2,W2\r\n"), ("logo.png", b"\x89PNG")))
    kept = Kept()
    rows = CsvSpec.model_validate({}).build(None)
    async with reading(server, account, kept, tmp_path, names=["*.csv"], form=rows):
        await until(count(kept, 1))
    assert len(kept.messages) == 2
    assert [each.peer.partition("/")[0] for each in kept.messages.values()] == ["lab", "lab"]


async def test_whole_mail_or_its_text_may_be_the_message(server: Dovecot, account: str, tmp_path: Path) -> None:
    server.put(account, mail(result(1), text='{"id": 7}\n'))
    kept = Kept()
    async with reading(server, account, kept, tmp_path, take="body", names=None, after="seen"):
        await until(count(kept, 1))
    assert kept.ids() == [7]
    assert server.flags(account) == ["\\Seen"]
    kept = Kept()
    async with reading(server, account, kept, tmp_path, take="message", after="delete"):
        await until(count(kept, 1))
    [message] = kept.messages.values()
    found = orjson.loads(message.body)
    assert (found["subject"], found["text"]) == ("Results of Okafor", '{"id": 7}\r\n')
    assert [each["name"] for each in found["attachments"]] == ["Okafor-1.json"]
    assert server.flags(account) == []


async def test_mail_of_a_stranger_is_no_message_and_nothing_of_it_is_told(
    server: Dovecot, account: str, tmp_path: Path
) -> None:
    server.put(account, mail(result(1), sender="okafor@elsewhere.example"), mail(result(2), number=2))
    kept = Kept()
    async with reading(server, account, kept, tmp_path):
        await until(count(kept, 2))
    assert (kept.ids(), kept.quarantined) == ([2], [])
    [told] = kept.told(MailRefused)
    assert (told.mail, kept.told(MailFailed)) == ("INBOX 1", [])
    assert "okafor" not in repr(kept.notices)
    assert [len(server.flags(account, folder)) for folder in ("Handoff-Done", "Handoff-Failed")] == [1, 1]


async def test_mail_that_cannot_be_read_is_put_aside_and_the_next_goes_on(
    server: Dovecot, account: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mail_session, "_AT_ONCE", 2)
    whole = mail(result(1), result(2))
    cut = whole[: whole.rindex(b"--")]
    refused = mail(result(0), result(3), number=3)
    large = mail(("a.json", b" " * 20_000), number=4)
    server.put(account, cut, mail(number=2), refused, large, mail(result(5), number=5))
    kept = Kept()
    kept.refusals = [NotAccepted("no", code="AR", condition=101)]
    async with reading(server, account, kept, tmp_path, max_size="10KiB", failed="Störung & Co"):
        await until(count(kept, 5))
    assert kept.ids() == [3, 5]
    reasons = [told.reason for told in kept.told(MailFailed)]
    for reason, words in zip(reasons, ("not whole", "no attachment", "could not be taken", "max_size"), strict=True):
        assert words in reason
    assert len(kept.quarantined) == 4
    assert len(server.flags(account, '"St&APY-rung &- Co"')) == 4


class Stumbling(Json):
    """A format with a mistake: it stumbles over a number."""

    def split(self, file: BinaryIO, name: str) -> Iterator[Piece]:
        pieces = list(super().split(file, name))
        if b"13" in pieces[0].body:
            raise IndexError
        return iter(pieces)


async def test_mistake_of_ours_stops_nothing(server: Dovecot, account: str, tmp_path: Path) -> None:
    server.put(account, *(mail(result(number), number=number) for number in (13, 14)))
    kept = Kept()
    kept.refusals = [RuntimeError("ours")]
    async with reading(server, account, kept, tmp_path, form=Stumbling()):
        await until(count(kept, 2))
    assert [told.error for told in kept.told(Bug)] == ["IndexError", "RuntimeError"]
    assert ["mistake of ours" in told.reason for told in kept.told(MailFailed)] == [True]
    assert (kept.ids(), len(server.flags(account, "Handoff-Failed"))) == ([14], 1)


@pytest.mark.parametrize(("after", "left"), [("move", []), ("delete", []), ("seen", ["\\Seen"])])
async def test_connection_that_ends_before_the_mark_brings_nothing_twice(
    after: str, left: list[str], server: Dovecot, account: str, tmp_path: Path
) -> None:
    server.put(account, mail(result(1)))
    kept = Kept()
    reader = listener(server, account, kept, tmp_path, after=after)
    ending, ends = reader._end, iter([True, True])

    def end(session: MailSession, uid: int, *, well: bool) -> None:
        if next(ends, False):
            session.cut()
        ending(session, uid, well=well)

    reader._end = end  # type: ignore[method-assign]
    assert [await looked(reader) for _ in range(3)] == [False, False, True]
    assert (kept.ids(), kept.tries, server.flags(account)) == ([1], 3, left)
    assert [told.duplicates for told in kept.told(MailRead)] == [1]
    assert [len(kept.told(kind)) for kind in (PollFailed, PollRecovered)] == [1, 1]


async def test_folder_that_is_numbered_anew_brings_nothing_twice(server: Dovecot, account: str, tmp_path: Path) -> None:
    mails = [mail(result(1)), mail(result(2), number=2)]
    options: dict[str, Any] = {"folder": "Lab", "after": "seen"}
    kept = Kept()
    with server.log_in(account) as client:
        client.create("Lab")
    server.put(account, *mails, mails[1], folder="Lab")  # one came twice on purpose: it is two
    async with reading(server, account, kept, tmp_path, **options):
        await until(count(kept, 3))
    assert len(kept.messages) == 3
    with server.log_in(account) as client:
        client.delete("Lab")
        client.create("Lab")
    server.put(account, mail(result(3), number=3), *reversed(mails), folder="Lab")
    async with reading(server, account, kept, tmp_path, **options):
        await until(count(kept, 6))
    assert sorted(kept.ids()) == [1, 2, 2, 3]


async def test_store_that_is_away_changes_nothing(server: Dovecot, account: str, tmp_path: Path) -> None:
    server.put(account, mail(result(1), result(2)))
    kept = Kept()
    kept.refusals = [NotAccepted("away"), NotAccepted("away"), NotAccepted("away")]
    assert await looked(listener(server, account, kept, tmp_path))
    assert sorted(kept.ids()) == [1, 2]


async def test_nothing_is_fetched_while_too_much_waits_for_the_store(
    server: Dovecot, account: str, tmp_path: Path
) -> None:
    server.put(account, mail(result(1)), mail(result(2), number=2))
    kept = Kept()
    async with reading(server, account, kept, tmp_path) as reader:
        pressure = reader._tools.pressure
        kept.on_accept = lambda: setattr(pressure, "is_high", True)
        await until(count(kept, 1))
        await asyncio.sleep(0.2)
        assert kept.ids() == [1]
        pressure.is_high = False
        await until(count(kept, 2))
    assert kept.ids() == [1, 2]


async def test_stop_leaves_a_mail_where_it_is(server: Dovecot, account: str, tmp_path: Path) -> None:
    server.put(account, mail(result(1), result(2)))
    kept = Kept()
    kept.refusals = [NotAccepted("away")] * 500
    async with reading(server, account, kept, tmp_path):
        await until(lambda: kept.tries > 0)
    assert (server.flags(account), kept.ids(), kept.quarantined) == ([""], [], [])
    kept.refusals = []
    async with reading(server, account, kept, tmp_path) as reader:
        reader._tools.pressure.is_high = True
    assert (server.flags(account), kept.ids()) == ([""], [])


async def test_mail_that_the_server_does_not_give_stops_none_behind_it(
    server: Dovecot, account: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.put(account, *(mail(result(number), number=number) for number in range(1, 5)))
    fetch = MailSession.fetch

    def fail(session: MailSession, uid: int, most: int) -> bytes | None:
        if uid == 1:  # where a mail is damaged, a server may end the connection
            session.cut()
        if uid == 2:
            raise Refused("the server does not give it")
        return None if uid == 3 else fetch(session, uid, most)

    monkeypatch.setattr(MailSession, "fetch", fail)
    kept = Kept()
    reader = listener(server, account, kept, tmp_path)
    assert [await looked(reader) for _ in range(3)] == [False] * 3
    assert (kept.ids(), len(server.flags(account, "Handoff-Failed"))) == ([4], 1)
    monkeypatch.undo()
    assert await looked(reader)
    assert kept.ids() == [4, 3, 1]  # the one with trouble comes last
    assert (len(kept.told(PollFailed)), server.flags(account)) == (1, [])


async def test_server_that_goes_silent_is_away(
    server: Dovecot, account: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    silent = threading.Event()
    monkeypatch.setattr(MailSession, "find", lambda *_, **__: silent.wait(10))
    kept = Kept()
    reader = listener(server, account, kept, tmp_path, timeout="100ms")
    assert not await looked(reader)
    silent.set()
    assert "did not answer" in kept.told(PollFailed)[0].reason


@pytest.mark.parametrize(
    ("place", "options", "told"),
    [
        ({"certificates": None}, {}, "nobody whom we trust vouches"),
        ({"certificates": {"ca": "{ca}", "server_name": "pop.example.org"}}, {}, "for another name"),
        ({"password": "${env:WRONG}"}, {}, "refused our account or password"),
        ({}, {"folder": "Nowhere"}, "no folder of the declared name"),
        ({"endpoint": "127.0.0.1:1"}, {}, "connection was refused"),
        ({"endpoint": "imap.invalid:993"}, {}, "could not be resolved"),
        ({"tls": "starttls", "endpoint": "127.0.0.1:{tls_port}"}, {"timeout": "200ms"}, "did not answer within"),
    ],
)
async def test_what_keeps_us_out_is_told_once(
    place: dict[str, Any], options: dict[str, Any], told: str, server: Dovecot, account: str, tmp_path: Path
) -> None:
    values = {"ca": str(server.authority.file), "tls_port": server.tls_port}
    text = orjson.dumps(place).decode()
    for name, value in values.items():
        text = text.replace(f"{{{name}}}", str(value))
    kept = Kept()
    reader = listener(server, account, kept, tmp_path, orjson.loads(text), **options)
    assert not await looked(reader)
    assert not await looked(reader)
    [notice] = kept.told(PollFailed)
    assert told in notice.reason


@pytest.mark.parametrize("place", [{"tls": "starttls"}, {"plain": "on this machine", "certificates": None}])
async def test_other_ways_to_connect(place: dict[str, Any], server: Dovecot, account: str, tmp_path: Path) -> None:
    server.put(account, mail(result(1)))
    kept = Kept()
    reader = listener(server, account, kept, tmp_path, {"endpoint": f"127.0.0.1:{server.port}", **place})
    await looked(reader)
    assert (kept.ids(), kept.notices[-1]) == (
        [1],
        MailRead(channel="results", mailbox="lab", mail="INBOX 1", messages=1, duplicates=0),
    )


@pytest.fixture
async def endpoint(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[TokenServer]:
    """Who gives tokens."""
    monkeypatch.setenv("CLIENT_SECRET", SECRET)
    tokens = TokenServer()
    await tokens.start()
    yield tokens
    await tokens.stop()


def with_tokens(endpoint: TokenServer) -> dict[str, Any]:
    way = {"token_url": endpoint.url, "client_id": CLIENT, "client_secret": "${env:CLIENT_SECRET}"}
    return {"auth": {"client_credentials": way}}


async def test_token_takes_the_place_of_a_password(
    server: Dovecot, account: str, endpoint: TokenServer, tmp_path: Path
) -> None:
    server.put(account, mail(result(1)))
    kept = Kept()
    endpoint.extra = {"access_token": server.token(account, seconds=-60)}
    async with reading(server, account, kept, tmp_path, place=with_tokens(endpoint)):
        await until(lambda: bool(kept.told(PollFailed)))
        endpoint.extra = {"access_token": server.token(account)}  # the one that was refused is not shown again
        await until(count(kept, 1))
    assert "refused our access token" in kept.told(PollFailed)[0].reason
    assert (kept.ids(), len(kept.told(PollRecovered))) == ([1], 1)


async def test_token_that_nobody_gives_is_told(
    server: Dovecot, account: str, endpoint: TokenServer, tmp_path: Path
) -> None:
    kept = Kept()
    await endpoint.stop()
    async with reading(server, account, kept, tmp_path, place=with_tokens(endpoint)):
        await until(lambda: bool(kept.told(PollFailed)))
    assert "mailbox lab: no token (" in kept.told(PollFailed)[0].reason


async def test_server_without_move_and_expunge_by_uid_and_with_older_tokens(
    need: Need, account: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = Dovecot(need("dovecot"), "imap_capability = IMAP4rev1\nauth_mechanisms = plain xoauth2")
    try:
        old.start()
        monkeypatch.setenv("TOKEN", old.token(account))
        old.put(account, mail(result(1)), mail(result(2), number=2))
        kept = Kept()
        tokens = {"auth": {"bearer": {"token": "${env:TOKEN}"}}}
        reader = listener(old, account, kept, tmp_path, tokens, names="okafor-1*")
        assert await looked(reader)
        assert await looked(reader)
        assert (kept.ids(), kept.tries) == ([1], 1)
        assert old.flags(account) == ["\\Deleted", "\\Deleted"]
        assert [len(old.flags(account, folder)) for folder in ("Handoff-Done", "Handoff-Failed")] == [1, 1]
    finally:
        old.remove()


async def test_mail_that_the_server_leaves_where_it_is_stops_none_behind_it(
    server: Dovecot, account: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.put(account, mail(result(1)), mail(result(2), number=2))
    kept = Kept()
    reader = listener(server, account, kept, tmp_path, done="Done/../../x")
    assert await looked(reader)
    assert await looked(reader)
    assert (kept.ids(), kept.tries) == ([1, 2], 2)
    assert ["cannot be moved" in told.reason for told in kept.told(MailFailed)] == [True, True]
    monkeypatch.setattr(mail_session, "_quoted", lambda _: "x\x00y")
    assert not await looked(reader)


async def test_folder_of_ours_that_cannot_be_used_is_told(server: Dovecot, account: str, tmp_path: Path) -> None:
    server.put(account, mail(result(1)))
    kept = Kept()
    reader = listener(server, account, kept, tmp_path)
    (tmp_path / "imap" / "results").rmdir()
    (tmp_path / "imap" / "results").write_text("")
    with pytest.raises(NotReady, match=r"channel .*: cannot be made or used"):
        await reader.start()
    assert not await looked(reader)
    assert "cannot be written on this machine" in kept.told(PollFailed)[0].reason
    assert server.flags(account) == [""]
