"""This module writes what one channel passes on to another: the message there and the end of the delivery here."""

from collections.abc import Sequence

from broker.crash import crash_point
from broker.keys import Keys
from broker.passing import named_after
from broker.seal import Sealer
from broker.sql import Connection
from broker.units import NewMessage, Passed
from broker.writes import Counts, accept, record

Accepted = tuple[int, bool, bool]  # see `broker.writes.accept`


def pass_on(
    connection: Connection, sealer: Sealer, keys: Keys, units: Sequence[Passed], counts: Counts
) -> tuple[list[Accepted], list[NewMessage], frozenset[int]]:
    """Insert messages as `accept` does, and end the deliveries that they were, as `record` does.

    Returns what `broker.units.Accepted` says of each, those that were inserted, and the routes that have work due.
    """
    accepted, fresh = accept(connection, sealer, keys, [unit.message for unit in units], counts)
    crash_point("pass.accepted")
    ended = [named_after(unit.recorded, found[0]) for unit, found in zip(units, accepted, strict=True)]
    return accepted, fresh, record(connection, sealer, ended, counts)
