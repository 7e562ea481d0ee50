"""This module owns the one thread and the one connection through which this process writes to a patient store.

All channels that deliver to one store share them: SQLite allows one writer, and only one connection may checkpoint.
"""

import asyncio
import contextlib
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from broker.delivery import Delivery, Outcome, Rejected, Retry, Unknown
from broker.errors import NotReady, StoreError
from broker.sql import Connection, connect
from dispatch.patients.apply import Batch, CommitUnknown
from dispatch.patients.migrate import migrate
from dispatch.patients.said import MISSHAPEN, Misshapen

_DATA_ERRORS: Final = frozenset({"IntegrityError", "DataError"})  # as every Python database driver names them

# Constraints that data can break, in an operator's words, and the place in the event.
TOO_LONG: Final = {
    "patient_mrn_length": ("the medical record number is longer than 256 characters", "patient.mrn"),
    "patient_identifier_length": ("an identifier is longer than 256 characters", "patient.identifiers"),
    "encounter_visit_length": ("the visit number is longer than 256 characters", "encounter.identifier"),
    "patient_source_length": ("the sending application or facility is longer than 256 characters", "source"),
}


class Away(NotReady):
    """PostgreSQL cannot be reached right now."""


_writers: Final[dict[str, "Writer"]] = {}


class Writer:
    """Applies batches to one patient store, one after the other, off the loop."""

    def __init__(self, url: str) -> None:
        self._url = url
        self.users = 1
        self._connection: Connection | None = None
        self._migrated = False
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="patients-writer")

    async def open(self) -> None:
        """Connect and migrate. PostgreSQL may be away, then the first `send` does it; raises `NotReady` otherwise."""
        await asyncio.get_running_loop().run_in_executor(self._thread, self._open)

    async def send(self, channel: str, deliveries: Sequence[Delivery]) -> list[Outcome]:
        """Apply deliveries of a channel; return one outcome each, in the same order."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._thread, self._send, channel, deliveries)

    async def close(self) -> None:
        """Let go of the connection with the last user."""
        self.users -= 1
        if self.users == 0:
            _writers.pop(self._url, None)
            await asyncio.get_running_loop().run_in_executor(self._thread, self._drop)
            self._thread.shutdown(wait=False)

    def _open(self) -> None:
        try:
            self._connected()
        except Away:
            self._drop()

    def _connected(self) -> Connection:
        if not self._migrated:
            _connect(self._url).close()  # tells a database that is away from one that does not fit
            migrate(self._url)
            self._migrated = True
        if self._connection is None:
            self._connection = _connect(self._url)
        return self._connection

    def _drop(self) -> None:
        if self._connection is not None:
            with contextlib.suppress(Exception):  # it may be broken, which is why it is dropped
                self._connection.close()
            self._connection = None

    def _send(self, channel: str, deliveries: Sequence[Delivery]) -> list[Outcome]:
        try:
            return self._attempt(channel, deliveries)
        except CommitUnknown as error:
            self._drop()
            return [Unknown(f"patient store: the commit failed ({error.__cause__})")] * len(deliveries)
        except (StoreError, NotReady) as error:
            self._drop()
            return [Retry(str(error))] * len(deliveries)
        except BaseException:
            self._drop()
            raise

    def _attempt(self, channel: str, deliveries: Sequence[Delivery]) -> list[Outcome]:
        batch = Batch(self._connected(), channel, time.time())
        try:
            return batch.apply(deliveries)
        except Misshapen:
            refused = MISSHAPEN
        except StoreError as error:
            reason = _refused(error)
            if reason is None:
                raise
            refused = reason
        if len(deliveries) == 1:
            return [refused]
        # One delivery spoils the batch: each on its own, so that the others go through.
        return [outcome for delivery in deliveries for outcome in self._send(channel, [delivery])]


def share(url: str) -> Writer:
    """Return the writer of this store, one for all who ask; each of them calls `Writer.close` once."""
    writer = _writers.get(url)
    if writer is None:
        writer = _writers[url] = Writer(url)
    else:
        writer.users += 1
    return writer


def _connect(url: str) -> Connection:
    try:
        return connect(url)
    except NotReady as error:
        if url.startswith("sqlite:"):
            raise
        raise Away(str(error)) from None


def _refused(error: StoreError) -> Rejected | None:
    """Return why the data can never be stored, in words without data; None when the error lies elsewhere."""
    cause = error.__cause__
    if cause is None or _DATA_ERRORS.isdisjoint(kind.__name__ for kind in type(cause).__mro__):
        return None
    name = getattr(getattr(cause, "diag", None), "constraint_name", None) or str(cause).rpartition(": ")[2]
    text, location = TOO_LONG.get(name, (f"a value cannot be stored ({type(cause).__name__})", ""))
    return Rejected(f"patient store: {text}; correct it at the sender or in a step", location=location)
