"""This module lets messages in from databases of others: each row that a query gives is one, by a schedule.

Nothing there is trusted to be read once only: a row's key makes a repeat a duplicate at the intake, so whatever fails
between the commit here and the note of it is done again.
"""

import asyncio
import contextlib
import hashlib
import re
import time
from collections.abc import Callable, Sequence
from typing import Annotated, Any, ClassVar, Final, Self, TypeVar

import orjson
from pydantic import AfterValidator, Field, StringConstraints, model_validator

from broker.crash import crash_point
from broker.databases import CONNECT, bound_names, error_kind, open_engine
from broker.errors import NotAccepted, StoreError
from broker.message import Inbound, Receipt
from broker.notices import Bug, ListenerStarted, MessageRefused
from broker.notices_polls import PollFailed, PollRecovered
from broker.parts import Tools
from broker.retry import RetryPolicy
from broker.schedule import ScheduleSpec
from broker.spec import ListenerSpec, Seconds, Spec
from broker.threads import NotBegun, Threads
from listeners.database_rows import Beyond, Marked, Page, Reading, Row, Unfit

R = TypeVar("R")

_LOOK: Final = 10.0  # seconds: the longest sleep, after which a clock that was set is noticed
_AGAIN: Final = 1.0  # seconds until a row is handed over again that the store could not take
_NO_KEY: Final = 101  # of HL7 table 0357: a required field is missing
_STOP_WITHIN: Final = 10.0  # seconds for the page under way
_CONNECTIONS: Final = 2  # the second is for when the first does not answer any more
_BACKOFF: Final = RetryPolicy(attempts=0, first=2.0, max=60.0)

Column = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,62}$")]


def _select(text: str) -> str:
    text = text.strip().rstrip(";").rstrip()
    if not re.match(r"(select|with)\b", text, re.IGNORECASE):
        raise ValueError("needs one SELECT, or a WITH in front of one")
    if bound := sorted(bound_names("query", text)):
        raise ValueError(f"`query` wants :{bound[0]}, and nothing is bound in it; write \\:{bound[0]} for a colon")
    return text


def _mark(text: str) -> str:
    if not bound_names("mark", text):
        raise ValueError("names no column of the row; say with `:name` which row is meant, such as WHERE id = :id")
    return text


class WatermarkSpec(Spec):
    """A column that only grows: a time of change, a number of a sequence."""

    column: Column = Field(description="The column. Rows without a value in it are never read.")
    start: int | float | str = Field(description="The value from which on rows are read at first.")


class OutboxSpec(Spec):
    """A table whose rows say whether they were taken, or that they are taken out of."""

    mark: Annotated[str, AfterValidator(_mark)] = Field(
        description="One statement that takes a row out of `query` once it is committed here; `:name` is the row's "
        "column of that name."
    )


class DatabaseInSpec(ListenerSpec):
    """Rows that a query of a database gives; each becomes one JSON message."""

    formats: ClassVar[frozenset[str]] = frozenset({"json"})

    database: str = Field(min_length=1, description="Name of the database, as under `databases:` in handoff.yaml.")
    schedule: ScheduleSpec = Field(description="When the database is asked; until nothing is left, each time.")
    query: Annotated[str, AfterValidator(_select)] = Field(
        description="The SELECT whose rows are messages; with `watermark` without an ORDER BY of its own."
    )
    key: Annotated[list[Column], Field(min_length=1)] = Field(
        description="The columns that say which row it is; one that comes again unchanged is taken once."
    )
    watermark: WatermarkSpec | None = Field(default=None, description="Reads what is new by a column that grows.")
    outbox: OutboxSpec | None = Field(
        default=None, description="Instead of `watermark`: marks or deletes each row there once it is committed here."
    )
    batch: int = Field(default=500, ge=1, le=10_000, description="How many rows are read and committed at a time.")
    timeout: Seconds = Field(default=30.0, gt=0, description="How long the database may take for one statement.")
    catch_up: Seconds = Field(
        default=3600.0,
        le=604_800,
        description="How late a due time may be made up for that passed while we were stopped.",
    )

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if (self.watermark is None) == (self.outbox is None):
            raise ValueError("needs exactly one of `watermark` and `outbox`")
        return self

    def reading(self) -> Reading:
        """Return how rows are read."""
        if self.watermark is not None:
            return Beyond(self.query, self.key, self.watermark.column, self.watermark.start)
        return Marked(self.query, self.key, self.outbox.mark if self.outbox is not None else "")

    def mark_name(self, channel: str) -> str:
        """Return what the mark is kept under: another column or start begins another one."""
        what = [self.database, self.watermark and [self.watermark.column, self.watermark.start]]
        return f"{channel} {hashlib.sha256(orjson.dumps(what)).hexdigest()[:16]}"

    def build(self, tools: Tools) -> "DatabaseListener":
        """Build the listener; raise `ConfigError` when the database or its driver is missing."""
        engine = open_engine(tools.settings, self.database, tools.channel, _CONNECTIONS, self.timeout)
        return DatabaseListener(self, tools, engine)


class _Away(Exception):
    """The database cannot be read now; the text says why, without a value."""


class DatabaseListener:
    """Polls one database for one channel; see `broker.parts.Listener`."""

    def __init__(self, spec: DatabaseInSpec, tools: Tools, engine: Any) -> None:
        self._spec = spec
        self._tools = tools
        self._engine = engine
        self._schedule = spec.schedule.schedule()
        self._peer = f"database {spec.database}"
        self._name = spec.mark_name(tools.channel)
        self._reading = spec.reading()
        self._threads = Threads(f"poll {tools.channel}", 2 * _CONNECTIONS)
        self._knows_mark = False
        self._noted: bytes | None = None
        self._failures = 0  # polls in a row
        self._task: asyncio.Task[None] | None = None
        self._stopping = asyncio.Event()

    @property
    def endpoints(self) -> tuple[str, ...]:
        """The database; nothing while stopped."""
        return (self._peer,) if self._task is not None else ()

    @property
    def connections(self) -> int:
        """None: nobody connects to us."""
        return 0

    async def start(self) -> None:
        """Begin to watch the clock; a database that is away is no reason not to."""
        self._stopping.clear()
        # Another engine may have read meanwhile.
        self._knows_mark, self._reading = False, self._spec.reading()
        self._task = asyncio.create_task(self._live(), name=f"poll {self._tools.channel}")
        self._tools.notify(ListenerStarted(channel=self._tools.channel, endpoint=self._peer))

    async def stop(self) -> None:
        """Read no other page, and wait at most 10 seconds for the one under way; the rest is read after a start."""
        task, self._task = self._task, None
        if task is None:
            return
        self._stopping.set()
        with contextlib.suppress(TimeoutError, asyncio.CancelledError):
            await asyncio.wait_for(task, _STOP_WITHIN)
        self._engine.dispose()

    async def _live(self) -> None:
        looked = time.time() - self._spec.catch_up
        while not self._stopping.is_set():
            now = time.time()
            looked = min(looked, now)  # the clock may have been set back
            due = self._schedule.after(looked)
            if due is None or due > now:
                await self._pause(_LOOK if due is None else min(due - now, _LOOK))
            elif await self._attempt():
                looked = now
            else:
                await self._pause(max(_BACKOFF.wait(self._failures), _AGAIN))

    async def _attempt(self) -> bool:
        """Poll; say whether that went well, and tell where that has changed."""
        try:
            await self._poll()
        except (_Away, StoreError) as error:
            self._complain(str(error))
        except Exception as error:  # noqa: BLE001 - the next poll may do better, and a silent end would lose rows
            self._tools.notify(Bug(where=f"poll {self._tools.channel}", error=type(error).__name__))
            self._complain(f"reading it failed ({type(error).__name__}), which is a mistake of ours")
        else:
            return True
        return False

    def _complain(self, reason: str) -> None:
        """Tell once that the database cannot be read, for as long as that lasts."""
        if not self._failures:
            notice = PollFailed(channel=self._tools.channel, database=self._spec.database, reason=reason)
            self._tools.notify(notice)
        self._failures += 1

    def _recover(self) -> None:
        """Tell that the database was read again, if it was told that it could not be."""
        if self._failures:
            self._tools.notify(PollRecovered(channel=self._tools.channel, database=self._spec.database))
        self._failures = 0

    async def _poll(self) -> None:
        """Read page after page until nothing is left, or a stop comes."""
        await self._recall()
        while not self._stopping.is_set():
            if self._tools.pressure.is_high:
                await self._pause(_AGAIN)
                continue
            page: Page = await self._run(lambda: self._reading.read(self._engine, self._spec.batch))
            if page.rows:
                if not await self._hand_over(page.rows):
                    return
                crash_point("poll.committed")
                await self._settle(page.rows)
                crash_point("poll.settled")
            self._recover()
            if page.is_last:
                return

    async def _recall(self) -> None:
        if not self._knows_mark and self._tools.marks is not None:
            self._noted = await self._tools.marks.read(self._name)
            if self._noted is not None:
                self._reading.resume(self._noted)
        self._knows_mark = True

    async def _settle(self, rows: Sequence[Row]) -> None:
        await self._run(lambda: self._reading.settle(self._engine, rows))
        noted = self._reading.noted()
        if noted is not None and noted != self._noted and self._tools.marks is not None:
            await self._tools.marks.write(self._name, noted)
            self._noted = noted

    async def _hand_over(self, rows: Sequence[Row]) -> bool:
        """Return True once all rows are committed or in quarantine; False when a stop came first."""
        left = [row for row in rows if not row.is_nameless]
        for row in rows:
            if row.is_nameless:
                self._refuse(row, "none of the columns of `key` has a value in this row", "AR", _NO_KEY)
        while left:
            del left[: await self._offer(left)]
            if left:
                await self._pause(_AGAIN)
                if self._stopping.is_set():
                    return False
        return True

    async def _offer(self, rows: Sequence[Row]) -> int:
        """Hand rows over in their order; return how many of the first of them are done with."""
        promises: list[asyncio.Future[Receipt]] = []
        for row in rows:
            promises.append(self._tools.intake.accept(self._inbound(row)))
            refusal = promises[-1].exception() if promises[-1].done() else None
            if isinstance(refusal, NotAccepted) and refusal.is_ours:
                break  # those behind it come after it
        answers = await asyncio.gather(*promises, return_exceptions=True)
        for place, (row, told) in enumerate(zip(rows, answers, strict=False)):
            if isinstance(told, NotAccepted):
                if told.is_ours:
                    return place
                self._refuse(row, str(told), told.code, told.condition)
            elif isinstance(told, BaseException):
                raise told
        return len(answers)

    def _inbound(self, row: Row) -> Inbound:
        return Inbound(
            channel=self._tools.channel, body=row.body, peer=self._peer, received_at=time.time(), key=row.key
        )

    def _refuse(self, row: Row, reason: str, code: str, condition: int) -> None:
        """Keep a row that cannot be taken, for an operator to see, so that those behind it are read."""
        tools = self._tools
        tools.intake.quarantine(tools.channel, self._peer, reason, row.body)
        tools.notify(
            MessageRefused(channel=tools.channel, peer=self._peer, code=code, condition=condition, reason=reason)
        )

    async def _run(self, work: Callable[[], R]) -> R:
        """Work on the database in a thread; raise `_Away` where that fails."""
        import sqlalchemy as sa  # noqa: PLC0415 - costs 300 ms, which reading a channel file must not

        try:
            # The database's own limit comes first; this one is for a connection that went silent.
            return await self._threads.run(work, self._spec.timeout + CONNECT)
        except (TimeoutError, NotBegun):
            self._engine.dispose(close=False)  # what hangs keeps its connection; others get new ones
            raise _Away("there is no answer from it within the time allowed") from None
        except Unfit as error:
            raise _Away(str(error)) from None
        except (sa.exc.SQLAlchemyError, OSError) as error:
            raise _Away(f"it cannot be read ({error_kind(error)})") from None

    async def _pause(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._stopping.wait(), seconds)
