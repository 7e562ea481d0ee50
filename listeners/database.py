"""This module lets messages in from databases of others: each row that a query gives is one, by a schedule.

Nothing there is trusted to be read once only: a row's key makes a repeat a duplicate at the intake, so whatever fails
between the commit here and the note of it is done again.
"""

import re
from collections.abc import Callable, Sequence
from typing import Annotated, Any, ClassVar, Final, Self, TypeVar

from pydantic import AfterValidator, Field, StringConstraints, model_validator

from broker.crash import crash_point
from broker.databases import CONNECT, bound_names, error_kind, open_engine
from broker.errors import Away
from broker.parts import Tools
from broker.schedule import CatchUp, ScheduleSpec
from broker.spec import ListenerSpec, Seconds, Spec
from broker.threads import NotBegun, Threads
from listeners.database_rows import Beyond, Marked, Page, Reading, Row, Unfit
from listeners.polling import Mark, Polling, PollListener, mark_name

R = TypeVar("R")

_NO_KEY: Final = 101  # of HL7 table 0357: a required field is missing
_CONNECTIONS: Final = 2  # the second is for when the first does not answer any more

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
    catch_up: CatchUp = 3600.0

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
        return mark_name(channel, self.database, self.watermark and [self.watermark.column, self.watermark.start])

    def build(self, tools: Tools) -> "DatabaseListener":
        """Build the listener; raise `ConfigError` when the database or its driver is missing."""
        engine = open_engine(tools.settings, self.database, tools.channel, _CONNECTIONS, self.timeout)
        return DatabaseListener(self, tools, engine)


class DatabaseListener(PollListener):
    """Polls one database for one channel; see `broker.parts.Listener`."""

    def __init__(self, spec: DatabaseInSpec, tools: Tools, engine: Any) -> None:
        self._spec = spec
        self._tools = tools
        self._engine = engine
        source = f"database {spec.database}"
        self._polling = Polling(tools, source, spec.schedule.schedule(), spec.catch_up, self._poll)
        self._mark = Mark(tools.marks, spec.mark_name(tools.channel))
        self._reading = spec.reading()
        self._threads = Threads(f"poll {tools.channel}", 2 * _CONNECTIONS)

    async def start(self) -> None:
        """Begin to watch the clock; a database that is away is no reason not to."""
        self._mark.forget()
        self._reading = self._spec.reading()
        self._polling.start()

    async def stop(self) -> None:
        """Read no other page, and wait at most 10 seconds for the one under way; the rest is read after a start."""
        if await self._polling.stop():
            self._engine.dispose()

    async def _poll(self) -> None:
        """Read page after page until nothing is left, or a stop comes."""
        if (noted := await self._mark.recall()) is not None:
            self._reading.resume(noted)
        while await self._polling.wait_for_room():
            page: Page = await self._run(lambda: self._reading.read(self._engine, self._spec.batch))
            if page.rows:
                if not await self._hand_over(page.rows):
                    return
                crash_point("poll.committed")
                await self._settle(page.rows)
                crash_point("poll.settled")
            self._polling.recover()
            if page.is_last:
                return

    async def _settle(self, rows: Sequence[Row]) -> None:
        await self._run(lambda: self._reading.settle(self._engine, rows))
        noted = self._reading.noted()
        if noted is not None:
            await self._mark.keep(noted)

    async def _hand_over(self, rows: Sequence[Row]) -> bool:
        """Return True once all rows are committed or in quarantine; False when a stop came first."""
        for row in rows:
            if row.is_nameless:
                reason = "none of the columns of `key` has a value in this row"
                self._polling.refuse(row.body, reason, "AR", _NO_KEY)
        return await self._polling.hand_over(
            [self._polling.inbound(row.body, row.key) for row in rows if not row.is_nameless]
        )

    async def _run(self, work: Callable[[], R]) -> R:
        """Work on the database in a thread; raise `Away` where that fails."""
        import sqlalchemy as sa  # noqa: PLC0415 - costs 300 ms, which reading a channel file must not

        try:
            # The database's own limit comes first; this one is for a connection that went silent.
            return await self._threads.run(work, self._spec.timeout + CONNECT)
        except (TimeoutError, NotBegun):
            self._engine.dispose(close=False)  # what hangs keeps its connection; others get new ones
            raise Away("there is no answer from it within the time allowed") from None
        except Unfit as error:
            raise Away(str(error)) from None
        except (sa.exc.SQLAlchemyError, OSError) as error:
            raise Away(f"it cannot be read ({error_kind(error)})") from None
