"""This module keeps what other sides report later of deliveries that they took.

A report is found by the keyed hash of its reference, not by its delivery: it may come before the attempt that it is
about has been recorded.
"""

from collections.abc import Sequence
from typing import Final

from broker.delivery import Report
from broker.queries_reports import reference_hash
from broker.seal import Sealer
from broker.sql import Connection

_REPORT: Final = (
    "INSERT INTO report (reference, state, code, at) {v} ON CONFLICT DO NOTHING",
    "bigint text text double",
)


def note_reports(connection: Connection, sealer: Sealer, reports: Sequence[Report]) -> None:
    """Keep reports; one that says what an earlier one said changes nothing."""
    rows = {(reference_hash(sealer, one.reference), one.state): (one.code, one.at) for one in reversed(reports)}
    connection.bulk(*_REPORT, [(*key, *said) for key, said in rows.items()])
