"""This module writes what a batch made of its records: one statement per table, whatever the size of the batch."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from broker.sql import Connection
from dispatch.patients.records import Details, Record, Visit
from dispatch.patients.said import LISTS, SCALARS, VISIT_FIELDS, Key, Sender


def _types(names: Sequence[str]) -> str:
    return " ".join("boolean" if name == "deceased" else "text" for name in names)


_APPLIED: Final = ("INSERT INTO applied (delivery_id, patient_id, at) {v}", "bigint bigint double")
_EVENT: Final = (
    "INSERT INTO patient_event (patient_id, delivery_id, source_id, kind, occurred_at, recorded_at, late, changed) {v}",
    "bigint bigint integer text text double boolean text",
)
_EVENT_AND_APPLIED: Final = (
    "WITH v(patient_id, delivery_id, source_id, kind, occurred_at, recorded_at, late, changed) AS ({v}), "
    "a AS (INSERT INTO applied (delivery_id, patient_id, at) SELECT delivery_id, patient_id, recorded_at FROM v) "
    "INSERT INTO patient_event (patient_id, delivery_id, source_id, kind, occurred_at, recorded_at, late, changed) "
    "SELECT * FROM v",
    _EVENT[1],
)
_TOUCH: Final = (
    "WITH v(id, digest, as_of, encounter_id) AS ({v}) UPDATE patient SET digest = v.digest, as_of = v.as_of, "
    "encounter_id = v.encounter_id FROM v WHERE patient.id = v.id",
    "bigint text text bigint",
)
_LATER: Final = (  # the same again at a later time, as most are
    "WITH v(id, as_of) AS ({v}) UPDATE patient SET as_of = v.as_of FROM v WHERE patient.id = v.id",
    "bigint text",
)
_CHANGE: Final = (
    f"WITH v(id, digest, as_of, encounter_id, at, changes, delivery_id, source_id, {', '.join(SCALARS)}) AS ({{v}}) "  # noqa: S608
    "UPDATE patient SET digest = v.digest, as_of = v.as_of, encounter_id = v.encounter_id, "
    "version = version + v.changes, updated_at = v.at, delivery_id = v.delivery_id, source_id = v.source_id, "
    f"{', '.join(f'{name} = v.{name}' for name in SCALARS)} FROM v WHERE patient.id = v.id",
    f"bigint text text bigint double integer bigint integer {_types(SCALARS)}",
)
_NEW_VISIT: Final = (
    f"INSERT INTO encounter (patient_id, value, system, digest, as_of, updated_at, delivery_id, "
    f"{', '.join(VISIT_FIELDS)}) {{v}} RETURNING id, patient_id, value, system",
    f"bigint text text text text double bigint {_types(VISIT_FIELDS)}",
)
_VISIT: Final = (
    f"WITH v(id, digest, as_of, at, delivery_id, {', '.join(VISIT_FIELDS)}) AS ({{v}}) UPDATE encounter SET "  # noqa: S608
    "digest = v.digest, as_of = v.as_of, updated_at = v.at, delivery_id = v.delivery_id, "
    f"{', '.join(f'{name} = v.{name}' for name in VISIT_FIELDS)} FROM v WHERE encounter.id = v.id",
    f"bigint text text double bigint {_types(VISIT_FIELDS)}",
)
_VISIT_AS_OF: Final = (
    "WITH v(id, as_of) AS ({v}) UPDATE encounter SET as_of = v.as_of FROM v WHERE encounter.id = v.id",
    "bigint text",
)
_TABLES: Final = {
    "names": ("patient_name", "family, given, prefix, suffix, use"),
    "telecom": ("patient_telecom", "system, value, use"),
    "addresses": ("patient_address", "lines, city, district, state, postal_code, country, use"),
}
_LOSE_IDENTIFIERS: Final = ("DELETE FROM patient_identifier WHERE patient_id IN ({v})", "bigint")
_IDENTIFIER: Final = (
    "INSERT INTO patient_identifier (patient_id, value, system, type, delivery_id) {v} ON CONFLICT DO NOTHING",
    "bigint text text text bigint",
)
_SOURCE: Final = (
    "INSERT INTO patient_source (channel, application, facility) {v} ON CONFLICT DO NOTHING",
    "text text text",
)
_SOURCES: Final = (
    "WITH v(channel, application, facility) AS ({v}) SELECT s.application, s.facility, s.id FROM v "
    "JOIN patient_source s ON s.channel = v.channel AND s.application = v.application AND s.facility = v.facility",
    "text text text",
)
_FORGET: Final = ("DELETE FROM patient WHERE id IN ({v})", "bigint")
_RETIRE: Final = (
    "UPDATE patient SET survivor_id = ?, version = version + 1, updated_at = ?, delivery_id = ?, source_id = ? "
    "WHERE id = ? OR survivor_id = ?"
)

# patient, delivery, source, kind, occurred at, recorded at, late, names of changed fields
EventRow = tuple[int, int, int, str, str | None, float, bool, str | None]


def write_records(connection: Connection, records: Iterable[Record], now: float) -> None:
    """Write what changed in the records; writes nothing for a record that stayed as it was."""
    moved = [record for record in records if record.is_later or record.touched or record.visits_touched]
    if not moved:
        return
    _write_visits(connection, moved, now)  # first, because the patient names its last one by its id
    changed = [record for record in moved if record.changes]
    if changed:
        _write_changes(connection, changed, now)
    same = [record for record in moved if not record.changes]
    connection.bulk(*_TOUCH, [_touched(record) for record in same if record.touched])
    connection.bulk(*_LATER, [(record.id, record.as_of) for record in same if record.is_later and not record.touched])


def _touched(record: Record) -> tuple[Any, ...]:
    return (record.id, record.digest, record.as_of, record.visit.id if record.visit is not None else None)


def _write_changes(connection: Connection, changed: Sequence[Record], now: float) -> None:
    details = {record.id: record.details or Details() for record in changed}
    connection.bulk(
        *_CHANGE,
        [
            (
                *_touched(r),
                now,
                r.changes,
                r.delivery_id,
                r.source_id,
                *(details[r.id].scalars.get(name) for name in SCALARS),
            )
            for r in changed
        ],
    )
    for name in LISTS:
        _write_list(connection, name, {one: told for one, told in details.items() if name in told.replaced})
    connection.bulk(*_LOSE_IDENTIFIERS, [(one,) for one, told in details.items() if told.lost_identifiers])
    connection.bulk(
        *_IDENTIFIER, [(one, *row, delivery) for one, told in details.items() for row, delivery in told.added.items()]
    )


def _write_list(connection: Connection, name: str, details: Mapping[int, Details]) -> None:
    table, columns = _TABLES[name]
    connection.bulk(f"DELETE FROM {table} WHERE patient_id IN ({{v}})", "bigint", [(one,) for one in details])  # noqa: S608
    rows = [(one, position, *row) for one, told in details.items() for position, row in enumerate(told.lists[name])]
    types = "bigint integer" + " text" * (columns.count(",") + 1)
    connection.bulk(f"INSERT INTO {table} (patient_id, position, {columns}) {{v}}", types, rows)


def _write_visits(connection: Connection, records: Sequence[Record], now: float) -> None:
    touched = [(record, visit) for record in records for visit in record.visits.values() if visit.touched]
    if not touched:
        return
    known = [visit for _record, visit in touched if visit.id is not None]
    new = {(record.id, *visit.key): visit for record, visit in touched if visit.id is None}
    # Ids grow in the order in which visits were heard of, as one by one: of two with one number the older counts.
    new = dict(sorted(new.items(), key=lambda item: item[1].first))
    rows = [(*key, v.digest, v.as_of, now, v.delivery_id, *_fields(v)) for key, v in new.items()]
    for visit_id, *key in connection.bulk(*_NEW_VISIT, rows):
        new[key[0], key[1], key[2]].id = visit_id
    connection.bulk(
        *_VISIT, [(v.id, v.digest, v.as_of, now, v.delivery_id, *_fields(v)) for v in known if v.delivery_id]
    )
    connection.bulk(*_VISIT_AS_OF, [(visit.id, visit.as_of) for visit in known if not visit.delivery_id])


def _fields(visit: Visit) -> list[Any]:
    return [visit.fields[name] for name in VISIT_FIELDS]


def write_events(connection: Connection, rows: Sequence[EventRow]) -> None:
    """Append rows to the timeline, in order, and mark their deliveries as applied."""
    if connection.dialect == "postgresql":
        connection.bulk(*_EVENT_AND_APPLIED, rows)
        return
    connection.bulk(*_EVENT, rows)
    connection.bulk(*_APPLIED, [(row[1], row[0], row[5]) for row in rows])


def forget(connection: Connection, patients: set[int]) -> None:
    """Take back patients that this transaction made, and that nothing was said of after all."""
    connection.bulk(*_FORGET, [(patient,) for patient in patients])


def add_identifiers(connection: Connection, patient: int, rows: Iterable[Key], delivery_id: int) -> None:
    """Give a patient identifiers that are not there yet."""
    connection.bulk(*_IDENTIFIER, [(patient, *row, delivery_id) for row in rows])


def retire(connection: Connection, retired: int, survivor: int, now: float, provenance: tuple[int, int]) -> None:
    """Let a patient, and those merged into it before, resolve to the survivor; ``provenance``: delivery and source."""
    connection.run(_RETIRE, (survivor, now, *provenance, retired, retired))


def source_ids(connection: Connection, channel: str, senders: set[Sender]) -> dict[Sender, int]:
    """Return the ids of a channel's senders, making those that were never heard of."""
    wanted = [(channel, *sender) for sender in sorted(senders)]
    found = {(row[0], row[1]): row[2] for row in connection.bulk(*_SOURCES, wanted)}
    missing = [row for row in wanted if row[1:] not in found]
    if missing:
        connection.bulk(*_SOURCE, missing)
        found |= {(row[0], row[1]): row[2] for row in connection.bulk(*_SOURCES, missing)}
    return found
