"""Whichever end does not trust the other, a notice names the channel, the peer and the reason, and nothing is taken."""

import asyncio
import contextlib
import socket
import ssl
import threading
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, Final

import pytest

from broker.handshake import LATE
from broker.notices import HandshakeFailed, PeerRefused
from broker.wire.mllp import frame
from listeners import watch
from tests.certificates import Authority, Files
from tests.contract.test_listener_contract import Sender, World, adt, running
from tests.contract.test_listener_tls import Hospital, ask, client, connect, tls
from tests.contract.test_mllp_out_tls import Strict
from tests.reactor import reactor

__all__ = ["reactor"]

pytestmark = pytest.mark.asyncio(loop_scope="session")


class Office:
    """An authority that we trust, and one that we do not."""

    def __init__(self, folder: Path) -> None:
        self.known = Authority(folder)
        self.unknown = Authority.below(folder / "unknown", "Another CA")


@pytest.fixture
def office(tmp_path: Path) -> Office:
    return Office(tmp_path)


async def failed(world: World, number: int = 1) -> HandshakeFailed:
    """Return a notice of a handshake that failed, once there are so many."""
    async with asyncio.timeout(5):
        while True:
            found = [one for one in world.kept.notices if isinstance(one, HandshakeFailed)]
            if len(found) >= number:
                assert len(found) == number
                return found[-1]
            await asyncio.sleep(0.005)


_REFUSED: Final = "it refused our certificate, or wants one"
_WRONG: list[tuple[Callable[[Office], Files | None], str]] = [
    (lambda office: office.known.issue("late.test", days=-1), "its certificate has ended"),
    (lambda office: office.known.issue("early.test", begins=2), "its certificate is not valid yet"),
    (lambda office: office.unknown.issue("lab.test"), "nobody whom we trust vouches for its certificate"),
    (lambda _office: None, "it showed no certificate"),
]


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_why_a_peer_that_connects_is_not_trusted(reactor: Any, office: Office, version: ssl.TLSVersion) -> None:
    ca = office.known
    async with running(tls=tls(ca.issue("engine.test"), ca=str(ca.file))) as world:
        for number, (make, reason) in enumerate(_WRONG, 1):
            context = client(ca, make(office))
            context.maximum_version = version
            with pytest.raises((ssl.SSLError, ConnectionError, EOFError)):  # TLS 1.3 tells it with the first read
                await ask(await connect(world, context), adt(number))
            notice = await failed(world, number)
            assert (notice.channel, notice.peer.partition(":")[0]) == ("adt", "127.0.0.1")
            assert notice.reason == f"TLS could not be set up ({reason})"
        known = await connect(world, client(ca, ca.issue("lab.test")))
        assert await ask(known, adt(9)) == ("AA", "M9")
        await known.close()
        assert [inbound.body for inbound in world.kept.messages] == [adt(9)]


def distrust(port: int, trusted: Authority) -> None:
    """Connect with OpenSSL itself, which tells the other end why it leaves (asyncio does not)."""
    with (
        socket.create_connection(("127.0.0.1", port), 5) as plain,
        contextlib.suppress(ssl.SSLCertVerificationError),
    ):
        client(trusted).wrap_socket(plain, server_hostname="127.0.0.1")


async def test_peer_that_does_not_trust_us_is_named(reactor: Any, office: Office) -> None:
    for files in (office.known.issue("late.test", days=-1), office.unknown.issue("engine.test")):
        async with running(tls=tls(files)) as world:
            leaving = threading.Thread(target=distrust, args=(world.listener.port, office.known))
            leaving.start()
            assert (await failed(world)).reason == f"TLS could not be set up ({_REFUSED})"
            leaving.join()


async def test_peer_that_speaks_no_tls_is_named_and_one_that_only_looks_is_not(reactor: Any, office: Office) -> None:
    async with running(tls=tls(office.known.issue("engine.test"))) as world:
        probe = await world.connect()  # as monitoring does
        await probe.close()
        for number, (sent, reason) in enumerate(
            (
                (frame(adt(1)), "what it sent is no TLS"),
                (b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", "it spoke plain HTTP"),
            ),
            1,
        ):
            sender = await world.connect()
            sender.send(sent)
            with pytest.raises((EOFError, ConnectionError)):
                await sender.answer()
            assert (await failed(world, number)).reason == f"TLS could not be set up ({reason})"
            await sender.close()


def demanding(ca: Authority) -> ssl.SSLContext:
    """Return what a hospital speaks TLS with that lets in only whom its authority knows."""
    files = ca.issue("lab.test")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=ca.file)
    context.load_cert_chain(files.certificate, files.key)
    context.verify_mode = ssl.CERT_REQUIRED
    return context


@contextlib.asynccontextmanager
async def dialled(hospital: Hospital, files: Files, **options: Any) -> AsyncIterator[World]:
    """Run a listener that dials a hospital with a certificate."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(files.certificate, files.key)
    host = options.pop("host", "127.0.0.1")
    port = await hospital.open(context)
    try:
        async with running(endpoint=f"{host}:{port}", role="client", **options) as world:
            yield world
    finally:
        hospital.close()


@pytest.mark.parametrize(
    ("make", "host", "reason"),
    [
        (_WRONG[0][0], "127.0.0.1", _WRONG[0][1]),
        (_WRONG[1][0], "127.0.0.1", _WRONG[1][1]),
        (_WRONG[2][0], "127.0.0.1", _WRONG[2][1]),
        (lambda office: office.known.issue("lab.test"), "localhost", "its certificate is for another name"),
    ],
)
async def test_why_a_peer_that_we_dial_is_not_trusted(
    reactor: Any, office: Office, make: Callable[[Office], Files], host: str, reason: str
) -> None:
    hospital = Hospital()
    async with dialled(hospital, make(office), host=host, tls={"ca": str(office.known.file)}) as world:
        notice = await failed(world)
        assert notice.channel == "adt"
        assert notice.peer.startswith("127.0.0.1:")
        assert notice.reason == f"TLS could not be set up ({reason})"
        assert hospital.senders.empty()
        assert not world.kept.messages


async def test_peer_that_we_dial_and_that_wants_a_certificate_of_ours_is_named(reactor: Any, office: Office) -> None:
    ca = office.known
    strict = Strict(demanding(ca))
    options: dict[str, Any] = {"endpoint": f"127.0.0.1:{strict.port}", "role": "client", "tls": {"ca": str(ca.file)}}
    async with running(**options) as world:
        assert (await failed(world)).reason == f"TLS could not be set up ({_REFUSED})"
    hospital = Hospital()
    port = await hospital.open(demanding(ca))
    files = ca.issue("engine.test")
    own = {"ca": str(ca.file), "certificate": str(files.certificate), "key": str(files.key)}
    async with running(endpoint=f"127.0.0.1:{port}", role="client", tls=own) as world:
        sender = await asyncio.wait_for(hospital.senders.get(), 10)
        assert await ask(sender, adt(1)) == ("AA", "M1")
        await sender.close()
    hospital.close()


async def test_peer_that_we_dial_speaks_for_its_senders_only(reactor: Any, office: Office) -> None:
    who = {"lab.test": ["LAB|MERCY"]}
    hospital = Hospital()
    trusted = {"ca": str(office.known.file), "senders": who}
    async with dialled(hospital, office.known.issue("lab.test"), tls=trusted) as world:
        sender: Sender = await asyncio.wait_for(hospital.senders.get(), 10)
        assert await ask(sender, adt(1)) == ("AR", "M1")  # from EPIC
        assert await ask(sender, adt(2).replace(b"EPIC", b"LAB")) == ("AA", "M2")
        assert sum(isinstance(notice, PeerRefused) for notice in world.kept.notices) == 1
        await sender.close()


async def test_handshakes_that_do_not_end_are_cut_while_others_are_served(
    reactor: Any, office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch, "WITHIN", 2.5)
    ca = office.known
    loop = asyncio.get_running_loop()
    async with running(tls=tls(ca.issue("engine.test"), ca=str(ca.file))) as world:
        healthy = await connect(world, client(ca, ca.issue("lab.test")))
        hello = ssl.MemoryBIO()
        begun = client(ca).wrap_bio(ssl.MemoryBIO(), hello, server_hostname="127.0.0.1")
        with pytest.raises(ssl.SSLWantReadError):
            begun.do_handshake()
        beginning = hello.read()[:100]
        half_open = [await world.connect() for _ in range(200)]
        began = loop.time()
        for place, sender in enumerate(half_open):  # some say nothing, some a part of the first message
            sender.send(beginning if place % 2 else b"")
        async with asyncio.timeout(2.5):
            while world.listener.connections < 201:  # noqa: ASYNC110 - nothing tells when
                await asyncio.sleep(0.005)
        waits = []
        for number in range(30):
            asked = loop.time()
            assert await ask(healthy, adt(number)) == ("AA", f"M{number}")
            waits.append(loop.time() - asked)
        newcomer = await connect(world, client(ca, ca.issue("lab.test")))
        assert await ask(newcomer, adt(100)) == ("AA", "M100")
        assert max(waits) < 2.5  # nobody waits for the others' end
        async with asyncio.timeout(5):
            for sender in half_open:
                with contextlib.suppress(ConnectionResetError):
                    assert await sender.reader.read() == b""
        assert loop.time() - began > 2
        assert (await failed(world, 200)).reason == LATE
        assert world.listener.connections == 2
        assert await ask(healthy, adt(101)) == ("AA", "M101")
        for sender in (healthy, newcomer, *half_open):
            await sender.close()
