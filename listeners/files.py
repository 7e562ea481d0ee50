"""This module lets messages in from files in a folder: each whole file once, its messages in order."""

import asyncio
import contextlib
import time
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pydantic import AfterValidator, Field

from broker.errors import NotReady
from broker.formats.rows import shown_name
from broker.notices import Bug, FileFailed, FileRead, ListenerStarted
from broker.parts import Tools
from broker.spec import ListenerSpec, Seconds
from listeners.file_reading import Ended, FileReading
from listeners.inbox import Inbox, Seen

_STOP_WITHIN: Final = 10.0  # seconds for what was handed over before a stop to be committed
_WORKING: Final = ".handoff-{channel}"


def _plain(value: str) -> str:
    if "/" in value or value.startswith("."):
        raise ValueError("a pattern is for names of files in the folder, such as *.csv; it has no / and no leading dot")
    return value


class FilesSpec(ListenerSpec):
    """Files in a local folder; each is read once it is whole, and then moved away."""

    folder: str = Field(min_length=1, description="Where files arrive; relative to the folder of handoff.yaml.")
    pattern: Annotated[str, AfterValidator(_plain)] = Field(
        default="*", min_length=1, description="Which files are read, such as `*.csv`; case counts."
    )
    settled: Seconds = Field(default=2.0, description="How long a file must have stayed the same before it is read.")
    poll: Seconds = Field(default=1.0, ge=0.05, description="How often the folder is looked at.")
    after: Literal["move", "delete", "keep"] = Field(
        default="move",
        description="What becomes of a file whose messages are all committed: it goes to `done`, is deleted, or stays.",
    )
    done: str = Field(default="done", min_length=1, description="Where such files go, relative to `folder`.")
    failed: str = Field(default="failed", min_length=1, description="Where files go that could not be read.")

    def build(self, tools: Tools) -> "FilesListener":
        """Build the listener; it takes the folder when it is started."""
        return FilesListener(self, tools)


class FilesListener:
    """Reads one folder for one channel; see `broker.parts.Listener`."""

    def __init__(self, spec: FilesSpec, tools: Tools) -> None:
        self._spec = spec
        self._tools = tools
        self._inbox = _inbox(spec, tools)
        self._seen: dict[str, tuple[Seen, float]] = {}  # how a file was, and since when (monotonic)
        self._left: dict[str, Seen] = {}  # files that stay where they are, as they were when we were through
        self._task: asyncio.Task[None] | None = None
        self._news = asyncio.Event()  # a stop
        self._reading = False
        self._trouble = ""  # with the folder, as it was told last

    @property
    def endpoints(self) -> tuple[str, ...]:
        """The folder; nothing while stopped."""
        return (str(self._inbox.folder),) if self._task is not None else ()

    @property
    def connections(self) -> int:
        """One while a file is read."""
        return int(self._reading)

    async def start(self) -> None:
        """Take the folder; raise `NotReady` when that is not possible."""
        try:
            await asyncio.get_running_loop().run_in_executor(None, self._inbox.open)
        except NotReady as error:
            raise NotReady(f"channel {self._tools.channel}: {error}") from None
        self._news.clear()
        self._task = asyncio.create_task(self._live(), name=f"files {self._tools.channel}")
        self._tools.notify(ListenerStarted(channel=self._tools.channel, endpoint=str(self._inbox.folder)))

    async def stop(self) -> None:
        """Begin no other file, wait for what was handed over, at most 10 seconds; the rest is read after a start."""
        task, self._task = self._task, None
        if task is None:
            return
        self._news.set()
        with contextlib.suppress(TimeoutError, asyncio.CancelledError):
            await asyncio.wait_for(task, _STOP_WITHIN)
        self._inbox.close()

    async def _live(self) -> None:
        begun = True
        while not self._news.is_set():
            try:
                if begun:
                    await self._go_on()
                    begun = False
                await self._look()
                self._trouble = ""
            except OSError as error:
                self._complain(f"the folder cannot be used ({_why(error)})")
                begun = True
            except Exception as error:  # noqa: BLE001 - the next look may do better, and a silent end would lose files
                self._tools.notify(Bug(where=f"files {self._tools.channel}", error=type(error).__name__))
                begun = True
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._news.wait(), self._spec.poll)

    def _complain(self, trouble: str) -> None:
        if trouble != self._trouble:
            self._fail("", 0, trouble)
        self._trouble = trouble

    async def _go_on(self) -> None:
        """Read what an earlier run began."""
        for path in await self._run(self._inbox.begun):
            if self._news.is_set():
                return
            await self._read(path, None)

    async def _look(self) -> None:
        """Read the files that are whole, the oldest first."""
        waiting = await self._run(self._inbox.waiting)
        now = time.monotonic()
        known = self._seen
        self._seen = {
            seen.name: known[seen.name] if seen.name in known and known[seen.name][0] == seen else (seen, now)
            for seen in waiting
        }
        self._left = {seen.name: seen for seen in waiting if self._left.get(seen.name) == seen}
        for seen in waiting:
            if self._news.is_set():
                return
            if now - self._seen[seen.name][1] >= self._spec.settled and seen.name not in self._left:
                await self._begin(seen)

    async def _begin(self, seen: Seen) -> None:
        if await self._run(partial(self._inbox.is_written, seen.name)):
            return
        if self._spec.after == "keep":
            await self._read(self._inbox.folder / seen.name, seen)
            return
        try:
            path = await self._run(partial(self._inbox.claim, seen))
        except OSError as error:
            self._left[seen.name] = seen  # told once, until the file changes
            self._fail(seen.name, 0, f"it cannot be moved ({_why(error)})")
            return
        if path is not None:
            await self._read(path, None)

    async def _read(self, path: Path, kept: Seen | None) -> None:
        """Read a file to its end, and move it away; one that is kept is noted instead."""
        began = time.monotonic()
        self._reading = True
        try:
            ended = await FileReading(path, self._tools, self._news.is_set).run()
        except OSError as error:
            ended = Ended(reason=f"it cannot be read ({_why(error)})")
        except Exception as error:  # noqa: BLE001 - a file that we stumble over must not stop those behind it
            self._tools.notify(Bug(where=f"files {self._tools.channel}", error=type(error).__name__))
            ended = Ended(reason="reading it failed, which is a mistake of ours; the log names it")
        finally:
            self._reading = False
        if ended.is_stopped:
            return
        if kept is None:
            await self._run(partial(self._inbox.end, path, well=not ended.reason))
        else:
            self._left[kept.name] = kept
        if ended.reason:
            self._fail(path.name, ended.messages, ended.reason)
        else:
            self._tell(path.name, ended, time.monotonic() - began)

    def _tell(self, name: str, ended: Ended, seconds: float) -> None:
        self._tools.notify(
            FileRead(
                channel=self._tools.channel,
                file=shown_name(name),
                messages=ended.messages,
                duplicates=ended.duplicates,
                seconds=seconds,
            )
        )

    def _fail(self, name: str, messages: int, reason: str) -> None:
        self._tools.notify(
            FileFailed(channel=self._tools.channel, file=shown_name(name), messages=messages, reason=reason)
        )

    async def _run(self, work: Any) -> Any:
        return await asyncio.get_running_loop().run_in_executor(None, work)


def _why(error: OSError) -> str:
    return (error.strerror or "it failed").lower()


def _inbox(spec: FilesSpec, tools: Tools) -> Inbox:
    folder = Path(spec.folder)
    if not folder.is_absolute() and tools.settings is not None:
        folder = tools.settings.root / folder
    keeps = spec.after == "keep"
    return Inbox(
        folder,
        spec.pattern,
        working=folder / _WORKING.format(channel=tools.channel),
        done=folder / spec.done if spec.after == "move" else None,
        failed=None if keeps else folder / spec.failed,
    )
