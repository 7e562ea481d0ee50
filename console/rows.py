"""This module reads a flat file (CSV, fixed width, lines of JSON) as a channel does, and says what becomes of each row.

Files are read here, as a listener of the engine reads them; the channel's steps run over their rows in a worker
process, with the limits that they have in the engine. Nothing is rendered, stored or sent.
"""

import asyncio
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final, NamedTuple

import orjson

from broker.canonical.codec import decode
from broker.errors import MessageError, NotReady
from broker.formats.reading import Format, Piece
from broker.notices import Notice, WorkerDied
from broker.processes import Item, Processed, WorkerProcess
from config.build import content_of
from config.channel import ChannelPlan
from config.compiling import check_wanted
from config.settings import Settings
from config.viewing import EVENT, VALUES
from config.workers import make_worker
from console.inspection import STEPS, Asked, Seen, refusal_of, tell_event, told
from listeners.unpacking import UnpackSpec, check_packed, is_packed, split_unpacked

SELF_EVIDENT: Final = frozenset({"hl7", "fhir", "cda"})  # formats of files that say themselves what is in them
_PROGRAM: Final = "rows"  # what the worker process calls the channel
_MOST: Final = 100  # rows that go to the worker process together …
_LARGE: Final = 1024**2  # … or fewer, of so many bytes


class SeenRow(NamedTuple):
    """What a row is to a channel, the file that it is in, and its line; no line for what is wrong with the file."""

    file: str
    line: int | None
    seen: Seen


@contextmanager
def reading(plan: ChannelPlan, settings: Settings, asked: Asked) -> "Iterator[Rows]":
    """Read files for one channel, whose steps run in a worker process as long as this lasts.

    Raises `ExpressionError` for a mistake in what is asked, and `NotReady` where the process cannot build the channel.
    """
    check_wanted(plan, settings.channels, asked.at)
    with asyncio.Runner() as runner:
        worker = runner.run(_started(settings, content_of(plan, settings.channels, asked.at)))
        try:
            yield Rows(plan, asked, runner, worker)
        finally:
            runner.run(worker.stop())


async def _started(settings: Settings, content: str) -> WorkerProcess:
    died: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    def notify(notice: Notice) -> None:
        if isinstance(notice, WorkerDied) and not died.done():
            died.set_result(notice.reason)

    worker = make_worker(settings, notify)
    worker.load(_PROGRAM, content)
    worker.start()
    either: tuple[asyncio.Future[Any], ...] = (worker.ready, died)
    await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
    if not worker.ready.done():
        await worker.stop()
        text = f"the worker process {died.result()} while it built the channel; look at what its scripts do when loaded"
        raise NotReady(text)
    return worker


class Rows:
    """Reads files for one channel."""

    def __init__(self, plan: ChannelPlan, asked: Asked, runner: asyncio.Runner, worker: WorkerProcess) -> None:
        self._form: Format = plan.format.spec.build(plan.listen.charset)
        self._limits = getattr(plan.listen.spec, "unpack", None) or UnpackSpec()
        self._asked = asked
        self._runner = runner
        self._worker = worker

    def read(self, path: Path) -> Iterator[SeenRow]:
        """Yield every row of a file, in order; raise `OSError` where it cannot be opened."""
        called = path.name
        with path.open("rb") as file:
            try:
                if is_packed(path.name):
                    check_packed(file, path.name, path.stat().st_size, self._limits)
                for batch in _batches(split_unpacked(file, path.name, self._form.split)):
                    for (called, piece), seen in zip(batch, self._seen([piece for _, piece in batch]), strict=True):
                        yield SeenRow(_below(path, called), piece.line, seen)
            except MessageError as error:
                yield SeenRow(_below(path, called), None, refusal_of(self._form.kind, error))

    def _seen(self, pieces: Sequence[Piece]) -> Iterator[Seen]:
        now = time.time()
        ended = iter(self._run([Item(piece.line, now, piece.body) for piece in pieces if not piece.reason]))
        for piece in pieces:
            if piece.reason:
                yield refusal_of(self._form.kind, MessageError(piece.reason, location=f"line {piece.line}"))
            else:
                yield self._row(piece, next(ended))

    def _run(self, items: Sequence[Item]) -> list[Processed]:
        async def ended() -> list[Processed]:
            return await self._worker.run(_PROGRAM, items)

        return self._runner.run(ended()) if items else []

    def _row(self, piece: Piece, ended: Processed) -> Seen:
        seen = Seen(kind=self._form.kind)
        if ended.state == "failed":
            seen.acknowledgment, seen.at = "AE", STEPS
            place = ended.location or f"line {piece.line}"
            seen.errors.append(told(place, 0, "error", f"{ended.step}: {ended.reason}"))
        elif ended.state == "filtered":
            text = f"filtered by {ended.step}: {ended.reason}"
            seen.errors.append(told(f"line {piece.line}", 0, "information", text))
        parts = {rendered.place: rendered.request for rendered in ended.deliveries}
        seen.values = dict.fromkeys(self._asked.at) | orjson.loads(parts.get(VALUES, b"{}"))
        with suppress(MessageError):  # which the steps were told, too
            seen.source = self._form.document(piece.body, 0.0).message
        if EVENT in parts:
            tell_event(seen, lambda: decode(parts[EVENT]), self._asked)
        return seen


def _batches(pieces: Iterator[tuple[str, Piece]]) -> Iterator[list[tuple[str, Piece]]]:
    """Give pieces together; those before an error come before it."""
    batch: list[tuple[str, Piece]] = []
    size = 0
    try:
        for called, piece in pieces:
            batch.append((called, piece))
            size += len(piece.body)
            if len(batch) == _MOST or size >= _LARGE:
                yield batch
                batch, size = [], 0
    except MessageError:
        yield batch
        raise
    yield batch


def _below(path: Path, called: str) -> str:
    """Return a file as it was named, with the entry where it is an archive."""
    entry = called.partition(f"{path.name}/")[2]
    return f"{path}/{entry}" if entry else str(path)
