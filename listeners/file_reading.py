"""This module hands the messages of one file to the intake, in order, and says how that ended."""

import asyncio
import hashlib
import itertools
import os
import time
from asyncio import Future
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import BinaryIO, Final, NamedTuple

from broker.crash import crash_point
from broker.errors import MessageError, NotAccepted
from broker.formats.reading import Piece
from broker.formats.rows import shown_name
from broker.message import Inbound, Receipt
from broker.notices import FileFailed, FileRead, MessageRefused
from broker.parts import Tools
from broker.threads import Threads
from listeners.notes import Notes, Position
from listeners.unpacking import UnpackSpec, check_packed, is_packed, split_unpacked

_AT_ONCE: Final = 256  # messages that are taken from the file in one go
_BYTES_AT_ONCE: Final = 1 << 20
_OPEN: Final = 1024  # messages that wait for their commit
_AGAIN: Final = 1.0  # seconds until a message is handed over again that the store could not take
_SHOWN: Final = 65_536  # bytes of a file that cannot be read which are kept for an operator
_KEPT: Final = 100  # messages of one file that are kept in quarantine; the file itself is kept as well
_NOTED: Final = 5000  # messages after which it is noted how far a file was read
_SKIPPED: Final = 50_000  # messages that are skipped in one go, until a stop is noticed


@dataclass(slots=True)
class Ended:
    """How the reading of a file ended; with a ``reason`` not well, and when stopped it goes on at the next start."""

    messages: int = 0
    duplicates: int = 0
    refused: int = 0
    reason: str = ""
    is_stopped: bool = False

    def notice(self, channel: str, file: str, seconds: float) -> FileFailed | FileRead:
        """Return what is told of it; ``file`` as it may be shown."""
        if self.reason:
            return FileFailed(channel=channel, file=file, messages=self.messages, reason=self.reason)
        return FileRead(channel=channel, file=file, messages=self.messages, duplicates=self.duplicates, seconds=seconds)


_Labelled = tuple[str, Piece]  # what its file is called, and a message of it


@dataclass(slots=True)
class _Batch:
    """Pieces of a file; ``reason`` says why no more come, though there should be."""

    pieces: list[_Labelled] = field(default_factory=list)
    is_last: bool = False
    reason: str = ""


class _Handed(NamedTuple):
    """What was handed over and waits for its commit; without a promise it is no message."""

    inbound: Inbound
    promise: "Future[Receipt] | None"
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Means:
    """What the reading of every file of a channel is done with."""

    tools: Tools
    threads: Threads
    notes: Notes
    limits: UnpackSpec
    is_stopping: Callable[[], bool]


class FileReading:
    """Reads one file: `prepare`, then `hand_over`, then `finish`, which has the messages of others come in between.

    What was committed by an earlier run is skipped as far as that was noted; from there on the intake knows it again.
    """

    def __init__(self, file: BinaryIO, name: str, means: Means) -> None:
        self._file = file
        self._name = name
        self._shown = shown_name(name)
        self._means = means
        self._tools = means.tools
        self._open: deque[_Handed] = deque()
        self._ended = Ended()
        self._digest = b""
        self._state = (0, 0)
        self._number = 0  # of the next piece
        self._settled = 0  # pieces of which it is known what became of them
        self._sure = (0, 0)  # as far as the store can confirm: pieces, and those of them that were refused
        self._noted = 0
        self._reason = ""  # why no more messages come
        self._before: Position | None = None  # as far as an earlier run was
        self._pieces: Iterator[_Labelled] = iter(())
        self._first = _Batch()

    async def prepare(self) -> None:
        """Look through the whole file once, before anything of it is used; raise `OSError` where it cannot be read."""
        await self._means.threads.run(self._look_through)

    def _look_through(self) -> None:
        """Identify the file, and take the first of it: most files have no more, and one trip to a thread is enough."""
        self._identify()
        noted = self._means.notes.position(self._name)
        if noted is not None and noted.digest == self._digest.hex() and noted.pieces >= 1:
            self._before = noted
        elif not self._reason:
            self._pieces = self._split()
            self._first = _take(self._pieces)

    def _identify(self) -> None:
        """Work out by what the messages of this file are known again: its name and all that is in it."""
        self._state = _state(self._file)
        digest = hashlib.sha256(self._name.encode("utf-8", "surrogateescape") + b"\0")
        while chunk := self._file.read(1 << 20):
            digest.update(chunk)
        self._digest = digest.digest()
        self._file.seek(0)
        if is_packed(self._name):
            try:
                check_packed(self._file, self._name, self._state[0], self._means.limits)
            except MessageError as error:
                self._reason = str(error)

    async def hand_over(self) -> None:
        """Hand over everything; at most `_OPEN` of it waits for its commit when this returns."""
        if not self._reason and not self._is_stopping():
            batch = self._first if self._before is None else await self._go_on(self._before)
            while not self._is_stopping():
                following = None if batch.is_last else self._take()  # while this one is committed
                for called, piece in batch.pieces:
                    self._put(called, piece)
                await self._settle(_OPEN)
                if following is None:
                    self._reason = batch.reason
                    return
                batch = await following  # a stop as well has it wait: the thread still uses the file
        self._ended.is_stopped = self._is_stopping()

    def _is_stopping(self) -> bool:
        return self._ended.is_stopped or self._means.is_stopping()

    async def finish(self) -> Ended:
        """Return how it ended, once all that was handed over is committed."""
        await self._settle(0)
        ended = self._ended
        if ended.is_stopped:
            await self._note()
            return ended
        if self._reason:
            beginning = await self._means.threads.run(self._beginning)
            self._tools.intake.quarantine(self._tools.channel, self._shown, self._reason, beginning)
            ended.reason = self._reason
        elif _state(self._file) != self._state:
            ended.reason = "the file was changed while it was read"
        elif ended.refused:
            ended.reason = f"{ended.refused} of its messages could not be taken; they are in quarantine"
        return ended

    def _beginning(self) -> bytes:
        self._file.seek(0)
        return self._file.read(_SHOWN)

    def _split(self) -> Iterator[_Labelled]:
        self._file.seek(0)
        return split_unpacked(self._file, self._name, self._tools.format.split)

    async def _go_on(self, before: Position) -> _Batch:
        """Return the first pieces after those of an earlier run, which the store must confirm, or of all the file."""
        self._pieces = self._split()
        skipped = 0
        while skipped < before.pieces - 1 and not self._is_stopping():
            step = min(_SKIPPED, before.pieces - 1 - skipped)
            skipped += await self._means.threads.run(lambda step=step: _skip(self._pieces, step))  # type: ignore[misc]
        self._number = self._settled = self._noted = skipped
        self._ended = Ended(messages=skipped - before.refused, refused=before.refused)
        if self._is_stopping():
            return _Batch()
        for called, piece in (await self._take(1)).pieces:
            self._put(called, piece)
        await self._settle(0)
        if self._ended.duplicates != 1:
            # The store does not know it: it is another, or an older one. What it just got is a duplicate later.
            self._number = self._settled = self._noted = 0
            self._ended = Ended(is_stopped=self._ended.is_stopped)
            self._pieces = self._split()
        return await self._take()

    def _take(self, most: int = _AT_ONCE) -> "asyncio.Task[_Batch]":
        return asyncio.create_task(self._means.threads.run(lambda: _take(self._pieces, most)))

    def _put(self, called: str, piece: Piece) -> None:
        number = self._number
        self._number = number + 1
        inbound = Inbound(
            channel=self._tools.channel,
            body=piece.body,
            peer=f"{called}:{piece.line}",
            received_at=time.time(),
            key=self._digest + number.to_bytes(8),
        )
        if piece.reason:
            self._open.append(_Handed(inbound, None, f"line {piece.line}: {piece.reason}"))
        else:
            self._open.append(_Handed(inbound, self._tools.intake.accept(inbound)))

    async def _settle(self, most: int) -> None:
        """Wait until at most so many messages wait for their commit."""
        while len(self._open) > most:
            handed = self._open.popleft()
            taken = await self._outcome(handed)
            if taken is None:
                return
            self._settled += 1
            if taken:
                self._sure = (self._settled, self._ended.refused)
        if self._settled - self._noted >= _NOTED:
            await self._note()

    async def _outcome(self, handed: _Handed) -> bool | None:
        """Return whether a message was committed; None when a stop came first."""
        if handed.promise is None:
            self._refuse(handed.inbound, handed.reason, 207)
            return False
        try:
            self._count(await handed.promise)
        except NotAccepted as refusal:
            if refusal.is_ours:
                return await self._again(handed.inbound) or None
            self._refuse(handed.inbound, str(refusal), refusal.condition)
            return False
        return True

    async def _note(self) -> None:
        """Note how far everything is committed."""
        pieces, refused = self._sure
        if pieces > self._noted:
            self._noted = pieces
            position = Position(self._digest.hex(), pieces, refused)
            await self._means.threads.run(lambda: self._means.notes.note_position(self._name, position))
            crash_point("file.noted")

    def fail(self, reason: str) -> None:
        """Have it end with a reason: it cannot be read any further."""
        self._reason = reason

    async def _again(self, inbound: Inbound) -> bool:
        """Hand a message over until the store takes it; return False when a stop came first."""
        while not self._is_stopping():
            await asyncio.sleep(_AGAIN)
            try:
                self._count(await self._tools.intake.accept(inbound))
            except NotAccepted:
                continue
            return True
        self._ended.is_stopped = True
        promises = [handed.promise for handed in self._open if handed.promise is not None]
        await asyncio.gather(*promises, return_exceptions=True)
        self._open.clear()
        return False

    def _count(self, receipt: Receipt) -> None:
        self._ended.messages += 1
        self._ended.duplicates += receipt.duplicate

    def _refuse(self, inbound: Inbound, reason: str, condition: int) -> None:
        self._ended.refused += 1
        if self._ended.refused <= _KEPT:
            channel, peer = self._tools.channel, inbound.peer
            self._tools.notify(
                MessageRefused(channel=channel, peer=peer, code="AR", condition=condition, reason=reason)
            )
            self._tools.intake.quarantine(channel, peer, reason, inbound.body)


def _state(file: BinaryIO) -> tuple[int, int]:
    found = os.fstat(file.fileno())
    return found.st_size, found.st_mtime_ns


def _skip(pieces: Iterator[_Labelled], count: int) -> int:
    deque(itertools.islice(pieces, count), maxlen=0)
    return count


def _take(pieces: Iterator[_Labelled], most: int = _AT_ONCE) -> _Batch:
    """Take the next pieces of a file; what stops it from being read is told with those that came before."""
    batch, size = _Batch(), 0
    try:
        while len(batch.pieces) < most and size < _BYTES_AT_ONCE:
            piece = next(pieces, None)
            if piece is None:
                batch.is_last = True
                break
            batch.pieces.append(piece)
            size += len(piece[1].body)
    except MessageError as error:
        batch.is_last, batch.reason = True, str(error)
    return batch
