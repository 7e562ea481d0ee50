"""This module sends over many MLLP connections at once, and sends again, byte for byte, what was not acknowledged."""

import asyncio
import contextlib
import random
import time
from collections import deque
from dataclasses import dataclass, field
from typing import Final

from broker.wire.mllp import Decoder, Frame, frame
from tests.faults.harness.feed import Feed, Ledger, Sent

_AGAIN: Final = 0.02  # seconds between attempts to connect
_PATIENCE: Final = 30.0  # seconds that an acknowledgment may take
_READ: Final = 65536


@dataclass(slots=True)
class Lost:
    """A connection that ended under us, and how many messages were unanswered then."""

    at: float
    unanswered: int


@dataclass(slots=True)
class Sender:
    """Sends messages of a feed to a port until told to stop; ``rate`` is messages per second, of all connections."""

    port: int
    feed: Feed
    ledger: Ledger
    connections: int = 8
    window: int = 4  # most messages of one connection without an answer
    rate: float = 400.0
    limit: int = 0  # messages in all; 0: until it is stopped
    lost: list[Lost] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    seed: int = 0
    _left: int = 0
    _stopped: bool = False
    _tasks: list["asyncio.Task[None]"] = field(default_factory=list)

    def start(self) -> None:
        """Begin to send."""
        self._left = self.limit
        self._tasks = [asyncio.create_task(_Line(self, number).run()) for number in range(self.connections)]

    async def stop(self, seconds: float = 60.0) -> None:
        """Send nothing new, wait until all that was sent is answered, and say what went wrong meanwhile."""
        self._stopped = True
        await self.finish(seconds)

    async def finish(self, seconds: float = 60.0) -> None:
        """Wait until all messages (of a sender with a limit) are answered."""
        try:
            async with asyncio.timeout(seconds):
                await asyncio.gather(*self._tasks)
        finally:
            await self.abort()

    async def abort(self) -> None:
        """Stop at once."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def may_send(self) -> bool:
        """Say whether there is one more message to send, and take it."""
        if self._stopped or (self.limit and not self._left):
            return False
        self._left -= 1
        return True


class _Line:
    """One connection, made again whenever it is lost."""

    def __init__(self, sender: Sender, number: int) -> None:
        self._sender = sender
        self._patients = sender.feed.share(number, sender.connections)
        self._dice = random.Random(f"{sender.seed} {number}")
        self._open: deque[Sent] = deque()
        self._pause = sender.connections / sender.rate if sender.rate else 0.0

    async def run(self) -> None:
        while True:
            try:
                reader, writer = await asyncio.open_connection("127.0.0.1", self._sender.port)
            except OSError:
                await asyncio.sleep(_AGAIN)
                continue
            try:
                if await self._talk(reader, writer):
                    return
            except (OSError, asyncio.IncompleteReadError, EOFError):
                self._sender.lost.append(Lost(time.monotonic(), len(self._open)))
            finally:
                writer.close()
                with contextlib.suppress(OSError):
                    await writer.wait_closed()

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Send until the connection is lost (then it raises) or nothing is left to send."""
        decoder = Decoder(1 << 20)
        writer.writelines([frame(one.body) for one in self._open])
        while True:
            fresh = self._fresh()
            if fresh:
                self._sender.ledger.note_sent(fresh)
                self._open.extend(fresh)
                writer.writelines([frame(one.body) for one in fresh])
            if not self._open:
                break
            async with asyncio.timeout(_PATIENCE):
                await writer.drain()
                self._take(decoder, await reader.read(_READ))
            if self._pause and not self._open:
                await asyncio.sleep(self._dice.expovariate(1 / (self._pause * max(len(fresh), 1))))
        await self._expect_silence(reader, writer)
        return True

    def _fresh(self) -> list[Sent]:
        wanted = self._dice.randint(1, self._sender.window) - len(self._open)
        fresh: list[Sent] = []
        while len(fresh) < wanted and self._sender.may_send():
            fresh.append(self._sender.feed.next(self._patients))
        return fresh

    def _take(self, decoder: Decoder, data: bytes) -> None:
        """Match answers with what waits for them: they come in order, one for each frame."""
        if not data:
            raise EOFError
        answers = []
        for item in decoder.feed(data):
            if not isinstance(item, Frame):
                self._sender.faults.append(f"{type(item).__name__} came back instead of an answer")
                continue
            code, control_id = read_answer(item.payload)
            if not self._open or self._open[0].control_id != control_id:
                self._sender.faults.append(f"an answer {code} came that does not belong to the oldest open message")
                continue
            if code not in {"AA", "CA"}:
                self._sender.faults.append(f"a good message was answered {code}")
            answers.append((self._open.popleft().control_id, code))
        self._sender.ledger.note_answers(answers)

    async def _expect_silence(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Close our side: nothing may come any more, as everything was answered once."""
        with contextlib.suppress(OSError):
            writer.write_eof()
        with contextlib.suppress(OSError, TimeoutError):
            if await asyncio.wait_for(reader.read(), 5.0):
                self._sender.faults.append("something came after the last answer")


async def send(port: int, ledger: Ledger, *messages: Sent) -> list[str]:
    """Send messages over one connection and return MSA-1 of each answer, in order."""
    ledger.note_sent(messages)
    payloads = await exchange(port, b"".join(frame(one.body) for one in messages), len(messages))
    answers = [read_answer(payload) for payload in payloads]
    assert [control_id for _, control_id in answers] == [one.control_id for one in messages]
    ledger.note_answers([(control_id, code) for code, control_id in answers])
    return [code for code, _ in answers]


async def exchange(
    port: int, data: bytes, answers: int = 0, *, seconds: float = 10.0, end: bool = False
) -> list[bytes]:
    """Write bytes to a connection of their own; return the payloads of the answers.

    Reads until so many came, or (with 0) until the other side closes; ``end`` closes our side after writing.
    """
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    decoder = Decoder(1 << 20)
    payloads: list[bytes] = []
    try:
        async with asyncio.timeout(seconds):
            writer.write(data)
            if end:
                writer.write_eof()
            while not answers or len(payloads) < answers:
                received = await reader.read(_READ)
                if not received:
                    break
                payloads += [item.payload for item in decoder.feed(received) if isinstance(item, Frame)]
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()
    return payloads


def read_answer(payload: bytes) -> tuple[str, str]:
    """Return MSA-1 and MSA-2 of an acknowledgment; empty where there is no MSA."""
    for segment in payload.split(b"\r"):
        if segment.startswith(b"MSA"):
            fields = [*segment.split(segment[3:4]), b"", b""]
            return fields[1].decode("latin-1"), fields[2].decode("latin-1")
    return "", ""
