"""This module lists what is on its way to destinations: the deliveries that have not ended."""

from dataclasses import dataclass
from typing import Any, Final

from broker.queries import LAST, MOST, Reading
from broker.sql import Connection


@dataclass(frozen=True, slots=True)
class OpenDelivery:
    """One delivery that has not ended; without ``due_at`` it stands behind another of its lane, or on its ``after``."""

    id: int
    message_id: int
    channel: str
    destination: str
    type: str
    state: str
    due_at: float | None
    attempts: int
    class_: str | None
    reason: str | None


_OPEN: Final = (
    "SELECT d.id, m.id, ch.name, r.destination, m.type, d.state, d.due_at, d.attempts, d.class, d.reason "
    "FROM delivery d JOIN route r ON r.id = d.route_id JOIN channel ch ON ch.id = r.channel_id "
    "JOIN message m ON m.id = d.id - d.id % 64 WHERE {where} AND d.id < ? ORDER BY d.id DESC LIMIT ?"
)
_WAITING: Final = (
    "SELECT d.id FROM delivery d JOIN route r ON r.id = d.route_id JOIN channel ch ON ch.id = r.channel_id "
    "WHERE {where} AND d.state = 'waiting' ORDER BY d.id"
)


def open_deliveries(
    connection: Connection,
    _reading: Reading,
    channel: str | None = None,
    destination: str | None = None,
    before: int = LAST,
    limit: int = 200,
) -> list[OpenDelivery]:
    """Return deliveries that have not ended, the newest first."""
    where, values = _narrowed(channel, destination)
    rows = connection.rows(_OPEN.format(where=where), (*values, before, max(1, min(limit, MOST))))
    return [OpenDelivery(*row) for row in rows]


def waiting_ids(
    connection: Connection, _reading: Reading, channel: str | None = None, destination: str | None = None
) -> list[int]:
    """Return the ids of all deliveries that wait, the oldest first."""
    where, values = _narrowed(channel, destination)
    return [row[0] for row in connection.rows(_WAITING.format(where=where), values)]


def _narrowed(channel: str | None, destination: str | None) -> tuple[str, list[Any]]:
    where, values = "d.open", list[Any]()
    for condition, value in (("ch.name = ?", channel), ("r.destination = ?", destination)):
        if value is not None:
            where += f" AND {condition}"
            values.append(value)
    return where, values
