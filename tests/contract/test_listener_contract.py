"""This module holds every listener to one contract, over real sockets: nothing is answered before it is kept."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from broker.errors import NotAccepted, NotReady
from broker.message import Inbound, Receipt
from broker.notices import ConnectionClosed, ListenerStarted, Notice
from broker.parts import Tools
from broker.wire.er7 import Message
from broker.wire.mllp import COMMITTED, Decoder, Frame, frame
from listeners.mllp import MllpListener, MllpSpec
from tests.intake import NoIntake
from tests.reactor import reactor

__all__ = ["reactor"]

pytestmark = pytest.mark.asyncio(loop_scope="session")


class Kept(NoIntake):
    """An intake that keeps messages in memory, a loop's turn or more after they came."""

    def __init__(self) -> None:
        self.messages: list[Inbound] = []
        self.quarantined: list[bytes] = []
        self.notices: list[Notice] = []
        self.changed = asyncio.Event()
        self.delay = 0.0
        self.refusal: NotAccepted | None = None

    def accept(self, inbound: Inbound) -> "asyncio.Future[Receipt]":
        """Keep it later, or refuse it."""
        promise: asyncio.Future[Receipt] = asyncio.get_running_loop().create_future()
        asyncio.get_running_loop().call_later(self.delay, self._keep, inbound, promise)
        return promise

    def quarantine(self, _channel: str, _peer: str, _reason: str, data: bytes) -> None:
        """Keep bytes that are no message."""
        self.quarantined.append(data)

    def _keep(self, inbound: Inbound, promise: "asyncio.Future[Receipt]") -> None:
        if self.refusal is not None:
            promise.set_exception(self.refusal)
        else:
            self.messages.append(inbound)
            self.changed.set()
            promise.set_result(Receipt(message_id=len(self.messages)))


class Sender:
    """A peer that sends bytes and reads answers."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer
        self._decoder = Decoder(1 << 20)
        self._frames: list[bytes] = []

    def send(self, data: bytes) -> None:
        """Write bytes as they are."""
        self.writer.write(data)

    async def answer(self) -> tuple[str | None, str | None]:
        """Return MSA-1 and MSA-2 of the next answer; EOFError when none comes any more."""
        while not self._frames:
            data = await asyncio.wait_for(self.reader.read(65536), 10)
            if not data:
                raise EOFError
            self._frames += [item.payload for item in self._decoder.feed(data) if isinstance(item, Frame)]
        payload = self._frames.pop(0)
        read = Message.parse(payload[payload.index(b"MSH") :])  # of a batch, the first
        return read.get("MSA-1"), read.get("MSA-2")

    async def close(self) -> None:
        """Close the connection."""
        self.writer.close()
        with contextlib.suppress(ConnectionError):
            await self.writer.wait_closed()


class World:
    """A running listener and what it was lent."""

    def __init__(self, **options: Any) -> None:
        self.kept = Kept()
        tools = Tools(channel="adt", intake=self.kept, notify=self.kept.notices.append, settings=None)
        self.spec = MllpSpec.model_validate({"endpoint": "127.0.0.1:0", **options})
        self.listener: MllpListener = self.spec.build(tools)
        self.tools = tools

    async def connect(self) -> Sender:
        """Connect a sender."""
        return Sender(*await asyncio.open_connection("127.0.0.1", self.listener.port))


@contextlib.asynccontextmanager
async def running(**options: Any) -> AsyncIterator[World]:
    """Run a listener on a free port."""
    world = World(**options)
    await world.listener.start()
    try:
        yield world
    finally:
        await world.listener.stop()


@pytest_asyncio.fixture(loop_scope="session")
async def world(reactor: Any) -> AsyncIterator[World]:
    assert reactor.running
    async with running() as it:
        yield it


def adt(number: int, size: int = 0) -> bytes:
    return f"MSH|^~\\&|EPIC|MERCY|H|P|20260101||ADT^A01|M{number}|P|2.5\rPID|1||0012\rNTE|1||{'x' * size}\r".encode()


async def test_traffic_can_arrive_when_start_returns(world: World) -> None:
    started = [notice for notice in world.kept.notices if isinstance(notice, ListenerStarted)]
    assert [notice.endpoint for notice in started] == [f"127.0.0.1:{world.listener.port}"]
    assert world.listener.endpoints == (f"127.0.0.1:{world.listener.port}",)
    sender = await world.connect()
    sender.send(frame(adt(1)))
    assert await sender.answer() == ("AA", "M1")
    assert world.kept.messages[0].body == adt(1)
    await sender.close()


async def test_answers_come_in_order_when_many_are_sent_at_once(world: World) -> None:
    sender = await world.connect()
    sender.send(b"".join(frame(adt(number, 1000)) for number in range(500)))
    assert [await sender.answer() for _ in range(500)] == [("AA", f"M{number}") for number in range(500)]
    await sender.close()


async def test_message_is_whole_when_it_is_large(world: World) -> None:
    sender = await world.connect()
    sender.send(frame(adt(1, 10 << 20)))
    assert await sender.answer() == ("AA", "M1")
    assert world.kept.messages[0].body == adt(1, 10 << 20)
    await sender.close()


async def test_senders_do_not_disturb_each_other_when_many_connect(world: World) -> None:
    senders = [await world.connect() for _ in range(20)]
    for number, sender in enumerate(senders):
        sender.send(frame(adt(number)))
    assert [await sender.answer() for sender in senders] == [("AA", f"M{number}") for number in range(20)]
    for sender in senders:
        await sender.close()


async def test_refusal_is_answered_when_the_intake_refuses(world: World) -> None:
    world.kept.refusal = NotAccepted("MSH-12: no", code="AR", condition=203, location="MSH-12")
    sender = await world.connect()
    sender.send(frame(adt(1)))
    assert await sender.answer() == ("AR", "M1")
    assert world.kept.quarantined == [adt(1)]
    await sender.close()


async def test_listener_goes_on_when_a_peer_sends_nonsense(world: World) -> None:
    bad = await world.connect()
    bad.send(frame(b"INVALID PAYLOAD"))
    with pytest.raises(EOFError):
        await bad.answer()
    await bad.close()
    good = await world.connect()
    good.send(frame(adt(1)))
    assert await good.answer() == ("AA", "M1")
    await good.close()


async def test_rejection_is_read_by_the_peer_when_it_sends_too_much(reactor: Any) -> None:
    async with running(max_message="64KiB") as world:
        sender = await world.connect()
        sender.send(frame(adt(7, 8 << 20)))
        assert await sender.answer() == ("AR", "M7")
        with pytest.raises(EOFError):
            await sender.answer()
        await sender.close()


async def test_open_messages_are_answered_when_stopped(reactor: Any) -> None:
    async with running() as world:
        world.kept.delay = 0.3
        sender = await world.connect()
        sender.send(frame(adt(1)) + frame(adt(2)) + b"\x0bhalf")
        await asyncio.sleep(0.1)
        port = world.listener.port
        await world.listener.stop()
        assert [await sender.answer(), await sender.answer()] == [("AA", "M1"), ("AA", "M2")]
        with pytest.raises(EOFError):
            await sender.answer()
        with pytest.raises(OSError, match=r"refused|Connect call failed"):
            await asyncio.open_connection("127.0.0.1", port)
        assert world.kept.quarantined == [b"half"]
        await sender.close()


async def test_listener_works_again_when_started_again(world: World) -> None:
    await world.listener.stop()
    await world.listener.start()
    sender = await world.connect()
    sender.send(frame(adt(1)))
    assert await sender.answer() == ("AA", "M1")
    await sender.close()


async def test_peer_is_not_read_when_it_does_not_read(world: World) -> None:
    with socket.socket() as peer:
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        peer.setblocking(False)
        loop = asyncio.get_running_loop()
        await loop.sock_connect(peer, ("127.0.0.1", world.listener.port))
        data = b"".join(frame(adt(number)) for number in range(1000))

        async def write_on() -> None:
            while True:
                await loop.sock_sendall(peer, data)

        writing = asyncio.ensure_future(write_on())
        # Answers fill the buffers of both systems first; then the count of what is taken stands still.
        counts = [-3, -2, -1]
        async with asyncio.timeout(60):
            while len(set(counts[-3:])) > 1:
                await asyncio.sleep(0.3)
                counts.append(len(world.kept.messages))
        assert counts[-1] > 1000
        assert not writing.done()
        writing.cancel()


async def test_second_listener_is_refused_when_the_port_is_taken(world: World) -> None:
    other = World(endpoint=f"127.0.0.1:{world.listener.port}")
    with pytest.raises(NotReady, match="channel adt: cannot listen on"):
        await other.listener.start()


async def test_further_peers_are_turned_away_when_the_limit_is_reached(reactor: Any) -> None:
    async with running(connections=1) as world:
        first = await world.connect()
        first.send(frame(adt(1)))
        assert await first.answer() == ("AA", "M1")
        second = await world.connect()
        with pytest.raises((EOFError, ConnectionError)):
            await second.answer()
        await first.close()
        await second.close()


async def test_accepted_messages_stay_when_the_peer_goes_away(world: World) -> None:
    world.kept.delay = 0.05
    sender = await world.connect()
    sender.send(frame(adt(1)))
    await asyncio.sleep(0.02)
    await sender.close()
    await asyncio.wait_for(world.kept.changed.wait(), 10)
    assert any(isinstance(notice, ConnectionClosed) for notice in world.kept.notices)


async def test_answers_are_those_asked_for_when_the_stream_is_cut_at_any_byte(world: World) -> None:
    both = adt(1).replace(b"|2.5", b"|2.5|||AL|AL")
    stream = frame(both) + frame(b"BHS|^~\\&|EPIC|MERCY|H|P\r" + adt(2) + adt(3) + b"BTS|2\r") + frame(adt(4))
    sender = await world.connect()
    for cut in range(1, len(stream), 3):
        world.kept.messages.clear()
        sender.send(stream[:cut])
        await sender.writer.drain()
        await asyncio.sleep(0)
        sender.send(stream[cut:])
        assert [await sender.answer(), await sender.answer()] == [("CA", "M1"), ("AA", "M1")]
        assert [await sender.answer(), await sender.answer()] == [("AA", "M2"), ("AA", "M4")]
        assert [inbound.body for inbound in world.kept.messages] == [both, adt(2), adt(3), adt(4)]
    await sender.close()


async def test_batches_and_messages_keep_their_order_when_many_are_sent_at_once(world: World) -> None:
    numbers = iter(range(10_000))
    sizes = [1, 200, 1, 1, 70, 2]
    units = [[adt(next(numbers)) for _ in range(size)] for size in sizes * 5]
    sender = await world.connect()
    sender.send(b"".join(frame(b"".join(unit)) for unit in units))
    first = 0
    for unit in units:
        assert await sender.answer() == ("AA", f"M{first}")
        first += len(unit)
    assert [inbound.body for inbound in world.kept.messages] == [body for unit in units for body in unit]
    await sender.close()


async def test_block_comes_when_it_is_kept_and_release_2_is_spoken(reactor: Any) -> None:
    async with running(release=2) as world:
        sender = await world.connect()
        sender.send(frame(adt(1)) + frame(COMMITTED) + frame(adt(2)))
        assert await sender.reader.readexactly(4) == frame(COMMITTED)
        assert await sender.answer() == ("AA", "M1")
        await sender.close()
