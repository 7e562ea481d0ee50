"""TCP listeners with other framings keep the contract: nothing is answered before it is kept, nothing is lost."""

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from broker.errors import NotAccepted
from broker.notices import ConnectionClosed
from broker.parts import Tools
from listeners.tcp import TcpListener, TcpSpec
from tests.certificates import Authority
from tests.contract.test_listener_contract import Kept
from tests.reactor import reactor

__all__ = ["reactor"]

pytestmark = pytest.mark.asyncio(loop_scope="session")

STX = {"delimited": {"start": "\\x02", "end": "\\x03"}}


class World:
    """A running listener and what it was lent."""

    def __init__(self, **options: Any) -> None:
        self.kept = Kept()
        self.kept.delay = 0.01
        tools = Tools(channel="lab", intake=self.kept, notify=self.kept.notices.append, settings=None)
        given = {"endpoint": "127.0.0.1:0", "framing": STX, "accepted": "\\x06", "refused": "\\x15", **options}
        self.listener: TcpListener = TcpSpec.model_validate(given).build(tools)

    @property
    def bodies(self) -> list[bytes]:
        return [inbound.body for inbound in self.kept.messages]

    @contextlib.asynccontextmanager
    async def connect(self, context: ssl.SSLContext | None = None) -> AsyncIterator["Peer"]:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.listener.port, ssl=context)
        try:
            yield Peer(reader, writer)
        finally:
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()


class Peer:
    """A device."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def ask(self, data: bytes, size: int = 1) -> bytes:
        self.writer.write(data)
        return await asyncio.wait_for(self.reader.readexactly(size), 10)

    async def end(self) -> bytes:
        return await asyncio.wait_for(self.reader.read(), 10)


@contextlib.asynccontextmanager
async def running(**options: Any) -> AsyncIterator[World]:
    world = World(**options)
    await world.listener.start()
    try:
        yield world
    finally:
        await world.listener.stop()


@pytest.mark.parametrize(
    ("framing", "data", "bodies"),
    [
        (STX, b"\x02one\x03\x02two\x03", [b"one", b"two"]),
        ({"length": {}}, b"\0\0\0\x03one\0\0\0\x03two", [b"one", b"two"]),
        ({"line": True}, b"one\r\ntwo\n", [b"one", b"two"]),
        ({"size": 3}, b"onetwo", [b"one", b"two"]),
    ],
)
async def test_messages_are_answered_once_they_are_kept(
    reactor: Any, framing: dict[str, Any], data: bytes, bodies: list[bytes]
) -> None:
    async with running(framing=framing) as world, world.connect() as peer:
        assert await peer.ask(data[:5], 0) == b""
        assert await peer.ask(data[5:], 2) == b"\x06\x06"
        assert world.bodies == bodies


async def test_many_messages_at_once_are_answered_one_by_one(reactor: Any) -> None:
    async with running() as world, world.connect() as peer:
        data = b"".join(b"\x02%d\x03" % number for number in range(1000))
        assert await peer.ask(data, 1000) == b"\x06" * 1000
        assert world.bodies == [b"%d" % number for number in range(1000)]


async def test_what_is_not_kept_is_told_no_and_quarantined(reactor: Any) -> None:
    async with running() as world, world.connect() as peer:
        world.kept.refusal = NotAccepted("no room", code="AE", condition=207)
        assert await peer.ask(b"\x02one\x03") == b"\x15"
        assert not world.kept.quarantined  # the peer has it, and we have no room
        world.kept.refusal = NotAccepted("no", code="AR", condition=200)
        assert await peer.ask(b"\x02one\x03") == b"\x15"
        assert world.kept.quarantined == [b"one"]
        world.kept.refusal = None
        assert await peer.ask(b"\x02one\x03") == b"\x06"


async def test_without_an_answer_for_no_the_connection_ends(reactor: Any) -> None:
    async with running(accepted="", refused="") as world:
        async with world.connect() as peer:
            world.kept.refusal = NotAccepted("no", code="AE", condition=207)
            peer.writer.write(b"\x02one\x03")
            assert await peer.end() == b""
        world.kept.refusal = None
        async with world.connect() as peer:
            peer.writer.write(b"\x02two\x03")
            peer.writer.write_eof()
            assert await peer.end() == b""
        await asyncio.wait_for(world.kept.changed.wait(), 10)
        assert world.bodies == [b"two"]


async def test_a_stream_that_cannot_be_trusted_is_ended(reactor: Any) -> None:
    async with running(framing={"length": {}}, max_message="1KiB") as world, world.connect() as peer:
        assert await peer.ask(b"\0\0\0\x01a") == b"\x06"
        peer.writer.write(b"GET / HTTP/1.1\r\n\r\n")
        assert await peer.end() == b""
        assert world.kept.quarantined == [b"GET / HTTP/1.1\r\n\r\n"]


async def test_a_message_that_does_not_end_in_time_is_cut_off_and_kept(reactor: Any) -> None:
    async with running(frame_deadline="0.3s") as world, world.connect() as peer:
        peer.writer.write(b"\x02")
        with contextlib.suppress(ConnectionError):
            while not world.kept.quarantined:  # a byte now and then is not enough
                peer.writer.write(b"x")
                await peer.writer.drain()
                await asyncio.sleep(0.02)
        assert world.kept.quarantined[0].startswith(b"\x02xxx")
        with contextlib.suppress(ConnectionError):
            assert await peer.end() == b""
    closed = [notice.reason for notice in world.kept.notices if isinstance(notice, ConnectionClosed)]
    assert closed == ["a frame did not end in time"]


async def test_tls_and_a_stop_in_the_middle(reactor: Any, tmp_path: Path) -> None:
    ca = Authority(tmp_path)
    files = ca.issue("engine.test")
    context = ssl.create_default_context(cafile=str(ca.file))
    world = World(tls={"certificate": str(files.certificate), "key": str(files.key)})
    world.kept.delay = 0.2
    await world.listener.start()
    async with world.connect(context) as peer:
        peer.writer.write(b"\x02one\x03\x02tw")
        await asyncio.sleep(0.1)
        stopping = asyncio.create_task(world.listener.stop())
        assert await peer.end() == b"\x06"
        await stopping
    assert world.bodies == [b"one"]
    assert world.kept.quarantined == [b"\x02tw"]


@pytest.mark.parametrize(
    ("framing", "text"),
    [
        ({}, "found nothing"),
        ({"line": True, "size": 3}, "found line and size"),
        ({"delimited": {"end": ""}}, "at least 1"),
        ({"delimited": {"end": "\\xZZ"}}, "needs bytes"),
    ],
)
async def test_framings_that_say_nothing_are_refused(framing: dict[str, Any], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        World(framing=framing)


async def test_senders_that_nobody_could_tell_apart_are_refused() -> None:
    tls = {"certificate": "own.pem", "key": "own.key", "ca": "ca.pem", "senders": {"lab.test": ["LAB|MERCY"]}}
    with pytest.raises(ValidationError, match="senders needs MSH-3 and MSH-4") as refused:
        World(tls=tls)
    assert refused.value.errors()[0]["loc"] == ("tls", "senders")
