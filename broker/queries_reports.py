"""This module finds what other sides reported of deliveries."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from broker.sql import Connection

if TYPE_CHECKING:
    from broker.queries import Reading


@dataclass(frozen=True, slots=True)
class ReportRow:
    """One report of a delivery; ``code`` is the other side's for the reason."""

    state: str
    code: str
    reported_at: float


_DETAILS: Final = (
    "SELECT delivery_id, detail FROM attempt WHERE delivery_id > ? AND delivery_id <= ? AND outcome = 'delivered' "
    "AND detail IS NOT NULL"
)
_REPORTS: Final = (
    "WITH v(reference) AS ({v}) SELECT v.reference, r.state, r.code, r.at FROM v "
    "JOIN report r ON r.reference = v.reference",
    "bigint",
)


def reference_hash(reading: "Reading", reference: str) -> int:
    """Return the keyed hash by which the reports of a reference are found."""
    return reading.search_hash("", "report", reference)


def references(connection: Connection, reading: "Reading", first: int, last: int) -> dict[int, list[str]]:
    """Return what the other sides call deliveries with ids above ``first`` up to ``last``.

    There are several names where what was delivered went in parts.
    """
    return {
        delivery: reading.open("attempt", delivery, bytes(detail)).partition(b"\n\n")[0].decode().split(" ")
        for delivery, detail in connection.rows(_DETAILS, (first, last))
    }


def reports(
    connection: Connection, reading: "Reading", named: Mapping[int, Iterable[str]]
) -> dict[int, tuple[ReportRow, ...]]:
    """Return what was reported of deliveries by what the other sides call them, the earliest first."""
    owners = {reference_hash(reading, name): delivery for delivery, names in named.items() for name in names}
    found: dict[int, list[ReportRow]] = {}
    for reference, state, code, at in connection.bulk(*_REPORTS, [(one,) for one in owners]):
        found.setdefault(owners[reference], []).append(ReportRow(state, code, at))
    return {delivery: tuple(sorted(rows, key=_in_order)) for delivery, rows in found.items()}


def _in_order(row: ReportRow) -> tuple[bool, float]:
    """Return what to sort by: that a text was sent comes before what became of it, however late that was told."""
    return row.state != "sent", row.reported_at
