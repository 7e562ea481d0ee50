"""This module runs steps in a worker process that can be killed, and finds the one message that made it die.

Messages go over in batches, one frame each way, and the process keeps a note of which message it is at in memory shared
with us. If it dies, or stays at one message past the deadline and is killed, that message is run again alone; if it
kills the process once more it is poison and fails. All others of its batch, before and after it, run as if nothing had
happened, in their order.
"""

import asyncio
import contextlib
import mmap
import os
import struct
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import orjson

from broker.crash import crash_point
from broker.errors import MOST_BREACHES, Breach
from broker.ids import DELIVERIES
from broker.notices import Notice, WorkerDied
from broker.wire import pipe
from broker.wire.ack import TABLE_0357

_AHEAD: Final = 2  # batches sent before the first of them is answered
_PROGRESS: Final = struct.Struct("=II")  # batch, index in the batch
_START: Final = 30.0  # seconds a process may take until it is ready
_LOOK: Final = 0.1  # seconds between looks at the progress
_LAST: Final = 1.0  # seconds that a process may take to end once its pipe has
_STREAM: Final = 1 << 20
_LONGEST: Final = 1000  # characters of a breach


@dataclass(slots=True)
class Item:
    """One message for the steps."""

    id: int
    received_at: float
    body: bytes = field(repr=False)


@dataclass(slots=True)
class Rendered:
    """One delivery as the steps made it: its place, order key, request bytes, and the other record's order key.

    The places of a message's first patient are those of the channel's destinations; those of the next follow.
    """

    place: int
    lane: str
    request: bytes = field(repr=False)
    other_lane: str | None = None


@dataclass(slots=True)
class Processed:
    """What the steps made of one message; ``warned`` is what validation let pass, by code of HL7 table 0357.

    ``breaches`` is what is wrong with it, where that is known more exactly than by location and reason.
    """

    state: str
    step: str | None = None
    location: str | None = None
    reason: str | None = None
    deliveries: tuple[Rendered, ...] = ()
    warned: tuple[tuple[int, int], ...] = ()
    breaches: tuple[Breach, ...] = ()


@dataclass(slots=True)
class _Batch:
    program: str
    items: Sequence[Item]
    future: "asyncio.Future[list[Processed]]"
    results: list[Processed | None]


@dataclass(slots=True)
class _Piece:
    """A run of items of a batch that goes over in one frame."""

    batch: _Batch
    start: int
    stop: int


class WorkerProcess:
    """One worker process and what is given to it; it is started again whenever it dies."""

    def __init__(
        self, command: Sequence[str], environment: dict[str, str], deadline: float, notify: Callable[[Notice], None]
    ) -> None:
        self._command = command
        self._environment = environment
        self._deadline = deadline
        self._notify = notify
        self._programs: dict[str, str] = {}
        self._waiting: deque[_Piece] = deque()
        self._sent: deque[_Piece] = deque()
        self._news = asyncio.Event()
        self._sequence = 0
        self._memory = os.memfd_create("handoff-progress")
        os.ftruncate(self._memory, mmap.PAGESIZE)
        self._progress = mmap.mmap(self._memory, mmap.PAGESIZE)
        self._task: asyncio.Task[None] | None = None
        self._process: asyncio.subprocess.Process | None = None
        self.ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def start(self) -> None:
        """Start the process; `ready` resolves when it can work."""
        self._task = asyncio.create_task(self._live(), name="worker")

    async def stop(self) -> None:
        """End the process; batches that were not answered never are."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
        self._progress.close()
        os.close(self._memory)

    def load(self, program: str, content: str) -> None:
        """Make a channel's revision known under the name ``program``; every process that starts builds it."""
        self._programs[program] = content
        self._send_program(program)

    def run(self, program: str, items: Sequence[Item]) -> "asyncio.Future[list[Processed]]":
        """Run a program over messages, in order, after what was given before; resolves to one result each."""
        future: asyncio.Future[list[Processed]] = asyncio.get_running_loop().create_future()
        batch = _Batch(program, items, future, [None] * len(items))
        self._waiting.append(_Piece(batch, 0, len(items)))
        self._news.set()
        return future

    async def _live(self) -> None:
        while True:
            began = time.monotonic()
            reason = await self._one_life()
            self._notify(WorkerDied(reason=reason, batch=len(self._sent)))
            self._mourn(reason)
            if time.monotonic() - began < 1.0:
                await asyncio.sleep(1.0)

    async def _one_life(self) -> str:
        """Start a process and work with it until it ends; return why it did."""
        self._process = process = await asyncio.create_subprocess_exec(
            *self._command,
            str(self._memory),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            pass_fds=(self._memory,),
            env=self._environment,
            limit=_STREAM,
        )
        killed: list[str] = []
        tasks: list[asyncio.Task[None]] = []
        try:
            for program in self._programs:
                self._send_program(program)
            self._write({"begin": True})
            async with asyncio.timeout(_START):
                await self._answer(process)
            if not self.ready.done():
                self.ready.set_result(None)
            # Only now: the deadline of a step must not run while Python starts.
            tasks = [asyncio.create_task(self._feed(process)), asyncio.create_task(self._watch(process, killed))]
            await self._collect(process)
        except TimeoutError:
            killed.append(f"was not ready within {_START:g} s")
        except (asyncio.IncompleteReadError, ConnectionError):
            await _let_end(process)
        except (ValueError, KeyError, IndexError, TypeError):
            killed.append("answered something that is no answer")
        finally:
            for task in tasks:
                task.cancel()
            if process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    process.kill()
            code = await process.wait()
        return killed[0] if killed else f"ended with {'signal' if code < 0 else 'exit code'} {abs(code)}"

    def _send_program(self, program: str) -> None:
        self._write({"load": program}, self._programs[program].encode())

    def _write(self, header: Any, *parts: bytes) -> None:
        process = self._process
        if process is not None and process.returncode is None and process.stdin is not None:
            process.stdin.write(pipe.pack(header, *parts))

    async def _feed(self, process: asyncio.subprocess.Process) -> None:
        writer = process.stdin
        assert writer is not None  # noqa: S101 - it was asked for
        with contextlib.suppress(ConnectionError):
            while True:
                while self._waiting and len(self._sent) < _AHEAD:
                    piece = self._waiting.popleft()
                    self._sent.append(piece)
                    self._sequence += 1
                    items = piece.batch.items[piece.start : piece.stop]
                    header = {
                        "run": piece.batch.program,
                        "sequence": self._sequence,
                        "items": [(item.received_at, len(item.body)) for item in items],
                    }
                    writer.write(pipe.pack(header, *[item.body for item in items]))
                    crash_point("process.begun")
                self._news.clear()
                await writer.drain()
                await self._news.wait()

    async def _collect(self, process: asyncio.subprocess.Process) -> None:
        while True:
            header, rest = await self._answer(process)
            piece = self._sent[0]
            results = _read_results(header, rest, piece.stop - piece.start)
            crash_point("process.returned")
            self._sent.popleft()
            self._news.set()
            self._fill(piece, results)

    def _fill(self, piece: _Piece, results: list[Processed]) -> None:
        batch = piece.batch
        batch.results[piece.start : piece.stop] = results
        # Pieces end in order, so the batch is whole when its last one is.
        if piece.stop == len(batch.items) and not batch.future.done():
            batch.future.set_result([result for result in batch.results if result is not None])

    async def _answer(self, process: asyncio.subprocess.Process) -> tuple[Any, bytes]:
        reader = process.stdout
        assert reader is not None  # noqa: S101 - it was asked for
        head, rest = pipe.LENGTHS.unpack(await reader.readexactly(pipe.LENGTHS.size))
        data = await reader.readexactly(head + rest)
        return orjson.loads(data[:head]), data[head:]

    async def _watch(self, process: asyncio.subprocess.Process, killed: list[str]) -> None:
        seen, since = self._place(), time.monotonic()
        while True:
            await asyncio.sleep(_LOOK)
            place, now = self._place(), time.monotonic()
            if place != seen or not self._sent:
                seen, since = place, now
                continue
            # A process that has just begun builds the channels before it gets to the first message.
            limit, what = (self._deadline, "a step") if place[0] >= self._first() else (_START, "building the channels")
            if now - since > limit:
                killed.append(f"was killed: {what} took longer than {limit:g} s")
                process.kill()
                return

    def _first(self) -> int:
        """Return the number of the first piece that was sent and is not answered."""
        return self._sequence - len(self._sent) + 1

    def _place(self) -> tuple[int, int]:
        batch, index = _PROGRESS.unpack_from(self._progress)
        return int(batch), int(index)

    def _mourn(self, reason: str) -> None:
        """Put back what the dead process held; the message that it was at goes alone, or fails if it did already."""
        sent, first = list(self._sent), self._first()
        self._sent.clear()
        if sent:
            sequence, index = self._place()
            if sequence == first:  # else the process had not got to it
                sent[:1] = self._split(sent[0], sent[0].start + index, reason)
        self._waiting.extendleft(reversed(sent))
        self._news.set()

    def _split(self, piece: _Piece, culprit: int, reason: str) -> list[_Piece]:
        if piece.stop - piece.start == 1:
            failed = Processed("failed", step="worker", reason=f"the worker process {reason}, twice, at this message")
            self._fill(piece, [failed])
            return []
        culprit = min(culprit, piece.stop - 1)
        cuts = ((piece.start, culprit), (culprit, culprit + 1), (culprit + 1, piece.stop))
        return [_Piece(piece.batch, start, stop) for start, stop in cuts if start < stop]


async def _let_end(process: asyncio.subprocess.Process) -> None:
    """Wait a little for a process that has closed its pipe, so that it says itself how it ended.

    Who kills it just then takes its exit code from asyncio, which says 255 instead (not uvloop).
    """
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_LAST):
            await process.wait()


def _read_results(header: Any, rest: bytes, count: int) -> list[Processed]:
    results, at = [], 0
    for state, step, location, reason, deliveries, *more in header["results"]:
        rendered = []
        for place, lane, size, *other in deliveries:
            if not 0 <= place < DELIVERIES:
                message = "no such place"
                raise ValueError(message)
            rendered.append(Rendered(int(place), str(lane), rest[at : at + size], str(other[0]) if other else None))
            at += size
        if state not in {"processed", "filtered", "failed"}:
            message = "no such state"
            raise ValueError(message)
        results.append(Processed(state, step, location, reason, tuple(rendered), *(_read_more(*more) if more else ())))
    if len(results) != count or at != len(rest):
        message = "as many results as messages"
        raise ValueError(message)
    return results


def _read_more(warned: Any, breaches: Any = ()) -> tuple[tuple[tuple[int, int], ...], tuple[Breach, ...]]:
    """Return the warnings and the breaches of a message.

    Codes are of table 0357 and no others, for each becomes a series of a metric; of breaches there are few, and short.
    """
    pairs = tuple((int(code), int(count)) for code, count in warned)
    told = tuple(Breach(str(location), int(code), str(text)) for location, code, text in breaches)
    codes = [code for code, count in pairs if count > 0]
    if len(codes) < len(pairs) or not TABLE_0357.keys() >= {*codes, *(breach.condition for breach in told)}:
        message = "no such code"
        raise ValueError(message)
    if len(told) > MOST_BREACHES or any(len(each.location) + len(each.text) > _LONGEST for each in told):
        message = "no such number or length of breaches"
        raise ValueError(message)
    return pairs, told
