"""This module holds every read that an operator's question needs; nothing here changes a row or returns a body.

Functions take a reading `Connection` and a `Reading` (which finds and shows control ids) and return frozen records.
Their field names are the keys of the API's JSON and do not change: ``id`` and ``*_id`` are ids of ours, ``*_at`` is in
POSIX seconds.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from operator import itemgetter
from typing import Any, Final, Protocol

from broker import states
from broker.delivery import Via
from broker.errors import MessageError
from broker.formats.rows import place_of
from broker.ids import DELIVERIES, EPOCH_MS, message_of, time_of
from broker.keys import find
from broker.passing import origin_of, passed_by
from broker.queries_passing import became
from broker.queries_reports import ReportRow, references, reports
from broker.sql import Connection, Row
from broker.wire.header import read_header

_MILLISECOND: Final = 1 << 22  # of ids, see `broker.ids`
_CLOCK_SLACK: Final = 60.0  # seconds by which an id's time may differ from the time of receipt
LAST: Final = (1 << 63) - 1  # no id is larger
MOST: Final = 1000  # rows that one list returns
_MOST_FOUND: Final = 10_000  # messages that one index value finds


class Reading(Protocol):
    """The half of `broker.seal.Sealer` that reads."""

    def open(self, table: str, row: int, data: bytes) -> bytes:
        """Return what was sealed."""

    def search_hash(self, channel: str, name: str, value: str) -> int:
        """Return the keyed hash of an index value."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Filter:
    """What a list of messages is narrowed to; ``None`` and ``()`` do not narrow.

    ``state`` is a state of a message, or of a delivery: then messages are meant that have such a delivery. ``index``
    holds pairs of an index name and its exact value. ``since`` is in POSIX seconds; ``before`` an id, for paging.
    """

    channel: str | None = None
    state: str | None = None
    control_id: str | None = None
    index: tuple[tuple[str, str], ...] = ()
    since: float | None = None
    before: int | None = None
    limit: int = 50


@dataclass(frozen=True, slots=True)
class Brief:
    """One delivery of a message in a list."""

    id: int
    destination: str
    state: str


@dataclass(frozen=True, slots=True)
class MessageRow:
    """One message; ``step``, ``location`` and ``reason`` say where and why it was filtered or failed."""

    id: int
    channel: str
    type: str
    control_id: str
    state: str
    received_at: float
    processed_at: float | None
    peer: str
    revision: str | None
    step: str | None
    location: str | None
    reason: str | None
    deliveries: tuple[Brief, ...] = ()


@dataclass(frozen=True, slots=True)
class AttemptRow:
    """One attempt of a delivery, and whom it reached."""

    number: int
    started_at: float
    ended_at: float
    outcome: str
    reason: str | None
    via: Via | None = None


@dataclass(frozen=True, slots=True)
class DeliveryRow:
    """One delivery of a journey; ``after`` names the destination that it waits for."""

    id: int
    destination: str
    state: str
    after: str | None
    due_at: float | None
    first_at: float | None
    sent_at: float | None
    done_at: float | None
    class_: str | None
    reason: str | None
    location: str | None
    attempts: tuple[AttemptRow, ...] = ()
    reports: tuple[ReportRow, ...] = ()  # what the other side said later
    became_id: int | None = None  # the message that another channel of ours made of it


@dataclass(frozen=True, slots=True)
class Journey:
    """Everything that happened to one message; ``content`` is the channel file of the revision that processed it."""

    message: MessageRow
    deliveries: tuple[DeliveryRow, ...]
    content: str | None
    came_from_id: int | None = None  # the message of another channel that passed it on


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A delivery that is held or dead, or a message whose step failed (then ``destination`` is None)."""

    id: int
    message_id: int
    channel: str
    type: str
    destination: str | None
    step: str | None
    state: str
    class_: str | None
    reason: str | None
    location: str | None
    failed_at: float | None
    attempts: int


@dataclass(frozen=True, slots=True)
class QuarantineRow:
    """Bytes that never became a message; ``size`` counts what arrived."""

    id: int
    channel: str
    received_at: float
    peer: str
    reason: str
    size: int


@dataclass(frozen=True, slots=True)
class Count:
    """How often ``name`` happened; ``destination`` is None for what is counted of the channel itself."""

    channel: str
    destination: str | None
    name: str
    value: int


@dataclass(frozen=True, slots=True)
class Backlog:
    """What waits now: for the steps (``destination`` None) or for a destination; ``due_at`` is the next attempt."""

    channel: str
    destination: str | None
    waiting: int
    oldest_at: float | None
    due_at: float | None
    dead: int


_MESSAGE: Final = (
    "SELECT m.id, ch.name, m.type, co.data, m.state, m.received_at, m.processed_at, m.peer, r.digest, m.step, "
    "m.location, m.reason, r.content FROM message m JOIN channel ch ON ch.id = m.channel_id "
    "LEFT JOIN content co ON co.id = m.id LEFT JOIN revision r ON r.id = m.revision_id WHERE {where} "
    "ORDER BY m.id DESC LIMIT ?"
)
_BRIEFS: Final = (
    "WITH v(id) AS ({v}) SELECT v.id, d.id, r.destination, d.state FROM v JOIN delivery d ON d.id > v.id "  # noqa: S608 - text of this module only
    f"AND d.id <= v.id + {DELIVERIES} JOIN route r ON r.id = d.route_id ORDER BY d.id"
)


def messages(connection: Connection, reading: Reading, wanted: Filter) -> list[MessageRow]:
    """Return messages, the newest first."""
    where, parameters = _narrowed(connection, reading, wanted)
    parameters.append(max(1, min(wanted.limit, MOST)))
    rows = connection.rows(_MESSAGE.format(where=" AND ".join(where) or "1 = 1"), parameters)
    briefs: dict[int, list[Brief]] = {}
    for message, *brief in connection.bulk(_BRIEFS, "bigint", [(row[0],) for row in rows]):
        briefs.setdefault(message, []).append(Brief(*brief))
    return [_message(reading, row, briefs.get(row[0], ())) for row in rows]


def _message(reading: Reading, row: Row, briefs: Iterable[Brief] = ()) -> MessageRow:
    return MessageRow(*(*row[:3], _control_id(reading, row[0], row[3]), *row[4:12], tuple(briefs)))


def _control_id(reading: Reading, message: int, data: bytes | None) -> str:
    if data is None:
        return ""
    try:
        body = reading.open("content", message, bytes(data))
        return place_of(body) or read_header(body).control_id.decode("latin-1")
    except MessageError:
        return ""


def _narrowed(connection: Connection, reading: Reading, wanted: Filter) -> tuple[list[str], list[Any]]:
    where: list[str] = []
    parameters: list[Any] = []

    def narrow(condition: str, *values: Any) -> None:
        where.append(condition)
        parameters.extend(values)

    if wanted.channel is not None:
        narrow("ch.name = ?", wanted.channel)
    if wanted.state is not None:
        narrow(*_of_state(wanted.state))
    if wanted.since is not None:
        narrow("m.id >= ? AND m.received_at >= ?", _first_id(wanted.since - _CLOCK_SLACK), float(wanted.since))
    if wanted.before is not None:
        narrow("m.id < ?", wanted.before)
    named = [("control_id", wanted.control_id)] if wanted.control_id is not None else []
    for name, value in (*named, *wanted.index):
        found = _having(connection, reading, wanted.channel, name, value)
        narrow(f"m.id IN ({','.join('?' * len(found))})", *found)
    return where, parameters


_WITH_DEAD: Final = (
    "m.id IN (SELECT d.id - d.id % 64 FROM delivery d WHERE d.state IN ('held', 'dead') AND d.state = ?)"
)
_WITH_DELIVERY: Final = (
    f"EXISTS (SELECT 1 FROM delivery d WHERE d.id > m.id AND d.id <= m.id + {DELIVERIES} AND d.state = ?)"  # noqa: S608 - text of this module only
)


def _of_state(state: str) -> tuple[str, ...]:
    """Return a condition on messages and its values, by the index that serves the state best."""
    conditions = ["m.state = ?"] if state in states.MESSAGE else []
    if state in states.DEAD:
        conditions.append(_WITH_DEAD)
    elif state in states.DELIVERY:
        conditions.append(_WITH_DELIVERY)
    return (f"({' OR '.join(conditions) or '1 = 0'})", *[state] * len(conditions))


def _first_id(at: float) -> int:
    return max(0, int(at * 1000) - EPOCH_MS) * _MILLISECOND


def _having(connection: Connection, reading: Reading, channel: str | None, name: str, value: str) -> list[int]:
    """Return the newest messages whose index has this value (or an id that no message has)."""
    channels = [channel] if channel is not None else [row[0] for row in connection.rows("SELECT name FROM channel")]
    hashes = {reading.search_hash(each, name, value) for each in channels}
    return find(connection, hashes, _MOST_FOUND) or [-1]


_DELIVERIES: Final = (
    "SELECT d.id, r.destination, d.state, d.after_id, d.due_at, d.first_at, d.sent_at, d.done_at, d.class, d.reason, "
    "d.location, d.attempts FROM delivery d JOIN route r ON r.id = d.route_id "
    "WHERE d.id > ? AND d.id <= ? ORDER BY d.id"
)
_ATTEMPTS: Final = (
    "SELECT a.delivery_id, a.number, a.started_at, a.ended_at, a.outcome, a.reason, v.address, v.tls, v.subject, "
    "v.sha256 FROM attempt a LEFT JOIN via v ON v.id = a.via_id "
    "WHERE a.delivery_id > ? AND a.delivery_id <= ? ORDER BY a.delivery_id, a.number"
)


def trace(connection: Connection, reading: Reading, identifier: int) -> Journey | None:
    """Return the journey of a message, by its id or by the id of one of its deliveries; None if there is none."""
    first = message_of(identifier)
    rows = connection.rows(_MESSAGE.format(where="m.id = ?"), (first, 1))
    if not rows:
        return None
    attempts: dict[int, list[AttemptRow]] = {}
    for delivery, *attempt in connection.rows(_ATTEMPTS, (first, first + DELIVERIES)):
        via = Via(*attempt[5:]) if attempt[5] is not None else None
        attempts.setdefault(delivery, []).append(AttemptRow(*(*attempt[:5], via)))
    found = connection.rows(_DELIVERIES, (first, first + DELIVERIES))
    names = {row[0]: row[1] for row in found}
    named = references(connection, reading, first, first + DELIVERIES)
    told, next_ = reports(connection, reading, named), became(connection, passed_by(rows[0][1], first), named)

    def delivery_of(row: Row) -> DeliveryRow:
        told_of = tuple(attempts.get(row[0]) or _only(row)), told.get(row[0], ()), next_.get(row[0])
        return DeliveryRow(*(*row[:3], names.get(row[3]), *row[4:11], *told_of))

    deliveries = tuple(map(delivery_of, found))
    message = _message(reading, rows[0], [Brief(each.id, each.destination, each.state) for each in deliveries])
    return Journey(message, deliveries, rows[0][12], origin_of(message.peer))


def _only(row: Row) -> list[AttemptRow]:
    """Return the attempt that delivered at once: the store keeps no row for it, the delivery's own says it all."""
    sent_at, done_at, ended = row[6:9]
    return [AttemptRow(row[11], sent_at, done_at, ended, None)] if row[2] == ended == "delivered" else []


_DEAD_DELIVERIES: Final = (
    "SELECT d.id, m.id, ch.name, m.type, r.destination, NULL, d.state, d.class, d.reason, d.location, d.done_at, "
    "d.attempts FROM delivery d JOIN route r ON r.id = d.route_id JOIN channel ch ON ch.id = r.channel_id "
    "JOIN message m ON m.id = d.id - d.id % 64 WHERE d.state IN ('held', 'dead') AND {where} ORDER BY d.id DESC LIMIT ?"
)
_FAILED_MESSAGES: Final = (
    "SELECT d.id, d.id, ch.name, d.type, NULL, d.step, d.state, 'step', d.reason, d.location, d.processed_at, 0 "
    "FROM message d JOIN channel ch ON ch.id = d.channel_id WHERE d.state = 'failed' AND {where} "
    "ORDER BY d.id DESC LIMIT ?"
)


def dead(
    connection: Connection, _reading: Reading, channel: str | None = None, before: int = LAST, limit: int = 200
) -> list[DeadLetter]:
    """Return what waits for an operator, the newest first."""
    where, named = ("d.id < ? AND ch.name = ?", [channel]) if channel is not None else ("d.id < ?", [])
    values = [before, *named, max(1, min(limit, MOST))]
    found = connection.rows(_DEAD_DELIVERIES.format(where=where), values)
    found += connection.rows(_FAILED_MESSAGES.format(where=where), values)
    return [DeadLetter(*row) for row in sorted(found, reverse=True, key=itemgetter(0))[:limit]]


def dead_ids(connection: Connection, _reading: Reading, channel: str | None = None) -> list[int]:
    """Return the ids of all that waits for an operator, the oldest first: the order in which to run it again."""
    named, values = ("ch.name = ?", [channel]) if channel is not None else ("1 = 1", [])
    found = connection.rows(
        "SELECT d.id FROM delivery d JOIN route r ON r.id = d.route_id JOIN channel ch ON ch.id = r.channel_id "  # noqa: S608 - text of this module only
        f"WHERE d.state IN ('held', 'dead') AND {named} UNION ALL SELECT m.id FROM message m "
        f"JOIN channel ch ON ch.id = m.channel_id WHERE m.state = 'failed' AND {named}",
        [*values, *values],
    )
    return sorted(row[0] for row in found)


_QUARANTINE: Final = (
    "SELECT q.id, ch.name, q.at, q.peer, q.reason, q.size FROM quarantine q JOIN channel ch ON ch.id = q.channel_id "
    "WHERE q.id < ? ORDER BY q.id DESC LIMIT ?"
)


def quarantined(connection: Connection, _reading: Reading, before: int = LAST, limit: int = 200) -> list[QuarantineRow]:
    """Return what never became a message, the newest first."""
    return [QuarantineRow(*row) for row in connection.rows(_QUARANTINE, (before, max(1, min(limit, MOST))))]


# The routes lead, so that only the wanted hours of the counter's key are read.
_COUNTS: Final = (
    "SELECT k.name, k.destination, c.name, CAST(sum(c.value) AS BIGINT) FROM (SELECT ch.id AS channel_id, "
    "0 AS route_id, ch.name AS name, NULL AS destination FROM channel ch UNION ALL "
    "SELECT r.channel_id, r.id, ch.name, r.destination FROM route r JOIN channel ch ON ch.id = r.channel_id) k "
    "JOIN counter c ON c.channel_id = k.channel_id AND c.route_id = k.route_id AND c.hour >= ? AND c.hour < ? "
    "GROUP BY k.name, k.destination, c.name"
)


def counts(connection: Connection, _reading: Reading, first: int = 0, last: int = 1 << 30) -> list[Count]:
    """Return what was counted from hour ``first`` up to before hour ``last`` (hours since 1970)."""
    return [Count(*row) for row in connection.rows(_COUNTS, (first, last))]


_WAITING: Final = (
    "SELECT channel_id, count(*), min(id) FROM message WHERE state = 'received' GROUP BY channel_id",
    "SELECT channel_id, count(*) FROM message WHERE state = 'failed' GROUP BY channel_id",
    "SELECT route_id, count(*), min(id) FROM delivery WHERE open GROUP BY route_id",
    "SELECT route_id, min(due_at) FROM delivery WHERE due_at IS NOT NULL GROUP BY route_id",
    "SELECT route_id, count(*) FROM delivery WHERE state IN ('held', 'dead') GROUP BY route_id",
)
_ROUTES: Final = (
    "SELECT r.id, ch.name, r.destination FROM route r JOIN channel ch ON ch.id = r.channel_id ORDER BY r.id"
)


def backlog(connection: Connection, _reading: Reading) -> list[Backlog]:
    """Return what waits now, for every channel and every route; the cost grows with what waits, not with the store."""
    fresh, failed, open_, due, dead_ = ({row[0]: row[1:] for row in connection.rows(sql)} for sql in _WAITING)
    channels = connection.rows("SELECT id, name FROM channel ORDER BY name")
    found = [_backlog(name, None, fresh.get(key), None, failed.get(key)) for key, name in channels]
    for key, name, destination in connection.rows(_ROUTES):
        found.append(_backlog(name, destination, open_.get(key), due.get(key), dead_.get(key)))
    return found


def _backlog(channel: str, destination: str | None, waiting: Row | None, due: Row | None, dead_: Row | None) -> Backlog:
    count, oldest = waiting or (0, None)
    at = None if oldest is None else time_of(oldest)
    return Backlog(channel, destination, count, at, due[0] if due else None, dead_[0] if dead_ else 0)
