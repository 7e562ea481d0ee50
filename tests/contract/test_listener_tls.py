"""Listeners speak TLS with real peers: who is who, who may say what, and certificates that change while they run."""

import asyncio
import shutil
import ssl
from pathlib import Path
from typing import Any

import pytest

from broker.errors import NotReady
from broker.notices import CertificateTrouble, PeerRefused
from broker.wire.mllp import frame
from tests.certificates import Authority, Files
from tests.contract.test_listener_contract import Sender, World, adt, running
from tests.reactor import reactor

__all__ = ["reactor"]

pytestmark = pytest.mark.asyncio(loop_scope="session")


def tls(files: Files, **more: Any) -> dict[str, Any]:
    return {"certificate": str(files.certificate), "key": str(files.key), **more}


def client(ca: Authority, own: Files | None = None) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=str(ca.file))
    if own is not None:
        context.load_cert_chain(own.certificate, own.key)
    return context


async def connect(world: World, context: ssl.SSLContext) -> Sender:
    opened = asyncio.open_connection("127.0.0.1", world.listener.port, ssl=context, server_hostname="127.0.0.1")
    return Sender(*await asyncio.wait_for(opened, 10))


async def ask(sender: Sender, message: bytes) -> tuple[str | None, str | None]:
    sender.send(frame(message))
    return await sender.answer()


async def test_messages_are_answered_under_tls(reactor: Any, tmp_path: Path) -> None:
    ca = Authority(tmp_path)
    async with running(tls=tls(ca.issue("engine.test"))) as world:
        sender = await connect(world, client(ca))
        assert await ask(sender, adt(1)) == ("AA", "M1")
        large = adt(2, 3_000_000)
        assert await ask(sender, large) == ("AA", "M2")
        assert world.kept.messages[1].body == large
        await sender.close()


async def test_old_versions_of_tls_are_refused(reactor: Any, tmp_path: Path) -> None:
    ca = Authority(tmp_path)
    old = client(ca)
    old.set_ciphers("ALL:@SECLEVEL=0")
    with pytest.warns(DeprecationWarning, match="deprecated"):
        old.minimum_version = ssl.TLSVersion.TLSv1
    with pytest.warns(DeprecationWarning, match="deprecated"):
        old.maximum_version = ssl.TLSVersion.TLSv1_1
    async with running(tls=tls(ca.issue("engine.test"))) as world:
        with pytest.raises((ssl.SSLError, ConnectionError)):
            await connect(world, old)
        assert not world.kept.messages


async def test_only_peers_with_a_certificate_come_in_when_one_is_asked_for(reactor: Any, tmp_path: Path) -> None:
    ca, stranger = Authority(tmp_path), Authority.below(tmp_path / "other", "Another CA")
    async with running(tls=tls(ca.issue("engine.test"), ca=str(ca.file))) as world:
        known = await connect(world, client(ca, ca.issue("lab.test")))
        assert await ask(known, adt(1)) == ("AA", "M1")
        for own in (None, stranger.issue("lab.test"), ca.issue("late.test", days=-1)):
            unknown = await connect(world, client(ca, own))
            with pytest.raises((ssl.SSLError, ConnectionError, EOFError)):  # TLS 1.3 tells it with the first read
                await ask(unknown, adt(2))
            unknown.writer.transport.abort()
        assert len(world.kept.messages) == 1
        assert await ask(known, adt(3)) == ("AA", "M3")
        await known.close()


async def test_a_certificate_speaks_for_its_senders_only(reactor: Any, tmp_path: Path) -> None:
    ca = Authority(tmp_path)
    who = {"lab.test": ["EPIC|MERCY", "LAB|MERCY"], "pharmacy.test": ["RX|MERCY"]}
    async with running(tls=tls(ca.issue("engine.test"), ca=str(ca.file), senders=who)) as world:
        lab = await connect(world, client(ca, ca.issue("lab.test")))
        pharmacy = await connect(world, client(ca, ca.issue("pharmacy.test")))
        assert await ask(lab, adt(1)) == ("AA", "M1")
        assert await ask(pharmacy, adt(2)) == ("AR", "M2")
        assert [inbound.body for inbound in world.kept.messages] == [adt(1)]
        assert world.kept.quarantined == [adt(2)]
        (refused,) = (notice for notice in world.kept.notices if isinstance(notice, PeerRefused))
        assert "pharmacy.test" in refused.reason
        await lab.close()
        await pharmacy.close()


async def test_a_renewed_certificate_is_shown_without_dropping_anybody(reactor: Any, tmp_path: Path) -> None:
    ca = Authority(tmp_path)
    files = ca.issue("engine.test")
    async with running(tls=tls(files)) as world:
        first = await connect(world, client(ca))
        for number in range(10):
            renewed = ca.issue("engine.test", file=f"renewed-{number}")
            shutil.copy(renewed.key, files.key)  # for a moment the two do not belong together
            between = await connect(world, client(ca))
            shutil.copy(renewed.certificate, files.certificate)
            after = await connect(world, client(ca))
            shown = after.writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
            assert ssl.DER_cert_to_PEM_cert(shown) == renewed.certificate.read_text()
            for sender in (first, between, after):
                assert (await ask(sender, adt(number)))[0] == "AA"
            await between.close()
            await after.close()
        await first.close()
        files.certificate.write_text("no certificate")
        last = await connect(world, client(ca))
        assert (await ask(last, adt(99)))[0] == "AA"
        await last.close()
        troubles = [notice.reason for notice in world.kept.notices if isinstance(notice, CertificateTrouble)]
        assert any("holds no certificate" in reason for reason in troubles)


async def test_an_ended_certificate_is_told_and_served(reactor: Any, tmp_path: Path) -> None:
    ca = Authority(tmp_path)
    async with running(tls=tls(ca.issue("engine.test", days=-1))) as world:
        (trouble,) = (notice for notice in world.kept.notices if isinstance(notice, CertificateTrouble))
        assert "ended on" in trouble.reason


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda files, _: files.key.chmod(0o644), "can be read by others"),
        (lambda files, _: files.key.unlink(), "cannot be read"),
        (lambda files, _: files.certificate.write_text("x"), "holds no certificate"),
        (lambda files, ca: shutil.copy(ca.issue("another.test").key, files.key), "cannot be used together"),
    ],
)
async def test_files_that_cannot_be_used_are_named(reactor: Any, tmp_path: Path, change: Any, text: str) -> None:
    ca = Authority(tmp_path)
    files = ca.issue("engine.test")
    change(files, ca)
    with pytest.raises(NotReady, match=text):
        async with running(tls=tls(files)):
            pass


async def test_peers_from_elsewhere_are_turned_away(reactor: Any) -> None:
    async with running(allow=["192.0.2.0/24"]) as world:
        sender = await world.connect()
        sender.send(frame(adt(1)))
        with pytest.raises((EOFError, ConnectionError)):
            await sender.answer()
        await sender.close()
        assert [type(notice) for notice in world.kept.notices][-1] is PeerRefused
    async with running(allow=["127.0.0.0/8", "2001:db8::/32"]) as world:
        sender = await world.connect()
        assert await ask(sender, adt(1)) == ("AA", "M1")
        await sender.close()


async def test_who_sends_too_fast_is_read_more_slowly(reactor: Any) -> None:
    async with running(rate=100.0) as world:
        sender = await world.connect()
        began = asyncio.get_running_loop().time()
        sender.send(b"".join(frame(adt(number)) for number in range(100)))  # a second's worth is let through at once
        assert [(await sender.answer())[0] for _ in range(100)] == ["AA"] * 100
        sender.send(b"".join(frame(adt(number)) for number in range(100, 150)))
        assert [(await sender.answer())[0] for _ in range(50)] == ["AA"] * 50
        sender.send(frame(adt(150)))
        assert await sender.answer() == ("AA", "M150")
        assert asyncio.get_running_loop().time() - began > 0.4
        await sender.close()


class Hospital:
    """A peer that waits to be dialled, and sends."""

    def __init__(self) -> None:
        self.senders: asyncio.Queue[Sender] = asyncio.Queue()

    async def open(self, context: ssl.SSLContext | None = None) -> int:
        """Listen on a free port and return it."""
        self._server = await asyncio.start_server(self._take, "127.0.0.1", 0, ssl=context)
        return int(self._server.sockets[0].getsockname()[1])

    async def _take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await self.senders.put(Sender(reader, writer))

    def close(self) -> None:
        """Listen no more."""
        self._server.close()


@pytest.mark.parametrize("secure", [False, True])
async def test_messages_are_taken_from_a_peer_that_is_dialled(reactor: Any, tmp_path: Path, secure: bool) -> None:
    hospital, ca = Hospital(), Authority(tmp_path)
    context = None
    if secure:
        files = ca.issue("127.0.0.1")
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(files.certificate, files.key)
    port = await hospital.open(context)
    options: dict[str, Any] = {"tls": {"ca": str(ca.file)}} if secure else {}
    async with running(endpoint=f"127.0.0.1:{port}", role="client", **options) as world:
        for number in (1, 2):  # after the first is closed we dial again
            sender = await asyncio.wait_for(hospital.senders.get(), 10)
            assert await ask(sender, adt(number)) == ("AA", f"M{number}")
            assert world.listener.endpoints == (f"127.0.0.1:{port} (dialled)",)
            assert world.listener.away == ""
            await sender.close()
    hospital.close()


async def test_a_peer_with_the_wrong_name_is_not_trusted(reactor: Any, tmp_path: Path) -> None:
    hospital, ca, other = Hospital(), Authority(tmp_path), Authority.below(tmp_path / "other", "Another CA")
    files = other.issue("127.0.0.1")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(files.certificate, files.key)
    port = await hospital.open(context)
    async with running(endpoint=f"127.0.0.1:{port}", role="client", tls={"ca": str(ca.file)}) as world:
        await asyncio.sleep(0.5)
        assert not world.kept.messages
        assert hospital.senders.empty()
    hospital.close()
