"""This module lets messages in from a folder of files, wherever it is: each whole file once, its messages in order."""

import asyncio
import contextlib
import time
from collections.abc import Callable, Sequence
from pathlib import PurePosixPath
from typing import Annotated, BinaryIO, ClassVar, Final, Literal, Self, TypeVar

from pydantic import AfterValidator, Field, model_validator

from broker.crash import crash_point
from broker.errors import Away, NotReady
from broker.formats.rows import shown_name
from broker.notices import Bug, FileFailed, ListenerStarted
from broker.parts import Tools
from broker.schedule import ScheduleSpec
from broker.spec import ListenerSpec, Seconds
from broker.threads import NotBegun, Threads
from listeners.file_reading import Ended, FileReading, Means
from listeners.notes import Notes
from listeners.source import Refused, Seen, Source
from listeners.unpacking import UnpackSpec

R = TypeVar("R")

_STOP_WITHIN: Final = 10.0  # seconds for what was handed over before a stop to be committed
_LONGEST_PAUSE: Final = 60.0  # seconds between two looks at a place that gives trouble
_NO_ANSWER: Final = "there is no answer from it within the time allowed"


def _plain(value: str) -> str:
    if "/" in value or value.startswith("."):
        raise ValueError("a pattern is for names of files in the folder, such as *.csv; it has no / and no leading dot")
    return value


Pattern = Annotated[str, Field(min_length=1), AfterValidator(_plain)]


class FolderSpec(ListenerSpec):
    """What every listener of files has in common; ``word`` is the listener's, in channels."""

    word: ClassVar[str]

    folder: str = Field(min_length=1, description="Where files arrive.")
    pattern: Pattern | tuple[Pattern, ...] = Field(
        default="*", description="Which files are read, such as `*.csv`, or a list of patterns; case counts."
    )
    recursive: bool = Field(default=False, description="Whether files in folders below it are read as well.")
    settled: Seconds = Field(default=2.0, description="How long a file must have stayed the same before it is read.")
    age: Seconds = Field(default=0.0, description="How long ago a file must have been written, by its own time.")
    poll: Seconds = Field(default=1.0, ge=0.05, description="How often the folder is looked at.")
    schedule: ScheduleSpec | None = Field(
        default=None,
        description="When it is looked at, such as in working hours only; then every `poll` until no file is left that "
        "must settle first. Without it, every `poll`.",
    )
    after: Literal["move", "delete", "keep"] = Field(
        default="move",
        description="What becomes of a file whose messages are all committed: it goes to `done`, is deleted, or stays.",
    )
    done: str = Field(default="done", min_length=1, description="Where such files go, relative to `folder`.")
    failed: str = Field(default="failed", min_length=1, description="Where files go that could not be read.")
    unpack: UnpackSpec = Field(default=UnpackSpec(), description="What files named `.gz` and `.zip` may hold.")

    @property
    def patterns(self) -> tuple[str, ...]:
        """The patterns, be it one or more."""
        return (self.pattern,) if isinstance(self.pattern, str) else self.pattern

    @model_validator(mode="after")
    def _apart(self) -> Self:
        if not self.patterns:
            raise ValueError("`pattern` is empty, so no file would be read; leave it out to read all")
        for name, value in (("done", self.done), ("failed", self.failed)):
            if self.after != "keep" and PurePosixPath(self.folder) / value == PurePosixPath(self.folder):
                raise ValueError(f"`{name}` is the folder itself, so files would be read again; name one below it")
        return self


class FolderListener:
    """Reads one folder for one channel; see `broker.parts.Listener`. A few files are made ready ahead of their turn."""

    def __init__(self, spec: FolderSpec, tools: Tools, source: Source, notes: Notes, ahead: int) -> None:
        self._spec = spec
        self._tools = tools
        self._source = source
        self._notes = notes
        self._keeps = spec.after == "keep"
        self._word = spec.word
        self._seen: dict[str, tuple[Seen, float]] = {}  # how a file was, and since when (monotonic)
        self._left: dict[str, Seen] = {}  # files that stay where they are, as they were when that was told
        self._task: asyncio.Task[None] | None = None
        self._news = asyncio.Event()  # a stop
        self._slots = asyncio.Semaphore(ahead)
        self._reading = 0
        self._trouble = ""  # with the folder, as it was told last
        self._pause = spec.poll
        self._schedule = spec.schedule.schedule() if spec.schedule is not None else None
        self._is_settling = False  # there are files that had not stayed the same for long enough
        self._is_behind = True  # there may be files that were claimed and have not ended
        self._threads = Threads(f"{self._word} {tools.channel}", 2 * ahead + 2)
        self._means = Means(tools, self._threads, notes, spec.unpack, self._news.is_set)

    @property
    def endpoints(self) -> tuple[str, ...]:
        """The folder; nothing while stopped."""
        return (self._source.where,) if self._task is not None else ()

    @property
    def connections(self) -> int:
        """How many files are under way."""
        return self._reading

    async def start(self) -> None:
        """Take the folder; raise `NotReady` when that is not possible."""
        try:
            await self._threads.run(self._source.open)
            await self._threads.run(self._notes.open)
        except NotReady as error:
            raise NotReady(f"channel {self._tools.channel}: {error}") from None
        self._news.clear()
        self._is_behind = True
        self._task = asyncio.create_task(self._live(), name=f"{self._word} {self._tools.channel}")
        self._tools.notify(ListenerStarted(channel=self._tools.channel, endpoint=self._source.where))

    async def stop(self) -> None:
        """Begin no other file, wait for what was handed over, at most 10 seconds; the rest is read after a start."""
        task, self._task = self._task, None
        if task is None:
            return
        self._news.set()
        with contextlib.suppress(TimeoutError, asyncio.CancelledError):
            await asyncio.wait_for(task, _STOP_WITHIN)
        self._source.close()

    async def _live(self) -> None:
        looked = time.time()
        while await self._is_due(looked):
            looked = time.time()
            try:
                await self._look()
            except Away as error:
                self._complain(str(error))
            except Exception as error:  # noqa: BLE001 - the next look may do better, and a silent end would lose files
                self._complain(f"looking at it failed ({type(error).__name__}), which is a mistake of ours")
                self._tools.notify(Bug(where=f"{self._word} {self._tools.channel}", error=type(error).__name__))
            else:
                self._trouble, self._pause = "", self._spec.poll
            await self._wait(self._pause)

    async def _is_due(self, looked: float) -> bool:
        """Wait until the schedule wants another look, where there is one; return False when a stop came first."""
        while self._schedule is not None and not (self._is_settling or self._trouble or self._news.is_set()):
            now = time.time()
            seconds = self._schedule.wait(min(looked, now), now)  # the clock may have been set back
            if not seconds:
                break
            await self._wait(seconds)
        return not self._news.is_set()

    async def _wait(self, seconds: float) -> None:
        """Wait, but no longer than until a stop."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._news.wait(), seconds)

    def _complain(self, trouble: str) -> None:
        """Tell what is wrong with the place, once, and look at it less often for as long as that lasts."""
        if trouble != self._trouble:
            self._fail("", 0, trouble)
        self._trouble = trouble
        self._pause = min(max(self._pause, self._spec.poll) * 2, max(_LONGEST_PAUSE, self._spec.poll))

    async def _look(self) -> None:
        """Read what was begun, by an earlier run too, and then the files that are whole, the oldest first."""
        if self._is_behind:
            begun = await self._run(self._source.begun)
            self._is_behind = False
            await self._read_all(begun, are_begun=True)
        await self._read_all(await self._due(), are_begun=False)

    async def _due(self) -> list[Seen]:
        """Return the files that have been as they are for long enough, and tell of those that will never be read."""
        waiting = await self._run(self._source.waiting)
        now, clock = time.monotonic(), time.time()
        known = self._seen
        self._seen = {
            seen.name: known[seen.name] if seen.name in known and known[seen.name][0] == seen else (seen, now)
            for seen in waiting
        }
        self._left = {seen.name: seen for seen in waiting if self._left.get(seen.name) == seen}
        if self._keeps:
            await self._threads.run(lambda: self._notes.keep_only(waiting))
        for seen in waiting:
            if seen.wrong and seen.name not in self._left:
                self._leave(seen, seen.wrong)
        new = [seen for seen in waiting if seen.name not in self._left]
        settled = [seen for seen in new if now - self._seen[seen.name][1] >= self._spec.settled]
        self._is_settling = len(settled) < len(new)
        return [
            seen
            for seen in settled
            if clock - seen.modified / 1e9 >= self._spec.age and not (self._keeps and self._notes.was_read(seen))
        ]

    async def _read_all(self, files: Sequence[Seen], *, are_begun: bool) -> None:
        """Read files; some are made ready while others are read, and each is handed over behind the one before it."""
        tasks: list[asyncio.Task[None]] = []
        turn = asyncio.Event()
        turn.set()
        for seen in files:
            await self._slots.acquire()
            if self._news.is_set() or any(task.done() and task.exception() for task in tasks):
                self._slots.release()
                break
            before, turn = turn, asyncio.Event()
            tasks = [task for task in tasks if not task.done() or task.exception()]
            tasks.append(asyncio.create_task(self._go_through(seen, before, turn, is_begun=are_begun)))
        for failure in await asyncio.gather(*tasks, return_exceptions=True):
            if isinstance(failure, BaseException):
                self._is_behind = True
                raise failure

    async def _go_through(self, seen: Seen, before: asyncio.Event, turn: asyncio.Event, *, is_begun: bool) -> None:
        """Read a file; where there is nothing to hand over, too, what comes behind it keeps its place."""
        self._reading += 1
        try:
            try:
                await self._take_in(seen, before, turn, is_begun=is_begun)
            finally:
                await before.wait()
        except Refused as refusal:
            self._leave(seen, str(refusal))
        finally:
            turn.set()
            self._slots.release()
            self._reading -= 1

    async def _take_in(self, seen: Seen, before: asyncio.Event, turn: asyncio.Event, *, is_begun: bool) -> None:
        """Claim a file, read it in its turn, and move it away. Raises `Refused`."""
        opened = await self._run(lambda: self._opened(seen, is_begun=is_begun), seen.size)
        if isinstance(opened, Ended):
            await self._end(seen, opened, 0.0)
        elif opened is not None:
            crash_point("file.fetched")
            began = time.monotonic()
            with opened as file:
                ended = await self._read(FileReading(file, seen.name, self._means), before, turn)
            if not ended.is_stopped:
                crash_point("file.committed")
                await self._end(seen, ended, time.monotonic() - began)

    def _opened(self, seen: Seen, *, is_begun: bool) -> BinaryIO | Ended | None:
        """Claim a file and open it; None when it cannot be read now, and how it ended when it never can."""
        if not is_begun and not self._claimed(seen):
            return None
        try:
            file = self._source.fetch(seen)
        except Refused as refusal:
            if self._keeps:  # it stays anyway, and may be readable at another time
                raise
            return Ended(reason=str(refusal))
        if file is None:
            self._is_behind = self._is_behind or not self._keeps
        return file

    def _claimed(self, seen: Seen) -> bool:
        """Make a file ours, if it is to be; say whether it may be read now."""
        if self._source.is_written(seen):
            return False
        if self._keeps:
            return True
        is_ours = self._source.claim(seen)
        crash_point("file.claimed")
        return is_ours

    async def _read(self, reading: FileReading, before: asyncio.Event, turn: asyncio.Event) -> Ended:
        try:
            try:
                await reading.prepare()
            finally:
                await before.wait()
            await reading.hand_over()
        except OSError as error:
            reading.fail(f"it cannot be read ({(error.strerror or 'it failed').lower()})")
        except Exception as error:  # noqa: BLE001 - a file that we stumble over must not stop those behind it
            self._tools.notify(Bug(where=f"{self._word} {self._tools.channel}", error=type(error).__name__))
            reading.fail("reading it failed, which is a mistake of ours; the log names it")
        finally:
            turn.set()
        return await reading.finish()

    async def _end(self, seen: Seen, ended: Ended, seconds: float) -> None:
        def end() -> None:
            if self._keeps:
                self._notes.note_read(seen)
            else:
                self._source.end(seen, well=not ended.reason)
            self._notes.forget_position(seen.name)

        try:
            await self._run(end)
        except Refused as refusal:
            self._leave(seen, f"{ended.reason or 'it was read'}; {refusal}", ended.messages)
            return
        crash_point("file.moved")
        self._tools.notify(ended.notice(self._tools.channel, shown_name(seen.name), seconds))

    def _leave(self, seen: Seen, reason: str, messages: int = 0) -> None:
        """Leave a file where it is, and tell that once, until it changes."""
        self._left[seen.name] = seen
        self._fail(seen.name, messages, reason)

    def _fail(self, name: str, messages: int, reason: str) -> None:
        self._tools.notify(
            FileFailed(channel=self._tools.channel, file=shown_name(name), messages=messages, reason=reason)
        )

    async def _run(self, work: Callable[[], R], size: int = 0) -> R:
        """Work on the place in a thread; one that does not answer is away."""
        try:
            return await self._threads.run(work, self._source.patience(size))
        except (TimeoutError, NotBegun):
            raise Away(_NO_ANSWER) from None
