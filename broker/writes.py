"""This module holds the hot writes of the engine's store: what each unit of work does inside its transaction.

Every function takes a group of units of one kind and is written so that running it again changes nothing: updates say
which state they expect, inserts of deliveries give way to what is there. That is what makes a commit whose outcome is
unknown safe to try again.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from functools import lru_cache
from hashlib import blake2b
from typing import Any, Final

from broker.crash import crash_point
from broker.ids import time_of
from broker.keys import Keys, pack
from broker.seal import Sealer
from broker.sql import Connection
from broker.units import Claim, Finished, NewDelivery, NewMessage, Recorded

Counts = Counter[tuple[int, int, str]]  # (channel, route or 0, name)
Place = tuple[str, bool]  # where a new delivery went: its state, and whether it is due

_MESSAGE: Final = (
    "message (id, channel_id, state, received_at, type, peer, sender, digest, hashes)",
    "bigint integer text double text text bigint bigint bytea",
)
_CONTENT: Final = ("content (id, data)", "bigint bytea")


def accept(
    connection: Connection, sealer: Sealer, keys: Keys, units: Sequence[NewMessage], counts: Counts
) -> tuple[list[tuple[int, bool, bool]], list[NewMessage]]:
    """Insert messages, unless one with the same key and digest came before.

    Returns what `broker.units.Accepted` says of each, and those that were inserted.
    """
    known = keys.known(connection, (unit.sender for unit in units))
    results, fresh = [], []
    for unit in units:
        earlier = known[unit.sender]
        first = next((found for digest, found in earlier if digest == unit.digest), None)
        if first is None:
            results.append((unit.id, False, bool(earlier)))
            earlier.append((unit.digest, unit.id))
            fresh.append(unit)
        else:
            # The same id means that an earlier try of this very unit did commit.
            results.append((first, first != unit.id, False))
            counts[unit.channel, 0, "duplicate"] += first != unit.id
    connection.append(*_MESSAGE, [_message(unit) for unit in fresh])
    connection.append(*_CONTENT, [(unit.id, sealer.seal("content", unit.id, unit.body)) for unit in fresh])
    for unit in fresh:
        counts[unit.channel, 0, "received"] += 1
    crash_point("accept.inserted")
    return results, fresh


def _message(m: NewMessage) -> tuple[object, ...]:
    return (m.id, m.channel, "received", m.received_at, m.type, m.peer, m.sender, m.digest, pack(m.hashes))


_FINISH: Final = (
    "UPDATE message SET state = ?, revision_id = ?, processed_at = ?, step = ?, location = ?, reason = ? "
    "WHERE id IN ({v}) AND state = 'received' RETURNING id"
)
_TAKEN: Final = (
    "WITH v(route, lane) AS ({v}) SELECT v.route, v.lane FROM v WHERE EXISTS (SELECT 1 FROM delivery d "
    "WHERE d.route_id = v.route AND d.lane = v.lane AND d.open) UNION ALL SELECT v.route, v.lane FROM v WHERE EXISTS "
    "(SELECT 1 FROM delivery d WHERE d.route_id = v.route AND d.other_lane = v.lane AND d.open)",
    "integer bigint",
)
_DELIVERY: Final = (
    "delivery (id, route_id, lane, state, open, after_id, due_at, attempts, spent, first_at, sent_at, other_lane)",
    "bigint integer bigint text boolean bigint double integer integer double double bigint",
)

_STAND_IN: Final = ("fallback (delivery_id, id, route_id)", "bigint bigint integer")


def finish(connection: Connection, sealer: Sealer, units: Sequence[Finished], counts: Counts) -> list[list[Place]]:
    """Write what the steps made of messages, and their deliveries; a message that is done already is left alone."""
    alike: dict[tuple[object, ...], list[int]] = {}
    for unit in units:
        alike.setdefault((unit.state, unit.revision, unit.at, unit.step, unit.location, unit.reason), []).append(
            unit.id
        )
    moved = {row[0] for same, ids in alike.items() for row in connection.bulk_in(_FINISH, same, ids)}
    fresh = [unit for unit in units if unit.id in moved]
    for unit in fresh:
        counts[unit.channel, 0, unit.state] += 1
    deliveries = [d for unit in fresh for d in unit.deliveries]
    placed = _place(connection, [d for d in deliveries if not d.instead], {u.id: u.at for u in fresh})
    stand_ins = [(other, d.id, d.route) for d in deliveries for other in d.instead]
    if stand_ins:
        connection.append(*_STAND_IN, stand_ins)
    connection.append(*_CONTENT, [(d.id, sealer.seal("content", d.id, d.request)) for d in deliveries])
    crash_point("finish.inserted")
    return [[placed.get(d.id, ("", False)) for d in unit.deliveries] for unit in units]


def _place(connection: Connection, deliveries: Sequence[NewDelivery], at: dict[int, float]) -> dict[int, Place]:
    lanes = lanes_of((d.route, d.lane, d.other_lane) for d in deliveries)
    taken = {(row[0], row[1]) for row in connection.bulk(*_TAKEN, list(lanes))}
    placed, rows = {}, []
    now = next(iter(at.values()), 0.0)
    for d in deliveries:
        head = (d.route, d.lane) not in taken and (d.route, d.other_lane) not in taken and d.after is None
        taken.add((d.route, d.lane))
        if d.other_lane is not None:
            taken.add((d.route, d.other_lane))
        begins = head and d.eager
        started = now if begins else None
        due = now if head and not begins else None
        state = "sending" if begins else "waiting"
        row = (d.id, d.route, d.lane, state, True, d.after, due, int(begins), int(begins), started, started)
        rows.append((*row, d.other_lane))
        placed[d.id] = (state, due is not None)
    connection.append(*_DELIVERY, rows)
    return placed


_RECORD: Final = (
    "UPDATE delivery SET state = ?, open = ?, due_at = ?, done_at = ?, class = ?, reason = ?, location = ?, "
    "away = ? WHERE id IN ({v}) AND state = 'sending' RETURNING id, other_lane"
)
_ATTEMPT: Final = (
    "INSERT INTO attempt (delivery_id, number, started_at, ended_at, outcome, reason, detail, via_id) {v} "
    "ON CONFLICT DO NOTHING",
    "bigint integer double double text text bytea bigint",
)
_VIA: Final = (
    "INSERT INTO via (id, address, tls, subject, sha256) {v} ON CONFLICT DO NOTHING",
    "bigint text text text text",
)
_RELEASE: Final = (
    "WITH v(id) AS ({v}) UPDATE delivery SET after_id = NULL FROM v WHERE delivery.after_id = v.id "
    "RETURNING delivery.route_id, delivery.lane",
    "bigint",
)


def _nobody(lane: str, own: str, which: str) -> str:
    """Return a condition of `_PROMOTE`: no delivery that holds a lane of this one's stands in the way."""
    return (
        "AND NOT EXISTS (SELECT 1 FROM delivery d WHERE d.route_id = delivery.route_id "  # noqa: S608 - text of this module only
        f"AND d.{lane} = {own} AND d.open AND {which}) "
    )


_BEFORE: Final = "d.id < delivery.id"
_AT_ALL: Final = "(d.id < delivery.id OR d.state = 'sending' OR d.due_at IS NOT NULL)"
# The lane of what stands in two, else nothing, which is equal to nothing. Those are few, so their lanes may be read to
# the end.
_OF_TWO: Final = "CASE WHEN delivery.other_lane IS NOT NULL THEN delivery.lane END"
# A lane's head becomes due when nothing of the lane is on the wire and it waits for nobody. What stands in two lanes
# must be the head of both; a replay brought it in front of others, so those must not have their turn now either.
_PROMOTE: Final = (
    "WITH v(route, lane, now) AS ({v}), head AS ("  # noqa: S608 - text of this module only
    "SELECT v.now AS now, (SELECT d.id FROM delivery d WHERE d.route_id = v.route AND d.lane = v.lane AND d.open "
    "ORDER BY d.id LIMIT 1) AS id FROM v UNION ALL "
    "SELECT v.now, (SELECT d.id FROM delivery d WHERE d.route_id = v.route AND d.other_lane = v.lane AND d.open "
    "ORDER BY d.id LIMIT 1) FROM v) "
    "UPDATE delivery SET due_at = head.now FROM head WHERE delivery.id = head.id AND delivery.state = 'waiting' "
    "AND delivery.after_id IS NULL AND delivery.due_at IS NULL "
    + _nobody("lane", "delivery.lane", _BEFORE)
    + _nobody("other_lane", "delivery.lane", _BEFORE)
    + _nobody("lane", _OF_TWO, _AT_ALL)
    + _nobody("other_lane", _OF_TWO, _AT_ALL)
    + _nobody("lane", "delivery.other_lane", _AT_ALL)
    + _nobody("other_lane", "delivery.other_lane", _AT_ALL)
    + "RETURNING delivery.route_id",
    "integer bigint double",
)


def record(connection: Connection, sealer: Sealer, units: Sequence[Recorded], counts: Counts) -> frozenset[int]:
    """Write how attempts ended; return the routes that have work due because of it."""
    alike: dict[tuple[object, ...], list[int]] = {}
    for u in units:
        same = (u.state, u.open, u.due_at, u.ended_at, u.outcome, u.reason, u.location, u.away)
        alike.setdefault(same, []).append(u.id)
    moved = {row[0]: row[1] for same, ids in alike.items() for row in connection.bulk_in(_RECORD, same, ids)}
    fresh = [unit for unit in units if unit.id in moved]
    connection.bulk(*_VIA, [(_via_id(via), *via) for via in {unit.via for unit in fresh} if via is not None])
    connection.bulk(*_ATTEMPT, [_attempt(sealer, unit) for unit in fresh if not _is_plain(unit)])
    lanes = lanes_of((u.route, u.lane, moved[u.id]) for u in fresh if not u.open)
    lanes |= release(connection, [u.id for u in fresh if u.state == "delivered"])
    now = fresh[0].ended_at if fresh else 0.0
    due = cancel_after(connection, [u.id for u in fresh if u.state == "suppressed"], now)
    due |= promote(connection, lanes, now) | {u.route for u in fresh if u.due_at is not None}
    due |= fall_back(connection, [u.id for u in fresh if u.state == "dead"], now, counts)
    for unit in fresh:
        counts[unit.channel, unit.route, "attempt"] += 1
        if unit.state != "waiting":
            counts[unit.channel, unit.route, unit.state] += 1
    crash_point("record.updated")
    return due


def _is_plain(unit: Recorded) -> bool:
    # Delivered at the first attempt, with nothing to tell: the delivery's own row says all that an attempt's would.
    return unit.number == 1 and unit.outcome == "delivered" and not unit.detail and unit.via is None


def _attempt(sealer: Sealer, unit: Recorded) -> tuple[object, ...]:
    detail = sealer.seal("attempt", unit.id, unit.detail) if unit.detail else None
    via = _via_id(unit.via) if unit.via is not None else None
    return (unit.id, unit.number, unit.started_at, unit.ended_at, unit.outcome, unit.reason, detail, via)


@lru_cache(maxsize=1024)
def _via_id(via: tuple[str, ...]) -> int:
    """Return the id of what an attempt reached: made from what it says, so that writing it needs no look-up."""
    return int.from_bytes(blake2b("\0".join(via).encode(), digest_size=8).digest(), signed=True)


def lanes_of(held: Iterable[tuple[int, int, int | None]]) -> set[tuple[int, int]]:
    """Return the lanes of deliveries: each is a route with one lane, or two."""
    lanes = set()
    for route, lane, other in held:
        lanes.add((route, lane))
        if other is not None:
            lanes.add((route, other))
    return lanes


def release(connection: Connection, delivered: Sequence[int]) -> set[tuple[int, int]]:
    """Let go of what waits for deliveries that are now done; return the lanes it waits in."""
    return {(row[0], row[1]) for row in connection.bulk(*_RELEASE, [(d,) for d in delivered])}


def promote(connection: Connection, lanes: Iterable[tuple[int, int]], now: float) -> frozenset[int]:
    """Make the heads of lanes due; return the routes for which that changed something."""
    return frozenset(row[0] for row in connection.bulk(*_PROMOTE, [(route, lane, now) for route, lane in lanes]))


_DUE: Final = (
    "SELECT id, attempts, spent, first_at, class FROM delivery WHERE route_id = ? AND due_at <= ? "
    "ORDER BY due_at, id LIMIT ?"
)
_EXPIRE: Final = (
    "UPDATE delivery SET state = 'expired', open = false, due_at = NULL, done_at = ?, class = 'expired' "
    "WHERE id IN ({v}) AND state = 'waiting' RETURNING id, route_id, lane, other_lane"
)
_BEGIN: Final = (
    "WITH v(id, now) AS ({v}) UPDATE delivery SET state = 'sending', due_at = NULL, sent_at = v.now, "
    "attempts = attempts + 1, spent = spent + 1, first_at = coalesce(first_at, v.now) FROM v "
    "WHERE delivery.id = v.id AND delivery.state = 'waiting' "
    "RETURNING delivery.id, delivery.lane, delivery.attempts, delivery.spent, delivery.first_at, delivery.away",
    "bigint double",
)
_REQUESTS: Final = ("WITH v(id) AS ({v}) SELECT c.id, c.data FROM v JOIN content c ON c.id = v.id", "bigint")
_NEXT: Final = "SELECT min(due_at) FROM delivery WHERE route_id = ? AND due_at IS NOT NULL"
_LOOKS: Final = 16  # how often one claim looks further because what it found had expired
_LOOK: Final = 256  # deliveries of such a look


def claim(
    connection: Connection, sealer: Sealer, unit: Claim, counts: Counts
) -> tuple[list[Any], float | None, int, tuple[int, ...]]:
    """Move due lane heads of a route to sending; what is past its age now, when it would be sent, expires instead.

    Returns ``(id, request, attempts, first attempt at, lane, spent, away)`` of each, when the next one is due, how many
    expired, and the routes that have work due because of that.
    """
    due: list[int] = []
    expired, routes = 0, set[int]()
    limit = unit.limit
    for _ in range(_LOOKS):
        found = connection.rows(_DUE, (unit.route, unit.now, limit))
        late = {row[0] for row in found if _is_late(unit, *row)}
        due = [row[0] for row in found if row[0] not in late][: unit.limit]
        if not late:
            break
        expired += len(late)
        routes |= _expire(connection, unit, sorted(late), counts)
        limit = max(unit.limit, _LOOK)
    begun = connection.bulk(*_BEGIN, [(identifier, unit.now) for identifier in due])
    requests: dict[int, bytes] = dict(connection.bulk(*_REQUESTS, [(row[0],) for row in begun]))
    claimed = [
        (found, sealer.open("content", found, bytes(requests[found])), attempts, first_at, lane, spent, away)
        for found, lane, attempts, spent, first_at, away in sorted(begun)
    ]
    crash_point("claim.updated")
    return claimed, connection.rows(_NEXT, (unit.route,))[0][0], expired, tuple(routes - {unit.route})


def _is_late(unit: Claim, identifier: int, attempts: int, spent: int, first_at: float | None, kind: str | None) -> bool:
    """Say whether a delivery is past its age: since its message arrived or, after a replay, since that was tried.

    What may have had an effect is sent once more instead, because only that can tell.
    """
    began = time_of(identifier) if attempts == spent else first_at
    return began is not None and unit.now - began >= unit.expire and not (spent and kind == "unknown")


def _expire(connection: Connection, unit: Claim, late: Sequence[int], counts: Counts) -> frozenset[int]:
    expired = connection.bulk_in(_EXPIRE, (unit.now,), late)
    counts[unit.channel, unit.route, "expired"] += len(expired)
    routes = fall_back(connection, [row[0] for row in expired], unit.now, counts)
    routes |= cancel_after(connection, [row[0] for row in expired], unit.now)
    return routes | promote(connection, lanes_of(row[1:4] for row in expired), unit.now)


# A stand-in has the lanes' keys of the one that it stands in for: lanes are per destination, keys per message.
_BIRTH: Final = (
    "WITH v(id) AS ({v}), born AS (SELECT DISTINCT f.id AS id, f.route_id AS route, d.lane AS lane, d.other_lane AS "
    "other FROM v JOIN fallback f ON f.delivery_id = v.id JOIN delivery d ON d.id = v.id) "
    "INSERT INTO delivery (id, route_id, lane, other_lane, state, open, attempts, spent) "
    "SELECT id, route, lane, other, 'waiting', true, 0, 0 FROM born WHERE true ON CONFLICT DO NOTHING "
    "RETURNING id, route_id, lane, other_lane",
    "bigint",
)


def fall_back(connection: Connection, ended: Sequence[int], now: float, counts: Counts) -> frozenset[int]:
    """Let what stands by for deliveries that cannot be had come to be, once; return the routes with work due."""
    born = connection.bulk(*_BIRTH, [(identifier,) for identifier in ended])
    if not born:
        return frozenset()
    tally(connection, counts, "fallback", (row[1] for row in born))
    crash_point("fallback.born")
    return enter(connection, lanes_of(row[1:4] for row in born), now)


# In a lane is what has it for its one lane, its first, or its other one.
_HELD: Final = ("lane", "other_lane")
_IS_SENDING: Final = "SELECT 1 FROM delivery WHERE route_id = ? AND {} = ? AND open AND state = 'sending' LIMIT 1"
_UNDUE: Final = "UPDATE delivery SET due_at = NULL WHERE route_id = ? AND {} = ? AND open AND state = 'waiting'"


def enter(connection: Connection, lanes: Iterable[tuple[int, int]], now: float) -> frozenset[int]:
    """Let lanes go on with their oldest, after one came in at its old place; return the routes with work due."""
    routes: set[int] = set()
    for place in lanes:
        # One at a time in a lane: what is on the wire ends first; else the oldest goes first.
        if not any(connection.rows(_IS_SENDING.format(lane), place) for lane in _HELD):
            for lane in _HELD:
                connection.run(_UNDUE.format(lane), place)
            routes |= promote(connection, [place], now)
    return frozenset(routes)


_CANCEL: Final = (
    "WITH v(id, now) AS ({v}) UPDATE delivery SET state = 'cancelled', open = false, after_id = NULL, done_at = v.now, "
    "class = 'cancelled', reason = 'what it was to follow did not happen' FROM v WHERE delivery.after_id = v.id "
    "AND delivery.state = 'waiting' RETURNING delivery.id, delivery.route_id, delivery.lane, "
    "delivery.other_lane",
    "bigint double",
)


def cancel_after(connection: Connection, ended: Sequence[int], now: float) -> frozenset[int]:
    """Cancel what was to follow deliveries that will never be delivered, and what was to follow that."""
    routes: set[int] = set()
    while ended:
        cancelled = connection.bulk(*_CANCEL, [(identifier, now) for identifier in ended])
        routes |= promote(connection, lanes_of(row[1:4] for row in cancelled), now)
        ended = [row[0] for row in cancelled]
    return frozenset(routes)


_COUNT: Final = (
    "INSERT INTO counter (channel_id, route_id, hour, name, value) {v} "
    "ON CONFLICT (channel_id, route_id, hour, name) DO UPDATE SET value = counter.value + excluded.value",
    "integer integer integer text bigint",
)


def tally(connection: Connection, counts: Counts, name: str, routes: Iterable[int]) -> None:
    """Note under ``name`` that something happened to one delivery of each of the routes, which may come up again."""
    channels: dict[int, int] = dict(connection.rows("SELECT id, channel_id FROM route"))
    for route in routes:
        counts[channels[route], route, name] += 1


def count(connection: Connection, counts: Counts, now: float) -> None:
    """Add what a group did to the counters of this hour."""
    hour = int(now // 3600)
    rows = [(channel, route, hour, name, value) for (channel, route, name), value in counts.items() if value]
    connection.bulk(*_COUNT, rows)
