"""This module runs deliveries in somebody's database, from threads of its own, and says what an error means.

Before COMMIT is sent nothing has taken effect, so whatever fails may be tried again. A connection that is lost after it
was sent leaves the outcome unknown. What the database says of values stays out of reasons: it repeats them.
"""

import os
import socket
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final

import orjson

from broker.databases import CONNECT, error_kind
from broker.delivery import Delivered, Delivery, Outcome, Rejected, Retry, Unknown, Via
from broker.threads import NotBegun, Threads
from dispatch.database_rows import Plan, Unfit, Unprepared
from dispatch.way import address_of

_DATA: Final = ("22", "23", "P0", "44")  # classes of SQLSTATE: data, integrity, raised by a procedure, view's check
_AWAY: Final = ("08", "57")  # the connection, the server
_NOT_BEGUN: Final = ("42883", "42501", "3F000")  # there is no such procedure, or we may not call it
# What MySQL and MariaDB tell apart by number only: no such procedure, no right to call it, a procedure's own SIGNAL.
_STATES: Final = {1305: "42883", 1370: "42501", 1644: "P0001"}
_BUSY: Final = ("SQLITE_BUSY", "SQLITE_LOCKED", "SQLITE_FULL")  # SQLite has not committed then


class Database:
    """The sending half; see `broker.parts.Destination`."""

    def __init__(self, peer: str, engine: Any, plan: Plan, connections: int, timeout: float) -> None:
        self._peer = peer
        self._engine = engine
        self._plan = plan
        self._connections = connections
        self._timeout = timeout
        self._threads: Threads | None = None

    async def open(self) -> None:
        """Get ready; nothing is connected yet."""
        self._threads = Threads("database", self._connections)

    async def close(self) -> None:
        """Let go of connections."""
        self._threads = None
        self._engine.dispose()

    async def send(self, deliveries: Sequence[Delivery]) -> Sequence[Outcome]:
        """Do one delivery after the other, each in a transaction of its own."""
        return [await self._send(delivery) for delivery in deliveries]

    async def _send(self, delivery: Delivery) -> Outcome:
        if self._threads is None:
            message = f"{self._peer}: used before open() or after close()"
            raise RuntimeError(message)
        try:
            # The database's own limit comes first, and says for sure; this one is for a connection that went silent.
            return await self._threads.run(lambda: self._apply(delivery), self._timeout + CONNECT)
        except NotBegun:
            return Retry(f"{self._peer}: other deliveries took all the time allowed, and this one was not begun")
        except TimeoutError:
            return Unknown(f"{self._peer}: no answer within the time allowed")

    def _apply(self, delivery: Delivery) -> Outcome:
        import sqlalchemy as sa  # noqa: PLC0415 - as above

        values: dict[str, Any] = orjson.loads(delivery.request)
        try:
            connection = self._engine.connect()
        except (sa.exc.SQLAlchemyError, OSError) as error:
            return Retry(f"{self._peer}: no connection ({error_kind(error)})", is_away=True)
        with connection:
            via = _via(connection)
            return replace(self._in_transaction(connection, values, delivery.key), via=via)

    def _in_transaction(self, connection: Any, values: dict[str, Any], key: str) -> Outcome:
        import sqlalchemy as sa  # noqa: PLC0415 - as above

        committing = False
        try:
            transaction = connection.begin()
            try:
                rows = self._plan.run(connection, values, key)
                committing = True
                transaction.commit()
            finally:
                if transaction.is_active:
                    transaction.rollback()
        except Unfit as error:
            return Rejected(f"{self._peer}: {error}", location=error.column)
        except Unprepared as error:
            return Retry(f"{self._peer}: {error}")
        except sa.exc.SQLAlchemyError as error:
            return judged(error, self._peer, committing=committing, commits=self._plan.commits)
        return Delivered(reference="called" if rows < 0 else f"{rows} rows")


def _via(connection: Any) -> Via | None:
    """Return whom a connection reaches: by its socket where the driver shows it, else as the URL says."""
    url, driver = connection.engine.url, connection.connection.driver_connection
    try:
        with socket.socket(fileno=os.dup(driver.fileno())) as same:
            address = address_of(same.getpeername())
    except (AttributeError, OSError):
        address = f"{url.host}:{url.port}" if url.host and url.port else ""
    return Via(address) if address else None


def judged(error: Exception, peer: str, *, committing: bool, commits: bool) -> Outcome:
    """Say what an error means; ``committing`` says that COMMIT was sent, ``commits`` that a procedure may have done so.

    A database that names an error (SQLSTATE) while it commits has undone the work, unless it went away.
    """
    import sqlalchemy as sa  # noqa: PLC0415 - as above

    original = getattr(error, "orig", None)
    state = _STATES.get(_number(original)) or str(getattr(original, "sqlstate", None) or "")
    reason = f"{peer}: {error_kind(error)}"
    if state[:2] in _DATA or isinstance(error, sa.exc.IntegrityError | sa.exc.DataError):
        return Rejected(f"{reason}: the database does not take these values", location=_place(original))
    busy = str(getattr(original, "sqlite_errorname", "")).startswith(_BUSY)
    lost = committing and not busy and (not state or state[:2] in _AWAY)
    if lost or (commits and state not in _NOT_BEGUN):
        return Unknown(f"{reason}, and the work may have been committed before")
    return Retry(reason)


def _number(original: Any) -> int:
    """Return the number that MySQL and MariaDB give an error, 0 where there is none."""
    first = next(iter(getattr(original, "args", ())), 0)
    return first if isinstance(first, int) else 0


def _place(original: Any) -> str:
    """Return the column or constraint that the database names, if it does so."""
    diagnostic = getattr(original, "diag", None)
    return str(getattr(diagnostic, "column_name", None) or getattr(diagnostic, "constraint_name", None) or "")
