"""This module keeps what people said about being sent texts, by their telephone number, and answers who may not be.

A number may belong to several patients, and who answers a text says nothing but STOP: so consent to texts is the
number's, and holds for everybody who is reached there. What a patient allows is another matter: see `permissions`.
"""

import asyncio
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, TypeVar

import orjson

from broker.canonical.model import Event
from broker.delivery import Delivery, Retry
from broker.errors import NotReady, StoreError
from broker.ids import show
from broker.sql import Connection, connect
from dispatch.patients.migrate import migrate
from dispatch.patients.times import moment

T = TypeVar("T")

_HEAD: Final = b'{"consent":'
_SMS: Final = "sms"
# What was said last counts, whatever comes first.
_SAID: Final = (
    "INSERT INTO consent (telecom, medium, purpose, decision, said_at, recorded_at, delivery_id) {v} "
    "ON CONFLICT (telecom, medium, purpose) DO UPDATE SET decision = excluded.decision, said_at = excluded.said_at, "
    "recorded_at = excluded.recorded_at, delivery_id = excluded.delivery_id WHERE excluded.said_at >= consent.said_at",
    "text text text text double double bigint",
)
_WITHDRAWN: Final = (
    "SELECT said_at, delivery_id FROM consent WHERE telecom = ? AND medium = ? AND purpose = '' AND decision = 'deny'"
)


def frame_consent(event: Event) -> bytes | None:
    """Return the request for an event that knows its patient by telephone number alone; None for any other."""
    said, patient = event.consent, event.patient
    if said is None or patient.mrn is not None or not patient.mobile:
        return None
    decision = "deny" if event.kind == "consent.withdrawn" else "permit"
    at = moment(said.given_at or event.occurred_at)
    row = (patient.mobile, said.channel or _SMS, said.purpose or "", decision, at)
    return _HEAD + orjson.dumps(row) + b"}"


def is_consent(request: bytes) -> bool:
    """Say whether a request is one that `frame_consent` made."""
    return request.startswith(_HEAD)


def apply_consents(connection: Connection, deliveries: Iterable[Delivery], now: float) -> None:
    """Write what was said, within the present transaction; the same again changes nothing."""
    rows: dict[tuple[str, ...], tuple[Any, ...]] = {}
    for delivery in deliveries:
        telecom, medium, purpose, decision, at = orjson.loads(delivery.request)["consent"]
        key = (telecom, medium, purpose)
        row = (*key, decision, now if at is None else at, now, delivery.id)
        if key not in rows or rows[key][4] <= row[4]:
            rows[key] = row
    connection.bulk(*_SAID, list(rows.values()))


@dataclass(frozen=True, slots=True)
class Withdrawal:
    """Who reads a number wants no texts: since when (POSIX seconds), and which delivery said so."""

    said_at: float
    delivery: int

    def __str__(self) -> str:
        """Return it as a reason."""
        return f"the recipient opted out of texts at {clock(self.said_at)} (delivery {show(self.delivery)})"


def clock(at: float) -> str:
    """Return POSIX seconds as a time of UTC, for a reason."""
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def withdrawal_of(connection: Connection, number: str) -> Withdrawal | None:
    """Return the withdrawal that holds for a number in E.164, or None."""
    found = connection.rows(_WITHDRAWN, (number, _SMS))
    return Withdrawal(*found[0]) if found else None


class Consents:
    """Answers who may not be sent what, from one patient store; a thread of its own waits for the database."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._connection: Connection | None = None
        self._thread: ThreadPoolExecutor | None = None

    def open(self) -> None:
        """Get ready; nothing is connected yet."""
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="consent")

    async def ask(self, function: Callable[..., T], *args: object) -> T:
        """Return ``function(connection, *args)`` of the store. Raises `StoreError` or `NotReady`."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._look, function, args)

    async def ask_or_wait(self, function: Callable[..., T], *args: object) -> T | Retry:
        """Do the same for a delivery: whom nobody can ask about is sent nothing on the off chance, and tried again."""
        try:
            return await self.ask(function, *args)
        except (StoreError, NotReady) as error:
            return Retry(str(error), is_away=True)
        except Exception as error:  # noqa: BLE001 - whatever it is, nothing was sent
            return Retry(f"patient store: consent cannot be looked up ({type(error).__name__})", is_away=True)

    def _look(self, function: Callable[..., T], args: tuple[object, ...]) -> T:
        if self._connection is None:
            migrate(self._url)
            self._connection = connect(self._url, writer=False)
        try:
            return function(self._connection, *args)
        except BaseException:
            self._drop()
            raise

    def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    async def close(self) -> None:
        """Let go of the store."""
        thread, self._thread = self._thread, None
        if thread is not None:
            await asyncio.get_running_loop().run_in_executor(thread, self._drop)
            thread.shutdown()
