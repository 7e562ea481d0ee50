"""This module holds the rare writes: what an operator does to dead letters, what a start finds, and the registry."""

import hmac
import time
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Final

from broker.crash import crash_point
from broker.seal import Sealer
from broker.sql import Connection
from broker.units import Act, Done, Pause
from broker.writes import Counts, cancel_after, count, enter, lanes_of, promote, tally

_REPLAY_MESSAGES: Final = (
    "WITH v(id) AS ({v}) UPDATE message SET state = 'received', step = NULL, location = NULL, reason = NULL, "
    "processed_at = NULL FROM v WHERE message.id = v.id AND message.state = 'failed' RETURNING message.id",
    "bigint",
)
_REPLAY_DELIVERIES: Final = (
    "WITH v(id) AS ({v}) UPDATE delivery SET state = 'waiting', open = true, due_at = NULL, spent = 0, away = 0, "
    "first_at = NULL, done_at = NULL FROM v WHERE delivery.id = v.id AND delivery.state IN ('held', 'dead') "
    "RETURNING delivery.route_id, delivery.lane, delivery.other_lane",
    "bigint",
)


def replay(connection: Connection, sealer: Sealer, act: Act) -> Done:
    """Run dead letters again, in their old place in the lane, with the same bytes and idempotency key."""
    ids = [(identifier,) for identifier in act.ids]
    messages = tuple(sorted(row[0] for row in connection.bulk(*_REPLAY_MESSAGES, ids)))
    deliveries = connection.bulk(*_REPLAY_DELIVERIES, ids)
    done = Done(len(messages) + len(deliveries), messages, enter(connection, lanes_of(deliveries), act.at))
    _audit(connection, sealer, act, _told(act, done))
    return done


_DISCARD_MESSAGES: Final = (
    "WITH v(id, at) AS ({v}) UPDATE message SET state = 'discarded', processed_at = v.at FROM v "
    "WHERE message.id = v.id AND message.state = 'failed' RETURNING message.id, message.channel_id",
    "bigint double",
)
_DISCARD_DELIVERIES: Final = (
    "WITH v(id, at) AS ({v}) UPDATE delivery SET state = 'discarded', open = false, due_at = NULL, "
    "done_at = v.at FROM v WHERE delivery.id = v.id AND delivery.state IN ('held', 'dead') "
    "RETURNING delivery.id, delivery.route_id, delivery.lane, delivery.other_lane",
    "bigint double",
)


def discard(connection: Connection, sealer: Sealer, act: Act) -> Done:
    """Give dead letters up for good; what was to follow them is cancelled, and their lanes go on."""
    ids = [(identifier, act.at) for identifier in act.ids]
    messages = connection.bulk(*_DISCARD_MESSAGES, ids)
    deliveries = connection.bulk(*_DISCARD_DELIVERIES, ids)
    routes = cancel_after(connection, [row[0] for row in deliveries], act.at)
    routes |= promote(connection, lanes_of(row[1:4] for row in deliveries), act.at)
    counts = Counts()
    for row in messages:
        counts[row[1], 0, "discarded"] += 1
    tally(connection, counts, "discarded", (row[1] for row in deliveries))
    count(connection, counts, act.at)
    done = Done(len(messages) + len(deliveries), (), routes)
    _audit(connection, sealer, act, _told(act, done))
    return done


_CANCEL_DELIVERIES: Final = (
    "WITH v(id, at) AS ({v}) UPDATE delivery SET state = 'cancelled', open = false, due_at = NULL, after_id = NULL, "
    "done_at = v.at, class = 'cancelled', reason = 'an operator cancelled it' FROM v "
    "WHERE delivery.id = v.id AND delivery.state = 'waiting' "
    "RETURNING delivery.id, delivery.route_id, delivery.lane, delivery.other_lane",
    "bigint double",
)


def cancel(connection: Connection, sealer: Sealer, act: Act) -> Done:
    """End deliveries that wait, for good; what was to follow them is cancelled too, and their lanes go on."""
    cancelled = connection.bulk(*_CANCEL_DELIVERIES, [(identifier, act.at) for identifier in act.ids])
    routes = cancel_after(connection, [row[0] for row in cancelled], act.at)
    routes |= promote(connection, lanes_of(row[1:4] for row in cancelled), act.at)
    counts = Counts()
    tally(connection, counts, "cancelled", (row[1] for row in cancelled))
    count(connection, counts, act.at)
    crash_point("act.applied")
    done = Done(len(cancelled), (), routes)
    _audit(connection, sealer, act, _told(act, done))
    return done


_PAUSE: Final = (
    "INSERT INTO pause (channel_id, route_id, at, actor, reason) SELECT c.id, coalesce(r.id, 0), CAST(? AS DOUBLE "
    "PRECISION), CAST(? AS TEXT), CAST(? AS TEXT) FROM channel c LEFT JOIN route r ON r.channel_id = c.id AND "
    "r.destination = ? WHERE c.name = ? AND (r.id IS NOT NULL OR ? = '') ON CONFLICT DO NOTHING"
)
_RESUME: Final = (
    "DELETE FROM pause WHERE channel_id = (SELECT id FROM channel WHERE name = ?) AND route_id = CASE WHEN ? = '' "
    "THEN 0 ELSE (SELECT r.id FROM route r WHERE r.channel_id = pause.channel_id AND r.destination = ?) END"
)
_PAUSES: Final = (
    "SELECT c.name, r.destination, p.at, p.actor, p.reason FROM pause p JOIN channel c ON c.id = p.channel_id "
    "LEFT JOIN route r ON r.id = p.route_id ORDER BY p.at, p.channel_id, p.route_id"
)


def pause(connection: Connection, sealer: Sealer, asked: Pause) -> bool:
    """Note that an operator stops a destination, or a channel's way in; say whether it was not stopped already."""
    name = asked.destination or ""
    changed = connection.run(_PAUSE, (asked.asked_at, asked.actor, asked.reason, name, asked.channel, name)) > 0
    crash_point("act.applied")
    _audit(connection, sealer, _act_of("pause", asked), _place(asked))
    return changed


def resume(connection: Connection, sealer: Sealer, asked: Pause) -> bool:
    """Note that an operator lets it go on; say whether it was stopped."""
    name = asked.destination or ""
    changed = connection.run(_RESUME, (asked.channel, name, name)) > 0
    crash_point("act.applied")
    _audit(connection, sealer, _act_of("resume", asked), _place(asked))
    return changed


def read_pauses(connection: Connection, _sealer: Sealer) -> list[Pause]:
    """Return all that operators have stopped, in the order in which they did."""
    return [Pause(*row) for row in connection.rows(_PAUSES)]


def _act_of(name: str, asked: Pause) -> Act:
    return Act(act=name, ids=(), actor=asked.actor, reason=asked.reason, at=asked.asked_at)


def _place(asked: Pause) -> str:
    return f"{asked.channel}/{asked.destination}" if asked.destination else asked.channel


_LAST_AUDIT: Final = "SELECT seq, mac FROM audit ORDER BY seq DESC LIMIT 1"
_AUDIT: Final = "INSERT INTO audit (seq, at, actor, act, subject, reason, mac) VALUES (?, ?, ?, ?, ?, ?, ?)"


def _told(act: Act, done: Done) -> str:
    return f"{done.count} of {len(act.ids)}: {','.join(map(str, act.ids))}"


def _audit(connection: Connection, sealer: Sealer, act: Act, subject: str) -> None:
    found = connection.rows(_LAST_AUDIT)
    seq, previous = (found[0][0] + 1, bytes(found[0][1])) if found else (1, b"")
    row = "\0".join((str(seq), repr(act.at), act.actor, act.act, subject, act.reason)).encode()
    mac = hmac.digest(sealer.audit_key, previous + row, sha256)
    connection.run(_AUDIT, (seq, act.at, act.actor, act.act, subject, act.reason, mac))


@dataclass(frozen=True, slots=True)
class Registered:
    """The numbers under which the store knows a channel, this revision of it, and its destinations by name."""

    channel: int
    revision: int
    routes: dict[str, int]


def register(
    connection: Connection, _sealer: Sealer, name: str, digest: str, content: str, destinations: Sequence[str]
) -> Registered:
    """Note a channel's revision and destinations, if they are new."""
    channel = _number(connection, "channel", "name = ?", (name,), "name")
    revision = _number(
        connection,
        "revision",
        "channel_id = ? AND digest = ?",
        (channel, digest),
        "channel_id, digest, content, created_at",
        (content, time.time()),
    )
    routes = {
        destination: _number(
            connection, "route", "channel_id = ? AND destination = ?", (channel, destination), "channel_id, destination"
        )
        for destination in destinations
    }
    return Registered(channel, revision, routes)


def _number(
    connection: Connection, table: str, where: str, key: tuple[object, ...], columns: str, more: tuple[object, ...] = ()
) -> int:
    found = connection.rows(f"SELECT id FROM {table} WHERE {where}", key)  # noqa: S608 - names from this module only
    if found:
        return int(found[0][0])
    number = int(connection.rows(f"SELECT coalesce(max(id), 0) + 1 FROM {table}")[0][0])  # noqa: S608
    values = (number, *key, *more)
    holes = ", ".join("?" * len(values))
    connection.run(f"INSERT INTO {table} (id, {columns}) VALUES ({holes})", values)  # noqa: S608
    return number


@dataclass(frozen=True, slots=True)
class Interrupted:
    """A delivery that was in state sending when an earlier run ended; nobody knows whether it took effect."""

    id: int
    route: int
    lane: int
    number: int
    spent: int
    away: int
    sent_at: float
    first_at: float


@dataclass(frozen=True, slots=True)
class Found:
    """What a start finds in the store."""

    last_id: int
    received: int
    waiting: int
    interrupted: tuple[Interrupted, ...]


_LAST: Final = (
    "SELECT max(id) FROM (SELECT max(id) AS id FROM message UNION ALL SELECT max(id) FROM quarantine "
    "UNION ALL SELECT max(id) FROM content) AS ids"
)
_SENDING: Final = (
    "SELECT id, route_id, lane, attempts, spent, away, sent_at, first_at FROM delivery "
    "WHERE open AND state = 'sending' ORDER BY id"
)


def find(connection: Connection) -> Found:
    """Read what an earlier run left: the largest id, what waits, and what was on the wire."""
    last = connection.rows(_LAST)[0][0] or 0
    received = connection.rows("SELECT count(*) FROM message WHERE state = 'received'")[0][0]
    waiting = connection.rows("SELECT count(*) FROM delivery WHERE open")[0][0]
    interrupted = tuple(Interrupted(*row) for row in connection.rows(_SENDING))
    return Found(last, received, waiting, interrupted)


_UNSEND: Final = (
    "WITH v(id, now) AS ({v}) UPDATE delivery SET state = 'waiting', due_at = v.now, attempts = attempts - 1, "
    "spent = spent - 1 FROM v WHERE delivery.id = v.id AND delivery.state = 'sending' RETURNING delivery.id",
    "bigint double",
)


def unsend(connection: Connection, _sealer: Sealer, ids: Sequence[int], now: float) -> int:
    """Put back what was marked as sending but never begun; nothing of it was on the wire."""
    return len(connection.bulk(*_UNSEND, [(identifier, now) for identifier in ids]))


_FRESH: Final = (
    "SELECT m.id, m.received_at, c.data FROM message m JOIN content c ON c.id = m.id "
    "WHERE m.channel_id = ? AND m.state = 'received' AND m.id > ? ORDER BY m.id LIMIT ?"
)


def read_received(
    connection: Connection, sealer: Sealer, channel: int, after: int, limit: int
) -> list[tuple[int, float, bytes]]:
    """Return messages of a channel that wait for their steps, oldest first: id, received at, body."""
    return [
        (found, at, sealer.open("content", found, bytes(data)))
        for found, at, data in connection.rows(_FRESH, (channel, after, limit))
    ]


def read_ended(connection: Connection, message: int) -> tuple[str, str | None, str | None, str | None] | None:
    """Return state, step, location and reason of a message; None when there is no such message."""
    found = connection.rows("SELECT state, step, location, reason FROM message WHERE id = ?", (message,))
    return (found[0][0], found[0][1], found[0][2], found[0][3]) if found else None


_CONCLUDED: Final = (
    "SELECT d.state, d.reason, d.location, a.detail FROM delivery d "
    "LEFT JOIN attempt a ON a.delivery_id = d.id AND a.number = d.attempts WHERE d.id = ?"
)


def read_concluded(
    connection: Connection, sealer: Sealer, delivery: int
) -> tuple[str, str | None, str | None, bytes] | None:
    """Return state, reason, location and what the last attempt was told; None when there is no such delivery."""
    found = connection.rows(_CONCLUDED, (delivery,))
    if not found:
        return None
    state, reason, location, detail = found[0]
    return state, reason, location, sealer.open("attempt", delivery, bytes(detail)) if detail else b""


def read_setting(connection: Connection, name: str) -> bytes | None:
    """Return a value that the store keeps of itself; None if it has none of this name."""
    found = connection.rows("SELECT value FROM setting WHERE name = ?", (name,))
    return bytes(found[0][0]) if found else None


def write_setting(connection: Connection, name: str, value: bytes) -> None:
    """Let the store keep a value of itself, once."""
    connection.run("INSERT INTO setting (name, value) VALUES (?, ?)", (name, value))
