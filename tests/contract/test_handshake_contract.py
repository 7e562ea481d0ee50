"""A handshake with a peer that connects ends with TLS and nothing lost, or with a reason, on each event loop."""

import asyncio
import contextlib
import resource
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
import uvloop

from broker import handshake
from broker.handshake import LATE, TlsServer, in_words
from tests.certificates import Authority


@pytest.fixture(params=[asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest) -> Callable[[Coroutine[Any, Any, None]], None]:
    """Return what runs a coroutine on a loop."""

    def run(work: Coroutine[Any, Any, None]) -> None:
        with asyncio.Runner(loop_factory=request.param) as runner:
            runner.run(asyncio.wait_for(work, 10))

    return run


class Inside(asyncio.Protocol):
    """Notes all that it is told."""

    def __init__(self, told: "asyncio.Queue[Any]") -> None:
        self._told = told
        self._transport: Any = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Note that there is TLS."""
        self._transport = transport
        self._told.put_nowait(transport.get_extra_info("ssl_object").version())

    def data_received(self, data: bytes) -> None:
        """Note it, and say it back."""
        self._told.put_nowait(data)
        self._transport.write(data)

    def connection_lost(self, _error: Exception | None) -> None:
        """Note the end."""
        self._told.put_nowait("lost")


class Port:
    """A port with TLS, and what happened there."""

    def __init__(self) -> None:
        self.told: asyncio.Queue[Any] = asyncio.Queue()
        self.failed: asyncio.Queue[tuple[str, str]] = asyncio.Queue()
        self.number = 0

    @contextlib.asynccontextmanager
    async def open(self, context: ssl.SSLContext) -> AsyncIterator["Port"]:
        """Serve on a free port."""
        server = TlsServer(context, lambda: Inside(self.told), lambda *said: self.failed.put_nowait(said))
        await server.open("127.0.0.1", 0, 16)
        self.number = server.sockets[0].getsockname()[1]
        yield self
        server.close()

    async def connect(self, context: ssl.SSLContext | None) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Connect a peer."""
        return await asyncio.open_connection("127.0.0.1", self.number, ssl=context)


def speak(plain: socket.socket, context: ssl.SSLContext, said: bytes) -> None:
    """Send with the very segment that ends the handshake, and leave at once."""
    received, sent = ssl.MemoryBIO(), ssl.MemoryBIO()
    secure = context.wrap_bio(received, sent, server_hostname="127.0.0.1")
    with plain:
        while True:
            try:
                secure.do_handshake()
                break
            except ssl.SSLWantReadError:
                plain.sendall(sent.read())
                received.write(plain.recv(65536))
        secure.write(said)
        plain.sendall(sent.read())


@pytest.fixture
def ca(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


def test_protocol_inside_gets_all_that_was_said(run: Any, ca: Authority) -> None:
    async def work() -> None:
        async with Port().open(ca.server()) as port:
            reader, writer = await port.connect(ca.client())
            writer.write(b"hello")
            assert await reader.readexactly(5) == b"hello"
            writer.close()
            assert [await port.told.get() for _ in range(3)] == ["TLSv1.3", b"hello", "lost"]
            for _ in range(5):
                plain = socket.create_connection(("127.0.0.1", port.number), 5)
                await asyncio.to_thread(speak, plain, ca.client(), b"early")
                assert [await port.told.get() for _ in range(3)] == ["TLSv1.3", b"early", "lost"]
            assert port.failed.empty()

    run(work())


def test_port_that_is_taken_is_an_error_and_none_is_kept(run: Any, ca: Authority) -> None:
    async def work() -> None:
        async with Port().open(ca.server()) as port:
            other = TlsServer(ca.server(), asyncio.Protocol, lambda *_said: None)
            with pytest.raises(OSError, match="in use"):
                await other.open("127.0.0.1", port.number, 1)
            assert other.sockets == []

    run(work())


def test_peers_wait_while_too_many_files_are_open(run: Any, ca: Authority, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handshake, "_PAUSE", 0.02)

    async def work() -> None:
        async with Port().open(ca.server()) as port:
            plain, context = socket.socket(), ca.client()
            plain.settimeout(5)
            limits = resource.getrlimit(resource.RLIMIT_NOFILE)
            resource.setrlimit(resource.RLIMIT_NOFILE, (plain.fileno() + 1, limits[1]))
            try:
                plain.connect(("127.0.0.1", port.number))
                await asyncio.sleep(0.1)
            finally:
                resource.setrlimit(resource.RLIMIT_NOFILE, limits)
            await asyncio.to_thread(speak, plain, context, b"late")
            assert [await port.told.get() for _ in range(3)] == ["TLSv1.3", b"late", "lost"]

    run(work())


def test_reason_is_told_with_the_peer(run: Any, ca: Authority, monkeypatch: pytest.MonkeyPatch) -> None:
    demanding = ca.server()
    demanding.load_verify_locations(ca.file)
    demanding.verify_mode = ssl.CERT_REQUIRED
    late = ca.client()
    files = ca.issue("late.test", days=-1)
    late.load_cert_chain(files.certificate, files.key)

    async def work() -> None:
        async with Port().open(demanding) as port:
            for context, why in ((ca.client(), "it showed no certificate"), (late, "its certificate has ended")):
                with contextlib.suppress(ssl.SSLError, ConnectionError):
                    reader, writer = await port.connect(context)
                    await reader.read()
                    writer.close()
                peer, reason = await port.failed.get()
                assert (peer.partition(":")[0], reason) == ("127.0.0.1", f"TLS could not be set up ({why})")
            _, plain = await port.connect(None)
            plain.close()  # it only looked
            monkeypatch.setattr(handshake, "WITHIN", 0.05)
            reader, plain = await port.connect(None)
            assert await reader.read() == b""  # silent, and cut off
            plain.close()
            assert (await port.failed.get())[1] == LATE
            assert port.failed.empty()
            assert port.told.empty()

    run(work())


@pytest.mark.parametrize(
    ("reason", "doubt", "why"),
    [
        ("", 9, "its certificate is not valid yet"),
        ("", 62, "its certificate is for another name"),
        ("", 20, "nobody whom we trust vouches for its certificate"),
        ("tlsv1 alert unknown ca", None, "it refused our certificate, or wants one"),
        ("[SSL: TLSV13_ALERT_CERTIFICATE_REQUIRED]", None, "it refused our certificate, or wants one"),
        ("no shared cipher", None, "it speaks no TLS that is safe today"),
        ("bad extension", None, "certificate or protocol refused"),
    ],
)
def test_reasons_in_words(reason: str, doubt: int | None, why: str) -> None:
    assert in_words(reason, doubt) == f"TLS could not be set up ({why})"
