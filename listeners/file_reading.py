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
from pathlib import Path
from typing import BinaryIO, Final

from broker.errors import MessageError, NotAccepted
from broker.formats.reading import Piece
from broker.formats.rows import shown_name
from broker.message import Inbound, Receipt
from broker.notices import MessageRefused
from broker.parts import Tools

_AT_ONCE: Final = 256  # messages that are taken from the file in one go
_BYTES_AT_ONCE: Final = 1 << 20
_OPEN: Final = 1024  # messages that wait for their commit
_AGAIN: Final = 1.0  # seconds until a message is handed over again that the store could not take
_SHOWN: Final = 65_536  # bytes of a file that cannot be read which are kept for an operator
_KEPT: Final = 100  # messages of one file that are kept in quarantine; the file itself is kept as well


@dataclass(slots=True)
class Ended:
    """How the reading of a file ended; with a ``reason`` not well, and when stopped it goes on at the next start."""

    messages: int = 0
    duplicates: int = 0
    refused: int = 0
    reason: str = ""
    is_stopped: bool = False


@dataclass(slots=True)
class _Batch:
    """Pieces of a file; ``reason`` says why no more come, though there should be."""

    pieces: list[Piece] = field(default_factory=list)
    is_last: bool = False
    reason: str = ""


class FileReading:
    """Reads one file. What was committed before, by an earlier run too, is found to be a duplicate by the intake."""

    def __init__(self, path: Path, tools: Tools, is_stopping: Callable[[], bool]) -> None:
        self._path = path
        self._name = shown_name(path.name)
        self._tools = tools
        self._is_stopping = is_stopping
        self._open: deque[tuple[Inbound, Future[Receipt]]] = deque()
        self._ended = Ended()
        self._key = b""
        self._numbers = itertools.count()

    async def run(self) -> Ended:
        """Hand over everything, and return once all of it is committed; raises `OSError` where it cannot be read."""
        loop = asyncio.get_running_loop()
        file = await loop.run_in_executor(None, self._path.open, "rb")
        try:
            before = await loop.run_in_executor(None, self._identify, file)
            await self._hand_over(file)
            if not self._ended.is_stopped and _state(file) != before:
                self._ended.reason = self._ended.reason or "the file was changed while it was read"
        finally:
            file.close()
        return self._ended

    def _identify(self, file: BinaryIO) -> tuple[int, int]:
        """Work out by what the messages of this file are known again: its name and all that is in it."""
        state = _state(file)
        digest = hashlib.sha256(self._path.name.encode("utf-8", "surrogateescape") + b"\0")
        while chunk := file.read(1 << 20):
            digest.update(chunk)
        self._key = digest.digest()
        file.seek(0)
        return state

    async def _hand_over(self, file: BinaryIO) -> None:
        loop = asyncio.get_running_loop()
        pieces = self._tools.format.split(file, self._path.name)
        batch = _Batch()
        while not batch.is_last:
            if self._is_stopping():
                self._ended.is_stopped = True
                break
            batch = await loop.run_in_executor(None, _take, pieces)
            for piece in batch.pieces:
                self._put(piece)
            await self._settle(_OPEN)
        await self._settle(0)
        if batch.reason:
            self._fail(batch.reason, await loop.run_in_executor(None, self._beginning))
        elif self._ended.refused:
            self._ended.reason = f"{self._ended.refused} of its messages could not be taken; they are in quarantine"

    def _beginning(self) -> bytes:
        with self._path.open("rb") as file:
            return file.read(_SHOWN)

    def _put(self, piece: Piece) -> None:
        peer = f"{self._name}:{piece.line}"
        key = self._key + next(self._numbers).to_bytes(8)
        if piece.reason:
            self._refuse(peer, f"line {piece.line}: {piece.reason}", piece.body, 207)
            return
        inbound = Inbound(channel=self._tools.channel, body=piece.body, peer=peer, received_at=time.time(), key=key)
        self._open.append((inbound, self._tools.intake.accept(inbound)))

    async def _settle(self, most: int) -> None:
        """Wait until at most so many messages wait for their commit."""
        while len(self._open) > most:
            inbound, promise = self._open.popleft()
            try:
                receipt = await promise
            except NotAccepted as refusal:
                if refusal.is_ours and not await self._again(inbound):
                    return
                if not refusal.is_ours:
                    self._refuse(inbound.peer, str(refusal), inbound.body, refusal.condition)
            else:
                self._count(receipt)

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
        await asyncio.gather(*(promise for _, promise in self._open), return_exceptions=True)
        self._open.clear()
        return False

    def _count(self, receipt: Receipt) -> None:
        self._ended.messages += 1
        self._ended.duplicates += receipt.duplicate

    def _refuse(self, peer: str, reason: str, body: bytes, condition: int) -> None:
        self._ended.refused += 1
        if self._ended.refused <= _KEPT:
            channel = self._tools.channel
            self._tools.notify(
                MessageRefused(channel=channel, peer=peer, code="AR", condition=condition, reason=reason)
            )
            self._tools.intake.quarantine(channel, peer, reason, body)

    def _fail(self, reason: str, beginning: bytes) -> None:
        self._ended.reason = reason
        self._tools.intake.quarantine(self._tools.channel, self._name, reason, beginning)


def _state(file: BinaryIO) -> tuple[int, int]:
    found = os.fstat(file.fileno())
    return found.st_size, found.st_mtime_ns


def _take(pieces: Iterator[Piece]) -> _Batch:
    """Take the next pieces of a file; what stops it from being read is told with those that came before."""
    batch, size = _Batch(), 0
    try:
        while len(batch.pieces) < _AT_ONCE and size < _BYTES_AT_ONCE:
            piece = next(pieces, None)
            if piece is None:
                batch.is_last = True
                break
            batch.pieces.append(piece)
            size += len(piece.body)
    except MessageError as error:
        batch.is_last, batch.reason = True, str(error)
    except UnicodeError:
        batch.is_last, batch.reason = True, "from here on it is not in the declared encoding; declare `encoding`"
    return batch
