"""This module answers what about a patient left for whom, from the attempts that the store keeps; no body is opened."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from broker.delivery import Via
from broker.ids import DELIVERIES
from broker.keys import find
from broker.queries import Reading
from broker.sql import Connection, Row

_ALL: Final = 1 << 31  # an accounting that leaves something out is none


@dataclass(frozen=True, slots=True)
class Disclosed:
    """One attempt with which a delivery left, or may have left; ``content`` is what the channel's file said then.

    ``outcome`` is that of the attempt, or ``sending`` for one that is on the wire now.
    """

    started_at: float
    message_id: int
    delivery_id: int
    channel: str
    destination: str
    type: str
    attempt: int
    outcome: str
    via: Via | None
    content: str | None


# What the other side surely has not taken on (retry) did not leave, unless somebody was reached: then it was read.
_ATTEMPTS: Final = (
    "WITH v(id) AS ({v}) SELECT a.started_at, v.id, d.id, ch.name, r.destination, m.type, a.number, a.outcome, "  # noqa: S608 - text of this module only
    "x.address, x.tls, x.subject, x.sha256, re.content "
    f"FROM v JOIN message m ON m.id = v.id JOIN delivery d ON d.id > v.id AND d.id <= v.id + {DELIVERIES} "
    "JOIN attempt a ON a.delivery_id = d.id JOIN route r ON r.id = d.route_id JOIN channel ch ON ch.id = r.channel_id "
    "LEFT JOIN via x ON x.id = a.via_id LEFT JOIN revision re ON re.id = m.revision_id "
    "WHERE a.outcome <> 'retry' OR a.via_id IS NOT NULL"
)
# Two kinds of attempts have no row: one that is on the wire, and one that delivered at once with nothing to tell.
_WITHOUT_ROW: Final = (
    "WITH v(id) AS ({v}) SELECT d.sent_at, v.id, d.id, ch.name, r.destination, m.type, d.attempts, d.state, "  # noqa: S608 - text of this module only
    "NULL, NULL, NULL, NULL, re.content "
    f"FROM v JOIN message m ON m.id = v.id JOIN delivery d ON d.id > v.id AND d.id <= v.id + {DELIVERIES} "
    "JOIN route r ON r.id = d.route_id JOIN channel ch ON ch.id = r.channel_id "
    "LEFT JOIN revision re ON re.id = m.revision_id WHERE d.state IN ('sending', 'delivered') "
    "AND NOT EXISTS (SELECT 1 FROM attempt a WHERE a.delivery_id = d.id AND a.number = d.attempts)"
)


def disclosed(
    connection: Connection, reading: Reading, index: str, value: str, since: float = 0.0
) -> Sequence[Disclosed]:
    """Return what left about the messages whose index has this value, the oldest first; ``since`` in POSIX seconds."""
    channels = [row[0] for row in connection.rows("SELECT name FROM channel")]
    hashes = {reading.search_hash(channel, index, value) for channel in channels}
    messages = [(identifier,) for identifier in find(connection, hashes, _ALL)]
    rows = connection.bulk(_ATTEMPTS, "bigint", messages) + connection.bulk(_WITHOUT_ROW, "bigint", messages)
    return [_disclosed(row) for row in sorted(rows, key=lambda row: (row[0], row[2])) if row[0] >= since]


def _disclosed(row: Row) -> Disclosed:
    via = Via(*row[8:12]) if row[8] is not None else None
    return Disclosed(*(*row[:8], via, row[12]))
